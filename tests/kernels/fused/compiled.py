"""Renders the cases of `test_compiled` with the compiled kernels, and saves what came of it.

    python -m tests.kernels.fused.compiled FILE 0 2     the first of every two cases

Run without Triton's interpreter, in which nothing is compiled.
"""

import math
import sys
from dataclasses import dataclass
from unittest import mock

import torch
from torch import Tensor

from tests.kernels.conftest import make_scene

# With it even a single Gaussian shows in both images.
SEED = 1


@dataclass(frozen=True)
class Case:
    """A scene of two images, and how it is rendered."""

    count: int
    size: tuple[int, int]
    channels: int
    large: bool = False
    dtype: torch.dtype = torch.float32
    target: str = "sm_90"

    def __str__(self) -> str:
        size, dtype = f"{self.size[0]}x{self.size[1]}", str(self.dtype).removeprefix("torch.")
        return f"{self.target}-n{self.count}-{size}-c{self.channels}-{dtype}-{'large' if self.large else 'small'}"

    def inputs(self) -> dict[str, Tensor]:
        scene = make_scene(self.count, *self.size, self.channels, (2,), SEED, torch.float32)
        return scene | {name: scene[name].to(self.dtype) for name in ("features", "background")}

    def cotangent(self) -> Tensor:
        """Gradient of the latent, the same numbers whatever its type."""
        generator = torch.Generator().manual_seed(1)
        return torch.randn(2, self.channels, *self.size, generator=generator).bfloat16().to(self.dtype)


ODD, WHOLE = (33, 7), (48, 64)
CASES = [
    Case(0, ODD, 3),
    Case(1, ODD, 1),
    Case(17, ODD, 3),
    Case(17, ODD, 3, large=True),
    Case(17, ODD, 65),
    Case(17, ODD, 300, large=True),
    Case(17, ODD, 3, dtype=torch.bfloat16),
    Case(108, WHOLE, 16),
    Case(108, WHOLE, 16, dtype=torch.float16),
    Case(108, WHOLE, 16, dtype=torch.bfloat16, large=True),
    Case(17, ODD, 3, dtype=torch.float16, target="sm_80"),
    Case(108, WHOLE, 16, dtype=torch.bfloat16, target="sm_80"),
    Case(17, ODD, 3, large=True, target="sm_100"),
    Case(108, WHOLE, 16, dtype=torch.bfloat16, target="sm_100"),
]


def render(case: Case) -> dict[str, Tensor] | str:
    """The latent and the gradients, or what the emulated GPU says of a kernel."""
    from bench.emulation.launches import MachineError, differentiate, emulated
    from hvs.kernels.fused import programs

    def poisoned(make):
        def made(*arguments, **options):
            tensor = make(*arguments, **options)
            return tensor.fill_(math.nan if tensor.is_floating_point() else torch.iinfo(tensor.dtype).max // 2)

        return made

    limits = {name: 0 if case.large else getattr(programs, name) for name in ("SMALL_PAIRS", "SMALL_COUNT")}
    # Whatever was in the memory that the kernels write, none of it stays there.
    with (
        mock.patch.multiple(programs, **limits),
        mock.patch.object(torch.Tensor, "new_empty", poisoned(torch.Tensor.new_empty)),
        mock.patch.object(torch, "empty_like", poisoned(torch.empty_like)),
        emulated(case.target),
    ):
        try:
            return differentiate(case.inputs(), case.cotangent(), with_rays=True)
        except MachineError as error:
            return str(error)


def main() -> None:
    file, first, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.save({str(case): render(case) for case in CASES[first::step]}, file)


if __name__ == "__main__":
    main()
