"""Checkpoints: safetensors, with the model's settings as JSON in the header.

Files of the original implementation are read too, see ``original.py``. ``python -m hvs.checkpoint`` has two commands,
see ``checkpoint_commands.py``.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .data.torch_files import is_torch_file
from .models import Discriminator, HumanViewSynthesis, ModelSettings
from .original import Contents, map_discriminator, read_lightning
from .runtime import write_atomically

FORMAT = "hvs"
# Version 2 has a skeleton of its own or a discriminator, which older readers would take for faults; other files are
# still written as version 1.
VERSIONS = (1, 2)
DISCRIMINATOR = "discriminator."
# Files are loaded there, whatever device a program makes its tensors on.
CPU = torch.device("cpu")
# Entries to name for each kind of fault; a file of something else entirely may have any number.
MAX_NAMED = 1000


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or does not fit; the message is one line that names the file."""

    def __init__(self, message: str) -> None:
        # Text from the file may be part of it.
        line = " ".join(str(message).split())
        super().__init__("".join(letter if letter.isprintable() else "?" for letter in line))


def save_model(
    path: str | Path,
    model: HumanViewSynthesis,
    extra: dict[str, Any] | None = None,
    discriminator: Discriminator | None = None,
) -> None:
    """Write a model's weights and settings; the file is written whole or not at all.

    Args:
        path: by convention ends in .safetensors.
        model: unwrapped (neither compiled nor distributed).
        extra: anything JSON can hold, for :func:`read_extra`.
        discriminator: that of an adversarial training, for :func:`load_discriminator`.

    Raises:
        OSError: the file cannot be written; an earlier one is kept.
        ValueError: the model or the discriminator is wrapped or changed, so that the file could not be loaded; or
            ``extra`` is not a dict.
    """
    path = Path(path)
    if not isinstance(extra or {}, dict):
        raise ValueError(f"extra: got {type(extra).__name__}, wanted a dict")
    _require_unwrapped("model", model, HumanViewSynthesis)
    settings = model.settings
    state = _whole_state("model", model, _empty_state(settings))
    if discriminator is not None:
        _require_unwrapped("discriminator", discriminator, Discriminator)
        with torch.device("meta"):
            wanted = Discriminator().state_dict()
        found = _whole_state("discriminator", discriminator, wanted)
        state |= {DISCRIMINATOR + name: value for name, value in found.items()}
    newer = discriminator is not None or settings.joints is not None or settings.limbs is not None
    metadata = {
        "format": FORMAT,
        "version": str(VERSIONS[newer]),
        "settings": settings.to_json(),
        "extra": json.dumps(extra or {}),
    }
    state = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    # Each with memory of its own, also where parts of a model share some.
    taken: set[int] = set()
    for name, value in state.items():
        place = value.untyped_storage().data_ptr()
        state[name] = value.clone() if place in taken else value
        taken.add(place)

    def write(temporary: Path) -> None:
        try:
            save_file(state, temporary, metadata)
        except SafetensorError as error:
            # Of a full disk; the file is named outside.
            raise OSError(_line(error)) from error

    write_atomically(path, write)


def _require_unwrapped(name: str, module: torch.nn.Module, kind: type) -> None:
    if not isinstance(module, kind):
        wanted = f"{kind.__name__} as it was made, neither compiled nor distributed"
        raise ValueError(f"{name}: got {type(module).__name__}, wanted {wanted}")


