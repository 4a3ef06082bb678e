"""One optimiser's steps: backward passes, clipping, and steps left out where something is not finite.

Nothing here waits for the device but :meth:`Stepper.check`, which the loops call now and then.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ..distribute import everywhere, gather
from ..runtime import UserError

# More steps left out than this, of so many, are a training gone wrong.
MOST_SKIPPED, REMEMBERED = 20, 1000
# Of an optimiser, which moments do not depend on.
SETTINGS = "lr", "betas", "weight_decay"
# Samples that a report names.
LISTED = 8
# A loss that is scaled by less and overflows is no part of any bargain.
LEAST_SCALE = 1.0


class Stepper:
    """Steps of an optimiser.

    A step with a loss or a gradient that is not finite is left out: weights and moments stay as they are. That is
    decided on the device, by the means that a gradient scaler has in fused optimisers; of many processes all leave out
    a step that was not finite in one of them.

    Args:
        name: of what is trained, for reports.
        optimizer: a fused one.
        clip_norm: largest norm of all gradients together.
        scaled: scale the loss for gradients in half precision; steps that overflow then are part of the bargain.

    Attributes:
        skipped: steps left out, as of the last check.
    """

    def __init__(
        self, name: str, optimizer: torch.optim.Optimizer, clip_norm: float = math.inf, scaled: bool = False
    ) -> None:
        self.name, self.optimizer, self.clip_norm = name, optimizer, clip_norm
        self.parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self.scaler = torch.amp.GradScaler(self.parameters[0].device.type, enabled=scaled)
        self.skipped = 0
        # Numbers of the last steps that were left out, as of the last check.
        self._faults: list[int] = []
        # Since the last check: numbers of steps, names of their losses and of the gradient, of their samples, which
        # losses were finite here, and which of all those names were in all processes.
        self._recent: list[tuple[int, list[str], list[str], Tensor, Tensor]] = []

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss (scalar) to those there are."""
        self.scaler.scale(loss).backward()

    def step(self, step: int, losses: dict[str, Tensor], samples: Iterable[str] = ()) -> None:
        """Step with the gradients there are, unless they or a loss are not finite, and clear them.

        Args:
            step: its number, for reports.
            losses: of it, by name (scalars); where it has several passes, their sums.
            samples: names of what was in it.
        """
        here = torch.stack([value.detach().isfinite() for value in losses.values()])
        finite = everywhere(here)
        scaled = self.scaler.is_enabled()
        if scaled:
            # The scaler leaves out steps whose gradients overflow, and looks at nothing else.
            gradient = next(parameter.grad for parameter in self.parameters if parameter.grad is not None)
            gradient.masked_fill_(~finite.all(), torch.nan)
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        # The norm is that of all processes.
        fine = norm.isfinite()
        if scaled:
            # An overflow is part of the scaler's bargain, as long as there is something to scale down. The tensor, as
            # get_scale waits for the device.
            fine = fine | (self.scaler._scale > LEAST_SCALE)
        finite = torch.cat((finite, fine.reshape(1)))
        if not scaled:
            self.optimizer.found_inf = 1 - finite.all().float()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self._recent.append((step, [*losses, "the gradient"], list(samples), here, finite))

    def check(self) -> int:
        """How many steps have been left out since the last check; waits for the device. For all processes together.

        Raises:
            UserError: too many; says which losses were not finite, and in which samples.
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
            # The gradient is that of all processes; a loss tells which of them had the samples.
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
        # Rates and such are those of this training's settings, moments those of the state.
        own = [{name: group[name] for name in SETTINGS} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, values in zip(self.optimizer.param_groups, own, strict=True):
            group.update(values)
            # A schedule begins with the rate that it finds.
            group.pop("initial_lr", None)
        self.scaler.load_state_dict(state["scaler"])
        self.skipped = state["skipped"]
        # States of earlier versions have none.
        self._faults = list(state.get("faults", ()))
