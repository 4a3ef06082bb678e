"""One optimiser's steps: backward passes, clipping, and skipping steps where something is not finite.

Nothing here waits for the device except :meth:`Stepper.check`, which the loops call now and then.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ..distribute import everywhere, gather
from ..runtime import UserError

# If more than MOST_SKIPPED of the last REMEMBERED steps were skipped, training has gone wrong.
MOST_SKIPPED, REMEMBERED = 20, 1000
# What AdamW keeps for each parameter; with AMSGrad, the last one too.
MOMENTS = "step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"
# How many samples an error message names.
LISTED = 8
# An overflow at this scale or below counts as a fault, as lowering the scale further would not help.
LEAST_SCALE = 1.0


class Stepper:
    """Steps of an optimiser.

    A step with a loss or a gradient that is not finite is skipped: weights and moments stay as they are. This is
    decided on the device, by the mechanism that fused optimisers have for gradient scalers. All processes skip a step
    that was not finite in one of them.

    Args:
        name: of what is trained, for messages.
        optimizer: a fused one.
        clip_norm: largest norm of all gradients together.
        scaled: scale the loss for gradients in half precision; occasional steps that overflow are then to be expected.

    Attributes:
        skipped: number of steps skipped, as of the last check.
    """

    def __init__(
        self, name: str, optimizer: torch.optim.Optimizer, clip_norm: float = math.inf, scaled: bool = False
    ) -> None:
        self.name, self.optimizer, self.clip_norm = name, optimizer, clip_norm
        self.parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self.scaler = torch.amp.GradScaler(self.parameters[0].device.type, enabled=scaled)
        self.skipped = 0
        # Numbers of the last steps that were skipped, as of the last check.
        self._faults: list[int] = []
        # Since the last check: number of the step, names of its losses and of the gradient, names of its samples, which
        # losses were finite here, and which losses and gradient were finite in all processes.
        self._recent: list[tuple[int, list[str], list[str], Tensor, Tensor]] = []

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss (scalar) to the existing ones."""
        self.scaler.scale(loss).backward()

    def step(self, step: int, losses: dict[str, Tensor], samples: Iterable[str] = ()) -> None:
        """Step with the existing gradients, unless they or a loss are not finite, and clear them.

        Args:
            step: its number, for messages.
            losses: of the step, by name (scalars); if it has several passes, their sums.
            samples: names of the samples in it.
        """
        here = torch.stack([value.detach().isfinite() for value in losses.values()])
        finite = everywhere(here)
        scaled = self.scaler.is_enabled()
        if scaled:
            # The scaler skips steps whose gradients overflow, and looks at nothing else.
            gradient = next(parameter.grad for parameter in self.parameters if parameter.grad is not None)
            gradient.masked_fill_(~finite.all(), torch.nan)
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        # The norm is that of all processes.
        fine = norm.isfinite()
        if scaled:
            # An overflow is expected as long as the scale can be lowered. Reads the tensor, as get_scale waits for the
            # device.
            fine = fine | (self.scaler._scale > LEAST_SCALE)
        finite = torch.cat((finite, fine.reshape(1)))
        if not scaled:
            self.optimizer.found_inf = 1 - finite.all().float()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self._recent.append((step, [*losses, "the gradient"], list(samples), here, finite))

    def check(self) -> int:
        """How many steps have been skipped since the last check. Waits for the device; all processes must call it.

        Raises:
            UserError: too many; names the losses that were not finite, and the samples.
        """
        recent, self._recent = self._recent, []
        faults = []
        # One transfer for all of them.
        flags = iter(torch.cat([finite for *_, finite in recent]).tolist() if recent else [])
        for step, names, samples, here, _ in recent:
            wrong = [name for name in names if not next(flags)]
            if wrong:
                faults.append((step, wrong, samples, here))
        self.skipped += len(faults)
        if not faults:
            return 0
        step, wrong, samples, here = faults[-1]
        self._faults = [old for old in (*self._faults, *(new for new, *_ in faults)) if old > step - REMEMBERED]
        if len(self._faults) > MOST_SKIPPED:
            # The gradient is shared by all processes; only the losses show which of them had the faulty samples.
            told = gather((bool(here.all()), samples))
            guilty = [names for fine, names in told if not fine] or [names for _, names in told]
            samples = [name for names in guilty for name in names]
            raise UserError(
                f"{self.name}: {len(self._faults)} of the last {min(REMEMBERED, step + 1)} steps were not finite; in "
                f"step {step} it was {', '.join(wrong)}, with {', '.join(samples[:LISTED])}"
                f"{' ...' if len(samples) > LISTED else ''}"
            )
        return len(faults)

    def state_dict(self) -> dict[str, Any]:
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "skipped": self.skipped,
            "faults": self._faults,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state.

        Raises:
            LookupError, TypeError, ValueError: it is not the state of such an optimiser.
        """
        wanted, found = self.optimizer.param_groups[0]["amsgrad"], state["optimizer"]["param_groups"][0]["amsgrad"]
        if found != wanted:
            raise ValueError(f"amsgrad: got {wanted}, but the state's moments are those of {found}")
        # Rates and other options come from this run's settings, moments from the state.
        own = [{name: group[name] for name in group if name != "params"} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        # torch takes anything for a moment, and fails at the next step.
        for parameter, moments in self.optimizer.state.items():
            shapes = {name: getattr(value, "shape", None) for name, value in moments.items()}
            if shapes != dict(zip(MOMENTS[: 3 + wanted], ((), *[parameter.shape] * 3), strict=False)):
                raise ValueError("its moments are not those of the weights")
        numbers = [state["skipped"], *state["scaler"].values(), *state.get("faults", ())]
        if not all(type(number) in (int, float) and abs(number) < 2**62 for number in numbers):
            raise ValueError("it has no numbers of skipped steps, or no scale")
        for group, values in zip(self.optimizer.param_groups, own, strict=True):
            group.update(values)
            # A schedule starts from the rate that it finds.
            group.pop("initial_lr", None)
        # A state of another precision has no scale: it is looked for anew.
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.skipped = state["skipped"]
        # States of earlier versions have no faults.
        self._faults = list(state.get("faults", ()))
