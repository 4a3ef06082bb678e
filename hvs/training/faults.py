"""Broken files that training skips: each is reported once, and too many end the run."""

import sys
from collections.abc import Iterable

from .. import distribute
from ..data import PairDataset, PoseDataset
from ..runtime import UserError


class Faults:
    """What was wrong with files that were skipped, in all processes.

    Args:
        root: of the capture, for the error message.
        limit: fraction of all views of frames of a data set that may be broken; unless it is 0, one always may.
    """

    def __init__(self, root: object, limit: float) -> None:
        self.root, self.limit = root, limit
        self.known: set[str] = set()
        self._untold: dict[PairDataset | PoseDataset, set[str]] = {}
        self._of: dict[PairDataset | PoseDataset, set[str]] = {}

    def __len__(self) -> int:
        return len(self.known)

    def note(self, faults: Iterable[str], dataset: PairDataset | PoseDataset) -> None:
        """Add faults, one line each. A single process also reports new ones; several do so together in :meth:`tell`.

        Raises:
            UserError: there are too many.
        """
        self._untold.setdefault(dataset, set()).update(faults)
        if distribute.world() == 1:
            self.tell(dataset)

    def tell(self, dataset: PairDataset | PoseDataset) -> None:
        """Report what all processes have noted of a data set since the last call; must be called by all of them.

        Raises:
            UserError: there are too many; raised in all processes.
        """
        from tqdm import tqdm

        own = self._of.setdefault(dataset, set())
        new = set().union(*distribute.gather(self._untold.pop(dataset, set()))) - own
        own |= new
        for fault in sorted(new - self.known):
            if distribute.is_first():
                tqdm.write(f"note: skipped {fault}", file=sys.stderr)
        self.known |= new
        if not new:
            return
        most = max(1, round(self.limit * int(dataset.index.counts.sum()))) if self.limit else 0
        if len(own) > most:
            raise UserError(
                f"{self.root}: more than {most} broken files, the last one {max(new)}; "
                f"python -m hvs.data check {self.root} lists them all"
            )
