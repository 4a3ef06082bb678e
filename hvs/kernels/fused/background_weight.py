"""The background's weight, which takes the smallest variance and the deepest response of the whole image."""

import triton
import triton.language as tl

from .. import limits
from .geometry import LARGEST, PI, reciprocal

SMALLEST_VARIANCE = tl.constexpr(limits.SMALLEST_VARIANCE)
# A variance that exceeds a power of ten by no more than this factor counts as that power.
KAPPA_RATIO = tl.constexpr(10**limits.KAPPA_SLACK)
# Number of powers of ten from the smallest variance to the largest.
KAPPA_STEPS = tl.constexpr(24)
# Values of an image: the background's weight; its derivative with respect to the depth of the deepest response; that
# depth, -inf if no Gaussian is visible; and the weight that the background would have at depth zero.
IMAGE_VALUES = tl.constexpr(4)
WEIGHT, SLOPE, DEPTH, NEAREST = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2), tl.constexpr(3)
# The place of a response that was not found.
NOWHERE = tl.constexpr(0x7FFFFFFFFFFFFFFF)
FOUND_BLOCK = tl.constexpr(256)
# Blocks of Gaussians that are looked at together; most images have one.
FEW = tl.constexpr(32)


@triton.jit
def begin_image(image_values):
    """Nothing has been found yet."""
    tl.store(image_values + DEPTH, -float("inf"))


@triton.jit
def weight_at_zero(variance, alpha):
    """The background's weight at depth zero, where this is the smallest variance."""
    kappa = tl.full((), SMALLEST_VARIANCE, tl.float32)
    for _step in range(KAPPA_STEPS):
        kappa = tl.where(variance > kappa * KAPPA_RATIO, kappa * 10, kappa)
    return 0.5 * tl.sqrt(alpha * kappa * PI)


@triton.jit
def smallest_of(values, count):
    """The smallest of ``count`` numbers, of which there are few."""
    smallest = tl.full((FEW,), float("inf"), tl.float32)
    for start in range(0, count, FEW):
        i = start + tl.arange(0, FEW)
        smallest = tl.minimum(smallest, tl.load(values + i, i < count, float("inf")))
    return tl.min(smallest)


@triton.jit
def largest_of(values, count):
    """The largest of ``count`` numbers, of which there are few, and of zero."""
    largest = tl.zeros((FEW,), tl.float32)
    for start in range(0, count, FEW):
        i = start + tl.arange(0, FEW)
        largest = tl.maximum(largest, tl.load(values + i, i < count, 0.0))
    return tl.max(largest)


@triton.jit
def enter_response(image_values, depth, place):
    """Make a response the deepest one if it is."""
    # The largest of numbers is the same in any order, so the result is deterministic.
    tl.atomic_max(image_values + DEPTH, depth, place != NOWHERE, sem="relaxed")


@triton.jit
def falloff_of(scaled):
    """The share that the background's weight at depth zero keeps at another depth, which is given times β."""
    return reciprocal(1 + scaled * scaled * scaled * scaled)


@triton.jit
def load_weight(image_values, beta):
    """The background's weight, from depth and weight at depth zero, and its derivative with respect to the depth.

    If no Gaussian is visible, the background is at depth zero.
    """
    z = tl.load(image_values + DEPTH)
    z = tl.where(z < -LARGEST, 0.0, z)
    scaled = beta * z
    falloff = falloff_of(scaled)
    weight = tl.load(image_values + NEAREST) * falloff
    slope = -4 * beta * weight * falloff * scaled * scaled * scaled
    # Depths of responses are clamped.
    return weight, tl.where(tl.abs(z) < LARGEST, slope, 0.0)


@triton.jit
def deeper(depth, place, found, at):
    """The deeper of two responses, and its place; among equals, the lower place."""
    better = (found > depth) | ((found == depth) & (at < place))
    return tl.where(better, found, depth), tl.where(better, at, place)


@triton.jit
def place_of_deepest(depths, places, count):
    """The place of the deepest of ``count`` responses, the lowest among equals; -1 if there is none."""
    depth = -float("inf")
    place = tl.full((), NOWHERE, tl.int64)
    for start in range(0, count, FOUND_BLOCK):
        i = start + tl.arange(0, FOUND_BLOCK)
        found = tl.load(depths + i, i < count, -float("inf"))
        at = tl.load(places + i, i < count, NOWHERE)
        here = tl.max(found)
        depth, place = deeper(depth, place, here, tl.min(tl.where(found == here, at, NOWHERE)))
    return tl.where(place == NOWHERE, -1, place)
