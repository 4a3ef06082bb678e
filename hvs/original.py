"""Checkpoints of the original implementation (PyTorch Lightning files), read without Lightning; no code in them runs.

Classes and functions that a file names become one inert placeholder, so nothing in it is imported or called, and only
tensors and plain values come through.
"""

import math
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .data.torch_files import read_torch_file
from .data.unpickling import PLACEHOLDER, Placeholder, leaves
from .geometry import skeletons
from .models import Discriminator, ModelSettings

# Most numbers in a tensor that still counts as a parameter, not as data.
MAX_LISTED = 10_000

# Prefixes of names in the original's network, and what replaces them here; the first match counts.
_PREFIXES = [
    (r"p2p\.layers\.0\.linear\.", r"lifter.stem.0."),
    (r"p2p\.layers\.0\.norm\.", r"lifter.stem.1."),
    (r"p2p\.layers\.1\.layers\.(\d)\.linear\.", r"lifter.blocks.0.\1.0."),
    (r"p2p\.layers\.1\.layers\.(\d)\.norm\.", r"lifter.blocks.0.\1.1."),
    (r"p2p\.layers\.2\.layers\.(\d)\.linear\.", r"lifter.blocks.1.\1.0."),
    (r"p2p\.layers\.2\.layers\.(\d)\.norm\.", r"lifter.blocks.1.\1.1."),
    (r"p2p\.layers\.3\.", r"lifter.head."),
    (r"i2a\.layers\.0\.", r"encoder.backbone.conv1."),
    (r"i2a\.layers\.1\.", r"encoder.backbone.bn1."),
    (r"i2a\.layers\.4\.", r"encoder.backbone.layer1."),
    (r"i2a\.layers\.5\.", r"encoder.backbone.layer2."),
    (r"i2a\.layers\.6\.", r"encoder.backbone.layer3."),
    (r"i2a\.layers\.7\.", r"encoder.backbone.layer4."),
    (r"i2a\.layers\.10\.", r"encoder.backbone.fc."),
    (r"r2i\.in_block\.", r"decoder.stem."),
    (r"r2i\.down_blocks\.", r"decoder.down."),
    (r"r2i\.mid_blocks\.", r"decoder.middle."),
    (r"r2i\.up_blocks\.(\d)\.0\.", r"decoder.up.\1."),
    (r"r2i\.merge_blocks\.(\d)\.0\.", r"decoder.merge.\1."),
    (r"r2i\.outer_blocks\.", r"decoder.outer."),
    (r"r2i\.out_block\.0\.", r"decoder.to_rgb."),
]
# Suffixes of the names of a decoder layer's entries, and what replaces them.
_SUFFIXES = [
    (r"\bn\.ema\.average$", "moment.mean_square"),
    (r"\bn\.ema\.initialised$", "moment.initialised"),
    (r"\bc\.linear\.(weight|bias)$", r"style.\1"),
    (r"\bc\.(weight|bias)$", r"\1"),
]
_SETTINGS = (
    "d_embedding",
    "dropout",
    "input_resolution",
    "rendering_resolution",
    "target_resolution",
    "appearance_features",
    "base_channels",
)
# Every hyper-parameter other than these and those above is only reported.
_SKELETON = ("joints", "edges", "widths")
_LIFTER = ("layers.0.linear.weight", "layers.3.weight")


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds, of this project or of the original.

    Attributes:
        settings: settings of the model.
        state: the model's entries, under this project's names where they are known.
        discriminator: its entries, under the file's own names without prefix; empty if there is none.
        extra: everything else in the file that JSON can hold.
        left_out: names of all other entries.
        version: version of this project's format; None for a file of the original.
    """

    settings: ModelSettings
    state: dict[str, Any]
    discriminator: dict[str, Any]
    extra: dict[str, Any]
    left_out: list[str]
    version: str | None


def read_lightning(path: Path) -> Contents:
    """A checkpoint of the original's whole model.

    Raises:
        ValueError: the file cannot be read, or is not a checkpoint of the whole model; the message is one line, to
            follow the path.
    """
    content = read_content(path)
    hyper, entries = content["hyper_parameters"], content["state_dict"]
    missing = [name for name in (*_SETTINGS, "joints") if name not in hyper]
    if missing and lifter_prefixes(entries) and not any(re.match(r"model\.(i2a|r2i)\.", name) for name in entries):
        raise ValueError("only a lifter; train.py takes it as --synthesis.lifter-weights")
    if missing:
        raise ValueError(f"not a checkpoint of the whole model: its hyper-parameters have no {', '.join(missing)}")
    state, discriminator, left_out = {}, {}, []
    for name, value in entries.items():
        part = re.match(r"(?:.*\.)?discriminator\.(.*)", name)
        if part:
            discriminator[part[1]] = value
        elif name.startswith("model."):
            state[rename(name.removeprefix("model."))] = value
        else:
            left_out.append(name)
    return Contents(_settings(hyper), state, discriminator, plain_extra(content), left_out, version=None)


def read_content(path: Path) -> dict[str, Any]:
    """All of a Lightning file, with at least the dicts ``hyper_parameters`` and ``state_dict``.

    Raises:
        ValueError: as :func:`read_lightning`.
    """
    content = read_torch_file(path, lenient=True)
    if isinstance(content, dict) and {"stage", "step", "parts"} <= set(content):
        raise ValueError(
            "a training state, which --resume reads; wanted the run's model.safetensors or best.safetensors"
        )
    for key in ("hyper_parameters", "state_dict"):
        if not isinstance(content, dict) or not isinstance(content.get(key), dict):
            raise ValueError(f"not a Lightning checkpoint: it has no {key}")
    content["state_dict"] = {str(name): value for name, value in content["state_dict"].items()}
    try:
        for _ in leaves(content["hyper_parameters"]):
            pass
    except UnpicklingError as error:
        raise ValueError(f"not a readable PyTorch file ({error})") from error
    return content


def plain_extra(content: dict[str, Any]) -> dict[str, Any]:
    """The hyper-parameters that are not settings of the model, epoch and step, as JSON can hold them.

    Tensors and tuples become lists. Objects of unknown classes, and arrays too long for a parameter, are left out.
    """
    hyper = {key: value for key, value in content["hyper_parameters"].items() if key not in (*_SETTINGS, *_SKELETON)}
    counts = {key: content[key] for key in ("epoch", "global_step") if type(content.get(key)) is int}
    return _plain(hyper) | counts


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor | np.ndarray):
        return value.tolist() if math.prod(value.shape) <= MAX_LISTED else PLACEHOLDER
    if isinstance(value, dict):
        items = {str(key): _plain(item) for key, item in value.items() if not isinstance(key, Placeholder)}
        return {key: item for key, item in items.items() if item is not PLACEHOLDER}
    if isinstance(value, list | tuple):
        return [item for item in map(_plain, value) if item is not PLACEHOLDER]
    return value if value is None or type(value) in (bool, int, float, str) else PLACEHOLDER


def lifter_prefixes(state: dict[str, Any]) -> list[str]:
    """The prefix of a lifter's layers in a state dict of the original; one for each lifter that it has."""
    first, last = _LIFTER
    prefixes = [name.removesuffix(first) for name in state if name.endswith(first)]
    return [prefix for prefix in prefixes if prefix + last in state]


