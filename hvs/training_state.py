"""What a training run needs to go on where it was stopped: one file, written atomically, read without running code."""

from pathlib import Path
from typing import Any

import torch

from .config import TrainSettings
from .runtime import UserError, write_atomically

FILE = "training.pt"


def save_state(settings: TrainSettings, stage: str, step: int, seconds: float, parts: dict[str, Any]) -> None:
    """Save after ``step`` steps of a stage and ``seconds`` of work in all.

    Args:
        parts: "model", and whatever else has a state: optimisers, averages; what is None is left out.
    """
    state = dict(
        stage=stage,
        step=step,
        seconds=seconds,
        model_settings=settings.model.to_json(),
        parts={name: part.state_dict() for name, part in parts.items() if part is not None},
        random=dict(
            cpu=torch.get_rng_state(),
            cuda=torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        ),
    )
    write_atomically(settings.run / FILE, lambda path: torch.save(state, path))


def load_state(settings: TrainSettings) -> dict[str, Any]:
    """The run folder's last state on the CPU; empty where there is none.

    Raises:
        UserError: the file is unreadable, or of another model.
    """
    file: Path = settings.run / FILE
    if not file.exists():
        return {}
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        same = state["model_settings"] == settings.model.to_json() and "model" in state["parts"]
    # A damaged file can fail anywhere in the unpickler, with any error.
    except Exception as error:
        raise UserError(f"{file}: not a readable training state ({type(error).__name__})") from error
    if not same:
        raise UserError(f"{file}: is of a model with other settings ({state['model_settings']}); use another --run")
    return state


def restore(state: dict[str, Any], parts: dict[str, Any]) -> int:
    """Bring parts and random numbers to where the state was saved; returns the number of steps done.

    Raises:
        UserError: the state lacks one of the parts, as it is of a training with other losses.
    """
    if not state:
        return 0
    for name, part in parts.items():
        if part is not None:
            if name not in state["parts"]:
                raise UserError(f"{FILE}: has no state of the {name}; it is of other settings, use another --run")
            part.load_state_dict(state["parts"][name])
    torch.set_rng_state(state["random"]["cpu"])
    if state["random"]["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["random"]["cuda"])
    return state["step"]
