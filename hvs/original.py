"""Checkpoints of the original implementation (PyTorch Lightning files), read without Lightning and running nothing.

torch's restricted unpickler reads the file. Classes and functions that it does not know become one inert placeholder,
so nothing that the file names is imported or called, and only tensors and plain values come through.
"""

import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .geometry import skeletons
from .models import ModelSettings

# What a name of the original's network starts with, and what takes that part's place here; the first match counts.
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
# What the name of an entry of one decoder layer ends with.
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


class _Placeholder:
    """Stands in for every class and function of a file that torch's restricted unpickler does not know."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "_Placeholder":
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def is_lightning(path: Path) -> bool:
    """Whether a file is what ``torch.save`` writes; the project's own files are not."""
    return zipfile.is_zipfile(path)


def read_lightning(path: Path) -> tuple[ModelSettings, dict[str, Tensor]]:
    """The settings, and the network's state under this project's names, of a checkpoint of the original.

    Entries of the metrics and of the discriminator are left out.

    Raises:
        ValueError: the file cannot be read, or is not a checkpoint of the whole model.
    """
    try:
        unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        with torch.serialization.safe_globals([(_Placeholder, name) for name in unknown]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    # A damaged file can fail anywhere in the unpickler, with any error.
    except Exception as error:
        reason = str(error).partition("\n")[0] or repr(error)
        raise ValueError(f"not a readable PyTorch file ({reason:.200})") from error
    for key in ("hyper_parameters", "state_dict"):
        if not isinstance(content, dict) or not isinstance(content.get(key), dict):
            raise ValueError(f"not a Lightning checkpoint: it has no {key}")
    state = content["state_dict"]
    network = {
        rename(name.removeprefix("model.")): value.float() if value.is_floating_point() else value
        for name, value in state.items()
        if isinstance(name, str) and isinstance(value, Tensor) and name.startswith("model.")
    }
    return _settings(content["hyper_parameters"]), network


def rename(name: str) -> str:
    """The name here of an entry of the original's network; a name that is not known comes back as it is."""
    for pattern, replacement in _PREFIXES:
        renamed, count = re.subn(f"^{pattern}", replacement, name)
        if count:
            name = renamed
            break
    for pattern, replacement in _SUFFIXES if name.startswith("decoder.") else []:
        name = re.sub(pattern, replacement, name)
    return name


def _settings(hyper: dict[str, Any]) -> ModelSettings:
    missing = [name for name in (*_SETTINGS, "joints") if name not in hyper]
    if missing:
        raise ValueError(f"not a checkpoint of the whole model: its hyper-parameters have no {', '.join(missing)}")
    joints = len(hyper["joints"]) if isinstance(hyper["joints"], dict | list | tuple) else 0
    names = [skeleton.name for skeleton in skeletons.BY_NAME.values() if len(skeleton.joints) == joints]
    if not names:
        raise ValueError(f"joints: got {joints} of them, wanted those of {' or '.join(skeletons.BY_NAME)}")
    try:
        settings = ModelSettings(skeleton=names[0], resize="original", **{name: hyper[name] for name in _SETTINGS})
    except TypeError as error:
        raise ValueError(f"hyper-parameters of the wrong type: {error}") from error
    return settings
