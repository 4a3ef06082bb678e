"""Parts of a model that start from weights in separate files: the lifter, and the encoder from ImageNet weights."""

from pathlib import Path
from typing import Any

from torch import Tensor

from .checkpoint import CheckpointError, check_entries, read_contents
from .config import SynthesisSettings
from .data.torch_files import is_torch_file, read_torch_file
from .models import AppearanceEncoder, HumanViewSynthesis
from .original import joint_names, lifter_prefixes, rename


def load_weights(model: HumanViewSynthesis, settings: SynthesisSettings) -> None:
    """Start the parts of a model for which the settings name files.

    Raises:
        CheckpointError: as :func:`load_lifter` and :func:`load_imagenet`.
    """
    if settings.lifter_weights:
        load_lifter(model, settings.lifter_weights)
    if settings.encoder_weights:
        load_imagenet(model.encoder, settings.encoder_weights)


def load_lifter(model: HumanViewSynthesis, path: str | Path) -> None:
    """Start a model's lifter from the one in a file.

    Args:
        model: its skeleton and width must be the file's.
        path: a checkpoint of this project or of the original, or of the original's first stage, which has only a
            lifter. In the original's files the lifter is found by its layers, whatever the prefix of their names.

    Raises:
        CheckpointError: the file is unreadable, has no lifter or several, or one for other joints or of another width.
    """
    path = _file(path)
    joints, state = _lifter_of_original(path) if is_torch_file(path) else _lifter_of_own(path)
    wanted = model.lifter.state_dict()
    stem = state.get("stem.0.weight")
    if isinstance(stem, Tensor) and stem.ndim == 2 and stem.shape != wanted["stem.0.weight"].shape:
        ours = f"{len(model.skeleton.joints)} joints and width {model.settings.d_embedding}"
        raise CheckpointError(
            f"{path}: a lifter of {stem.shape[1] // 3} joints and width {len(stem)}, but the model's is of {ours}; "
            "see --model.skeleton and --model.d-embedding"
        )
    if joints is not None and joints != model.skeleton.joints:
        raise CheckpointError(f"{path}: a lifter of other joints than the model's, or in another order")
    check_entries(path, state, wanted)
    model.lifter.load_state_dict(state)


def load_imagenet(encoder: AppearanceEncoder, path: str | Path) -> None:
    """Start an encoder from ImageNet weights; the last layer, which does not predict classes, stays as it is.

    Args:
        encoder: its depth must be the file's.
        path: a state dict with torchvision's names, bare or as training scripts wrap it ("state_dict", "module."), such
            as ``ImageNet-ResNet50-GN.pth`` of release v0.1 of github.com/ppwwyyxx/GroupNorm-reproduce.

    Raises:
        CheckpointError: the file cannot be read, or does not hold the weights of this network; faults are named.
    """
    path = _file(path)
    state = {name.removeprefix("module."): value for name, value in _state(_read(path)).items()}
    wanted = encoder.backbone.state_dict()
    head = {name: value for name, value in wanted.items() if name.startswith("fc.")}
    rest = {name: value for name, value in state.items() if name not in head}
    check_entries(path, rest, {name: value for name, value in wanted.items() if name not in head})
    encoder.backbone.load_state_dict(rest | head)


def _lifter_of_own(path: Path) -> tuple[tuple[str, ...], dict[str, Any]]:
    contents = read_contents(path)
    return contents.settings.make_skeleton().joints, _without("lifter.", contents.state)


def _lifter_of_original(path: Path) -> tuple[tuple[str, ...] | None, dict[str, Any]]:
    content = _read(path)
    state = _state(content)
    prefixes = lifter_prefixes(state)
    if len(prefixes) != 1:
        found = f"several lifters ({', '.join(prefixes)})" if prefixes else "no lifter"
        raise CheckpointError(f"{path}: has {found}, wanted the entries of one (layers.0.linear.weight, ...)")
    layers = _without(f"{prefixes[0]}layers.", state)
    renamed = {rename(f"p2p.layers.{name}"): value for name, value in layers.items()}
    hyper = content.get("hyper_parameters")
    try:
        joints = joint_names(hyper["joints"]) if isinstance(hyper, dict) and "joints" in hyper else None
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    return joints, {name.removeprefix("lifter."): value for name, value in renamed.items()}


def _file(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_torch_file(path, lenient=True)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, wanted a dict of weights")
    return content


def _state(content: dict[str, Any]) -> dict[str, Any]:
    state = content.get("state_dict", content)
    return {str(name): value for name, value in state.items()} if isinstance(state, dict) else {}


def _without(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