def rename(name: str) -> str:
    """This project's name for an entry of the original's network; an unknown name comes back as it is."""
    for pattern, replacement in _PREFIXES:
        renamed, count = re.subn(f"^{pattern}", replacement, name)
        if count:
            name = renamed
            break
    for pattern, replacement in _SUFFIXES if name.startswith("decoder.") else []:
        name = re.sub(pattern, replacement, name)
    return name


def map_discriminator(state: dict[str, Any]) -> dict[str, Any]:
    """The discriminator's entries under this project's names.

    The names of its layers are not published, so shapes tell which is which; two layers of the same shape are told
    apart by the one number in which their names differ.

    Raises:
        ValueError: they cannot be told apart, or entries are missing or left over; the message names them.
    """
    with torch.device("meta"):
        wanted = {name: tuple(value.shape) for name, value in Discriminator().state_dict().items()}
    layers: dict[tuple, list[str]] = defaultdict(list)
    found: dict[tuple, list[str]] = defaultdict(list)
    for name, shape in wanted.items():
        if name.endswith(".weight"):
            layers[shape].append(name.removesuffix("weight"))
    for name, value in state.items():
        if name.endswith(".weight") and isinstance(value, Tensor):
            found[tuple(value.shape)].append(name.removesuffix("weight"))
    stems: dict[str, str] = {}
    for shape, ours in layers.items():
        theirs = found[shape]
        if len(theirs) != len(ours):
            listed = f" ({', '.join(theirs)})" if theirs else ""
            raise ValueError(f"discriminator: {len(theirs)} layers{listed} of shape {shape}, wanted {len(ours)}")
        stems |= zip(_in_order(theirs), ours, strict=True)
    mapped = {stem + part: ours + part for stem, ours in stems.items() for part in ("weight", "bias")}
    strangers = [name for name in state if name not in mapped]
    if strangers:
        raise ValueError(f"discriminator: unexpected {', '.join(strangers)}")
    return {ours: state[name] for name, ours in mapped.items() if name in state}


