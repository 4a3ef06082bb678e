"""Checkpoints: safetensors, with the model's settings as JSON in the header.

Files of the original implementation are read too, see ``original.py``.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .models import HumanViewSynthesis, ModelSettings
from .original import is_lightning, read_lightning
from .runtime import write_atomically

FORMAT = "hvs"
VERSION = 1


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or does not fit; one line that names the file."""


def save_model(path: str | Path, model: HumanViewSynthesis, extra: dict[str, Any] | None = None) -> None:
    """Write a model's weights and settings; the file is complete or not there at all.

    Args:
        path: ends in .safetensors by custom.
        model: unwrapped (neither compiled nor distributed).
        extra: anything JSON can hold, for :func:`read_extra`.
    """
    path = Path(path)
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "settings": json.dumps(asdict(model.settings)),
        "extra": json.dumps(extra or {}),
    }
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write_atomically(path, lambda temporary: save_file(state, temporary, metadata))


def load(path: str | Path) -> HumanViewSynthesis:
    """The model in a checkpoint of this project or of the original, on the CPU and in evaluation mode.

    Raises:
        CheckpointError: the file is missing, unreadable, truncated, of an unknown version, or its entries are not the
            model's; the message names them.
    """
    path = Path(path)
    settings, state, _ = _read(path)
    try:
        # Without memory first: settings that ask for more than the file's entries hold must not get it.
        with torch.device("meta"):
            wanted = HumanViewSynthesis(settings).state_dict()
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: settings that make no model ({_line(error)})") from error
    faults = _faults(state, wanted)
    if faults:
        raise CheckpointError(f"{path}: {'; '.join(faults)}")
    model = HumanViewSynthesis(settings)
    model.load_state_dict(state)
    return model.eval()


def read_extra(path: str | Path) -> dict[str, Any]:
    """What :func:`save_model` was given as ``extra``; empty for files of the original.

    Raises:
        CheckpointError: as :func:`load`, but for the entries.
    """
    return _read(Path(path))[2]


def _read(path: Path) -> tuple[ModelSettings, dict[str, Tensor], dict[str, Any]]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        if is_lightning(path):
            return *read_lightning(path), {}
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            _check_version(metadata)
            try:
                settings = ModelSettings(**json.loads(metadata["settings"]))
                extra = json.loads(metadata["extra"])
            except KeyError as error:
                raise ValueError(f"its header has no {error}") from error
            return settings, {name: file.get_tensor(name) for name in file.keys()}, extra  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a readable checkpoint ({_line(error)})") from error
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        raise CheckpointError(f"{path}: {_line(error)}") from error


def _check_version(metadata: dict[str, str]) -> None:
    if metadata.get("format") != FORMAT:
        raise ValueError("a safetensors file, but not a checkpoint of this project")
    if metadata.get("version") != str(VERSION):
        raise ValueError(f"version: got {metadata.get('version')}, wanted {VERSION}; a newer release may read it")


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0] or repr(error)


def _faults(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> list[str]:
    shapes = [
        f"{name}: got {tuple(found[name].shape)}, wanted {tuple(wanted[name].shape)}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    lists = {
        "missing": [name for name in wanted if name not in found],
        "unexpected": [name for name in found if name not in wanted],
        "wrong shape": shapes,
    }
    return [f"{fault} {', '.join(names)}" for fault, names in lists.items() if names]
