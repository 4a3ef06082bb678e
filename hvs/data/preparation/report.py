"""Summary of what a preparation kept, and of what it dropped and why."""

from collections import Counter
from dataclasses import dataclass, field

from hvs.data.layouts import IMAGES, MASKS

from .databases import Clip


@dataclass
class Report:
    """The lines of a summary.

    Attributes:
        rows: of the prepared sequences: name and numbers of views, frames, 3D poses, images, 2D poses and masks.
        dropped: (sequence or recording, reason) for everything that was dropped.
    """

    rows: list[tuple[str, ...]] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)

    def add(self, clip: Clip, views: list[str], lost_views: dict[str, str]) -> None:
        """Add a prepared sequence, with the views that were left out and why."""
        layout = clip.layout
        points = len(clip.store(layout.points).frames)
        seen, masks, images = (
            sum(len(clip.store(place, view).frames) for view in views) for place in (layout.keypoints, MASKS, IMAGES)
        )
        self.rows.append((clip.name, str(len(views)), str(clip.frames), *map(str, (points, images, seen, masks))))
        for view, reason in lost_views.items():
            self.dropped.append((clip.name, f"view {view}: {reason}"))
        for what, place in (("2D poses", layout.keypoints), ("masks", MASKS)):
            total = sum((clip.dropped(place, view) for view in views), Counter())
            self.dropped += [(clip.name, f"{count} {what}: {reason}") for reason, count in sorted(total.items())]
        for reason, count in sorted(clip.dropped(layout.points).items()):
            self.dropped.append((clip.name, f"{count} 3D poses: {reason}"))

    def drop(self, name: str, reason: str) -> None:
        """Add a sequence or recording that is not prepared."""
        self.dropped.append((name, reason))

    def __str__(self) -> str:
        head = ("sequence", "views", "frames", "3D", "images", "2D", "masks")
        table = [head, *self.rows]
        widths = [max(len(row[column]) for row in table) for column in range(len(head))]
        columns = range(1, len(head))
        lines = ["  ".join((row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in columns))) for row in table]
        if self.dropped:
            width = max(len(name) for name, _ in self.dropped)
            lines += ["", "dropped", *(f"{name.ljust(width)}  {reason}" for name, reason in self.dropped)]
        return "\n".join(lines)
