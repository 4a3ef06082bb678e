"""Means of what a training computes in every step."""

import torch
from torch import Tensor

from .. import distribute


class Means:
    """Means of scalars added step by step, without waiting for their device; non-finite values are left out."""

    def __init__(self) -> None:
        # Sums and counts [2, n], keyed by the names that are added together, as some are added only now and then.
        self._sums: dict[tuple[str, ...], Tensor] = {}

    @torch.no_grad()
    def add(self, values: dict[str, Tensor]) -> None:
        """Add scalars by name."""
        found = torch.stack([value.detach().float() for value in values.values()])
        finite = found.isfinite()
        sums = torch.stack((found.nan_to_num(0.0, 0.0, 0.0), finite.to(found.dtype)))
        key = tuple(values)
        self._sums[key] = self._sums[key].add_(sums) if key in self._sums else sums

    def take(self) -> dict[str, float]:
        """The means over all processes of what was added since the last call; NaN where nothing was finite.

        Waits for the device and for the other processes.
        """
        sums: dict[str, Tensor] = {}
        for key, found in self._sums.items():
            for name, value in zip(key, found.unbind(1), strict=True):
                sums[name] = sums[name] + value if name in sums else value
        self._sums = {}
        if not sums:
            return {}
        totals, counts = distribute.average(torch.stack(list(sums.values()), 1)).tolist()
        return {
            name: value / count if count else float("nan")
            for name, value, count in zip(sums, totals, counts, strict=True)
        }
