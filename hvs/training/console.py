"""Training progress as lines of a table on the console, at most 100 columns wide."""

import math

HEADER_EVERY = 20
# Short names for losses whose names are wider than their columns.
SHORT = {"appearance": "look", "matching": "match", "adversarial": "adv", "discriminator": "critic"}
STEP, LOSS, SPEED, LEFT = 14, 8, 10, 10


class Table:
    """The lines of a stage, with a header above every twentieth.

    Args:
        stage: its name.
    """

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self._columns: list[str] = []
        self._lines = 0

    def line(self, step: int, losses: dict[str, float], speed: float, left: float) -> str:
        """One line, below the header if one is due.

        Args:
            step: steps done.
            losses: by name; a new one gets a column, a missing one a dash.
            speed: images per second.
            left: seconds until the end of the stage.
        """
        new = [name for name in losses if name not in self._columns]
        self._columns += new
        cells = [f"{step:>{STEP}d}", *(f"{_short(losses.get(name)):>{LOSS}s}" for name in self._columns)]
        line = "".join((*cells, f"{speed:>{SPEED}.1f}", f"{clock(left):>{LEFT}s}"))
        if new or self._lines % HEADER_EVERY == 0:
            self._lines = 0
            line = f"{self._header()}\n{line}"
        self._lines += 1
        return line

    def _header(self) -> str:
        names = "".join(f"{SHORT.get(name, name):>{LOSS}s}" for name in self._columns)
        return f"{f'{self.stage} step':>{STEP}s}{names}{'images/s':>{SPEED}s}{'left':>{LEFT}s}"


def clock(seconds: float) -> str:
    """Seconds as hours, minutes and seconds."""
    if not math.isfinite(seconds):
        return "-"
    minutes, seconds = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _short(value: float | None) -> str:
    """A number in at most seven characters."""
    if value is None or not math.isfinite(value):
        return "-"
    size = abs(value)
    if size == 0 or 1e-3 <= size < 10:
        return f"{value:.4f}"
    return f"{value:.4g}" if 10 <= size < 1e4 else f"{value:.1e}" if size < 1e-3 else f"{value:.0e}"