def _in_order(names: list[str]) -> list[str]:
    if len(names) == 1:
        return names
    numbers = [re.findall(r"\d+", name) for name in names]
    alike = len({re.sub(r"\d+", "#", name) for name in names}) == 1
    differing = [column for column in zip(*numbers, strict=True) if len(set(column)) > 1] if alike else []
    if len(differing) != 1 or len(set(differing[0])) != len(names):
        raise ValueError(f"discriminator: layers of one shape that cannot be told apart: {', '.join(names)}")
    return [name for _, name in sorted(zip(map(int, differing[0]), names, strict=True))]


def _settings(hyper: dict[str, Any]) -> ModelSettings:
    try:
        chosen = {name: hyper[name] for name in _SETTINGS}
        return ModelSettings(**_skeleton(hyper), resize="original", **chosen)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"hyper-parameters of the wrong type: {error}") from error


def _skeleton(hyper: dict[str, Any]) -> dict[str, Any]:
    """The settings ``skeleton``, ``joints`` and ``limbs``; the last two only if they are not the published ones."""
    names = joint_names(hyper["joints"])
    shared = {skeleton: len(set(skeleton.joints) & set(names)) for skeleton in skeletons.BY_NAME.values()}
    same_length = [skeleton for skeleton in shared if len(skeleton.joints) == len(names)]
    published = same_length[0] if same_length else max(shared, key=shared.get)
    if not same_length and 2 * shared[published] < len(published.joints):
        raise ValueError(f"joints: got {len(names)} of them, wanted most of those of {' or '.join(skeletons.BY_NAME)}")
    edges = hyper.get("edges", published.edges)
    edges = [tuple(edge) for edge in (edges.tolist() if isinstance(edges, Tensor) else edges)]
    widths = _widths(hyper.get("widths", published.widths))
    if len(edges) != len(widths):
        raise ValueError(f"widths: got {len(widths)}, wanted one for each of {len(edges)} edges")
    same = edges == list(published.edges) and np.array_equal(np.float32(widths), np.float32(published.widths))
    return dict(
        skeleton=published.name,
        joints=None if names == published.joints else names,
        limbs=None if same else tuple((*edge, width) for edge, width in zip(edges, widths, strict=True)),
    )


def joint_names(joints: Any) -> tuple[str, ...]:
    """The names in the order of their indices, from the original's {name: index}."""
    if isinstance(joints, dict):
        if sorted(joints.values()) != list(range(len(joints))):
            raise ValueError(f"joints: got {len(joints)} names, but not the indices 0 to {len(joints) - 1}")
        joints = sorted(joints, key=joints.get)
    if not isinstance(joints, list | tuple) or any(type(name) is not str for name in joints):
        raise ValueError(f"joints: got {joints!r:.80}, wanted a dict of names and indices")
    return tuple(joints)


def _widths(widths: Any) -> list[float]:
    widths = torch.as_tensor(widths)
    if widths.dtype == torch.float32:
        # The shortest decimal number with the same float32: 0.045, not 0.04500000178813934.
        return [float(str(width)) for width in widths.flatten().numpy()]
    return widths.flatten().tolist()