def _whole_state(name: str, module: torch.nn.Module, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """The entries of a module, which must be the wanted ones."""
    state = dict(module.state_dict())
    shapes, others = ({key: value.shape for key, value in entries.items()} for entries in (state, wanted))
    if faults := [key for key in (*shapes, *others) if shapes.get(key) != others.get(key)]:
        more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise ValueError(
            f"{name}: got other entries than its settings describe ({faults[0]}{more}), "
            "wanted it as it was made, neither compiled nor distributed"
        )
    return state


def load(path: str | Path) -> HumanViewSynthesis:
    """The model in a checkpoint of this project or of the original, on the CPU and in evaluation mode.

    Args:
        path: a .safetensors of this project, or a Lightning file of the original.

    Raises:
        CheckpointError: the file is missing, unreadable, truncated, of an unknown version, or its entries are not the
            model's; the message names them.
    """
    with CPU:
        return build_model(path, read_contents(path))


def build_model(path: str | Path, contents: Contents) -> HumanViewSynthesis:
    """As :func:`load`, from contents that were read from ``path``."""
    try:
        # Without memory first: settings must not allocate more than the file's entries hold.
        wanted = _empty_state(contents.settings)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{path}: invalid settings ({_line(error)})") from error
    check_entries(path, contents.state, wanted)
    model = HumanViewSynthesis(contents.settings)
    model.load_state_dict(contents.state)
    return model.eval()


def _empty_state(settings: ModelSettings) -> dict[str, Tensor]:
    """The entries of a model with these settings, without memory."""
    with torch.device("meta"):
        return HumanViewSynthesis(settings).state_dict()


def load_discriminator(path: str | Path) -> Discriminator | None:
    """The discriminator in a checkpoint of this project or of the original, on the CPU; None if there is none.

    Raises:
        CheckpointError: as :func:`load`, but for the discriminator's entries; or they are the original's and cannot be
            told apart.
    """
    with CPU:
        return build_discriminator(path, read_contents(path))


def build_discriminator(path: str | Path, contents: Contents) -> Discriminator | None:
    """As :func:`load_discriminator`, from contents that were read from ``path``."""
    if not contents.discriminator:
        return None
    state = contents.discriminator
    if contents.version is None:
        try:
            state = map_discriminator(state)
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from error
    discriminator = Discriminator()
    check_entries(path, state, discriminator.state_dict(), DISCRIMINATOR)
    discriminator.load_state_dict(state)
    return discriminator


def read_extra(path: str | Path) -> dict[str, Any]:
    """What :func:`save_model` was given as ``extra``.

    For a file of the original: ``epoch``, ``global_step``, and the hyper-parameters that do not shape the model.

    Raises:
        CheckpointError: as :func:`load`, but for the entries.
    """
    with CPU:
        return read_contents(path).extra


def read_contents(path: str | Path) -> Contents:
    """All that a checkpoint of this project or of the original holds.

    Raises:
        CheckpointError: the file is missing, unreadable, truncated or of an unknown version.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: {'a folder, wanted a file' if path.is_dir() else 'no such file'}")
    try:
        return read_lightning(path) if is_torch_file(path) else _read_own(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a readable checkpoint ({_line(error)})") from error
    except (TypeError, ValueError, RuntimeError, OverflowError, OSError) as error:
        raise CheckpointError(f"{path}: {_line(error)}") from error


def _read_own(path: Path) -> Contents:
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise ValueError("a safetensors file, but not a checkpoint of this project")
        version = metadata.get("version")
        if version not in map(str, VERSIONS):
            wanted = " or ".join(map(str, VERSIONS))
            raise ValueError(f"version: got {version!s:.20}, wanted {wanted}; a newer release may read it")
        try:
            settings, extra = json.loads(metadata["settings"]), json.loads(metadata["extra"])
        except KeyError as error:
            raise ValueError(f"its header has no {error}") from error
        if type(extra) is not dict:
            raise ValueError("its extra is not a JSON object")
        settings = ModelSettings(**settings)
        entries = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    state = {name: value for name, value in entries.items() if not name.startswith(DISCRIMINATOR)}
    rest = {name.removeprefix(DISCRIMINATOR): value for name, value in entries.items() if name not in state}
    return Contents(settings, state, rest, extra, left_out=[], version=version)


def check_entries(path: str | Path, found: dict[str, Any], wanted: dict[str, Tensor], prefix: str = "") -> None:
    """Refuse entries that do not have the wanted names, shapes and types.

    Raises:
        CheckpointError: they do not; the message names them.
    """
    shared = [name for name in wanted if name in found]
    tensors = [name for name in shared if isinstance(found[name], Tensor)]
    faults = {
        "missing": [name for name in wanted if name not in found],
        "unexpected": [name for name in found if name not in wanted],
        "not a tensor": [name for name in shared if name not in tensors],
        "wrong shape": [
            f"{name}: got {tuple(found[name].shape)}, wanted {tuple(wanted[name].shape)}"
            for name in tensors
            if found[name].shape != wanted[name].shape
        ],
        "wrong type": [
            f"{name}: got {found[name].dtype}, wanted {wanted[name].dtype}"
            for name in tensors
            if found[name].is_floating_point() != wanted[name].is_floating_point()
        ],
    }
    listed = [f"{fault} {_listed(prefix + name for name in names)}" for fault, names in faults.items() if names]
    if listed:
        raise CheckpointError(f"{path}: {'; '.join(listed)}")


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = [f"and {len(names) - MAX_NAMED} more"] if len(names) > MAX_NAMED else []
    return ", ".join(names[:MAX_NAMED] + more)


def _line(error: Exception) -> str:
    # Without the file that an OSError names too.
    return str(getattr(error, "strerror", None) or error).partition("\n")[0] or repr(error)


if __name__ == "__main__":
    # Imported again under its own name, so that its errors are the ones that the commands know.
    from hvs.checkpoint_commands import main

    main()
