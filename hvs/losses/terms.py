"""The terms of each named image loss, and their weights (Rochette et al. 2021)."""

from typing import Literal, get_args

ImageLoss = Literal["pixel", "vgg", "lpips", "adversarial", "adaptive"]

# In the adversarial losses, matching the discriminator's own features takes the place of a classifier's features.
# "adaptive" is "adversarial" with augmentation, which changes what the discriminator sees but not what is minimised.
TERMS: dict[ImageLoss, tuple[str, ...]] = {
    "pixel": ("pixel",),
    "vgg": ("pixel", "vgg"),
    "lpips": ("pixel", "lpips"),
    "adversarial": ("pixel", "matching", "adversarial"),
    "adaptive": ("pixel", "matching", "adversarial"),
}
# Terms that need the weights of a classifier; without them they are left out.
CLASSIFIERS = ("vgg", "lpips")
assert set(TERMS) == set(get_args(ImageLoss))

WEIGHTS = {
    "pixel": 10.0,
    "vgg": 10.0,
    "lpips": 10.0,
    "matching": 10.0,
    "adversarial": 1.0,
    "appearance": 1e-3,
    "pose": 1.0,
    # The discriminator's own.
    "discriminator": 1.0,
    "r1": 1.0,
}
