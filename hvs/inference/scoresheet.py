"""Results of an evaluation: a table to read, CSV with a line for every pair, and means for JSON."""

import csv
import io
import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hvs.evaluation import average

# Groups of columns of the table: title, width, decimals, and the heading of each score.
COLUMNS: dict[str, tuple[int, int, dict[str, str]]] = {
    "PSNR (dB)": (
        8,
        2,
        {
            "psnr": "whole",
            "psnr_foreground": "person",
            "psnr_foreground_background_baseline": "backgr.",
            "psnr_foreground_copy_baseline": "copy",
        },
    ),
    "SSIM": (7, 3, {"ssim": "whole", "ssim_foreground": "person"}),
    "LPIPS": (7, 3, {"lpips": "whole", "lpips_foreground": "person"}),
    "pose error (mm)": (8, 1, {"mpjpe_mm": "MPJPE", "n_mpjpe_mm": "N-MPJPE", "p_mpjpe_mm": "P-MPJPE"}),
}
NAME, COUNT = 28, 7
TITLES = {"known": "known subjects", "unknown": "held-out subjects *", "all": "all"}
# Baselines below the model's scores: how the names of their scores end, and the titles of their lines.
BASELINES = {"_background_baseline": "  constant background", "_copy_baseline": "  source image copied"}
LEGEND = """\
*        never trained on
person   in the box around the person, as are the constant background (backgr.) and the copied source image (copy)
MPJPE    over known joints (MPVJPE); N- after the best scale, P- after the best scale, rotation and translation"""


@dataclass(frozen=True)
class Scoresheet:
    """Scores of P pairs of views.

    Attributes:
        where: sequence, frame, source view and target view of each.
        unseen: whether each pair's person was held out of training.
        scores: name -> [P], as :func:`hvs.evaluation.score` has them.
    """

    where: list[tuple[str, int, str, str]]
    unseen: list[bool]
    scores: dict[str, Tensor]

    def sequences(self) -> dict[str, list[int]]:
        """The pairs of each sequence."""
        found: dict[str, list[int]] = {}
        for i, (sequence, *_) in enumerate(self.where):
            found.setdefault(sequence, []).append(i)
        return found

    def groups(self) -> dict[str, list[int]]:
        """The pairs of known and of held-out subjects, each if there are any, and all pairs."""
        found: dict[str, list[int]] = {}
        for i, unseen in enumerate(self.unseen):
            found.setdefault("unknown" if unseen else "known", []).append(i)
        return found | {"all": list(range(len(self.where)))}

    def means(self, pairs: list[int]) -> dict[str, float]:
        """Mean scores of some pairs; NaN where none of them can be scored."""
        return average([{name: values[pairs] for name, values in self.scores.items()}])

    def worst(self, score: str, count: int, entries: int = 4) -> list[int]:
        """At most `count` pairs with the worst values of a score, the worst one first.

        Of pairs with the same first `entries` of `where`, only the worst is taken.
        """
        higher_is_better = score.startswith(("psnr", "ssim"))
        values = self.scores[score] if higher_is_better else -self.scores[score]
        found: dict[tuple, int] = {}
        for i in values.argsort(stable=True).tolist():
            if values[i].isfinite():
                found.setdefault(self.where[i][:entries], i)
        return list(found.values())[:count]

    def label(self, pair: int) -> str:
        """A line that names a pair and its scores."""
        sequence, frame, source, target = self.where[pair]
        psnr, mpjpe = (self.scores[name][pair].item() for name in ("psnr_foreground", "mpjpe_mm"))
        return f"{sequence}, frame {frame}, {source} to {target}: person {psnr:.1f} dB, MPJPE {mpjpe:.0f} mm"

    def table(self) -> str:
        """Mean scores of each sequence and of all, for a console of 120 columns."""
        above, below = " " * (NAME + COUNT), f"{'means over pairs':{NAME}}{'pairs':>{COUNT}}"
        for title, (width, _, columns) in COLUMNS.items():
            shown = [column for name, column in columns.items() if name in self.scores]
            if shown:
                above += f" {f' {title} ':─^{width * len(shown) - 1}}"
                below += "".join(f"{column:>{width}}" for column in shown)
        groups = self.groups()
        unseen = set(groups.get("unknown", ()))
        lines = [self._line(f"{n} *" if unseen.issuperset(p) else n, p) for n, p in self.sequences().items()]
        # A single group is all.
        titles = TITLES if len(groups) > 2 else {"all": "all"}
        for name, title in titles.items():
            lines += ["", self._line(title, groups[name])]
            for whose, of_whom in BASELINES.items():
                if f"psnr{whose}" in self.scores:
                    lines.append(self._line(of_whom, groups[name], whose))
        return "\n".join([above, below, *lines])

    def _line(self, title: str, pairs: list[int], whose: str = "") -> str:
        """A line of mean scores of some pairs, of the model's pictures or of a baseline's."""
        means = self.means(pairs)
        if len(title) > NAME:
            title = f"…{title[1 - NAME :]}"
        cells = [f"{title:{NAME}}{len(pairs):{COUNT}d}"]
        for width, decimals, columns in COLUMNS.values():
            for name in columns:
                if name in means:
                    value = means.get(name + whose)
                    if value is None:
                        cells.append(" " * width)
                    else:
                        cells.append(f"{value:{width}.{decimals}f}" if math.isfinite(value) else f"{'–':>{width}}")
        return "".join(cells).rstrip()

    def csv(self) -> str:
        """A line for every pair; a field is empty where there is no score."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["sequence", "frame", "source", "target", "held_out_subject", *self.scores])
        columns = [[f"{v:.7g}" if math.isfinite(v) else "" for v in values.tolist()] for values in self.scores.values()]
        for where, unseen, *values in zip(self.where, self.unseen, *columns, strict=True):
            writer.writerow([*where, int(unseen), *values])
        return text.getvalue()

    def summary(self) -> dict[str, Any]:
        """Mean scores of each group and sequence with its number of pairs; None where there is no score."""

        def means(pairs: list[int]) -> dict[str, Any]:
            found = self.means(pairs)
            return {"pairs": len(pairs)} | {name: v if math.isfinite(v) else None for name, v in found.items()}

        groups = {name: means(pairs) for name, pairs in self.groups().items()}
        return groups | {"sequences": {name: means(pairs) for name, pairs in self.sequences().items()}}
