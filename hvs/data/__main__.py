"""Prepare and check captures.

python -m hvs.data check ROOT                     what is there, and what is broken

python -m hvs.data prepare panoptic RAW OUT       turn the public download into what training reads

python -m hvs.data prepare human36m RAW OUT
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .checking import ViewReport, check
from .commands import run
from .preparation import prepare_human36m, prepare_panoptic

MODALITIES = ("images", "masks", "2D", "3D")
# How many faults of a view are listed; a view that is broken throughout has thousands.
LISTED = 10


@dataclass(frozen=True)
class Check:
    """Read every file of a capture, print a table with a row per sequence and view, and list faults (exit code 2)."""

    root: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="ROOT")]
    """Folder of a capture, prepared or of plain files."""
    workers: int | None = None
    """Number of processes; by default one per core."""

    def run(self) -> int:
        reports = check(self.root, workers=self.workers)
        print_table(reports)
        faults, views = sum(len(report.faults) for report in reports), _count(len(reports), "view")
        if faults:
            print(f"\n{_count(faults, 'fault')} in {sum(bool(report.faults) for report in reports)} of {views}")
            return 2
        print(f"\n{views}, no faults")
        return 0


@dataclass(frozen=True)
class Raw:
    raw: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RAW")]
    """Folder of the download."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """Folder of the prepared capture."""
    masks: Path | None = None
    """Folder of masks, white on the person: <view>.mp4 or <view>/*.png in folders named like the sequences."""
    segment: str | None = None
    """module:function that makes a mask [H, W] from an image [3, H, W] in 0..1; instead of --masks."""
    workers: int | None = None
    """Number of processes; by default one per core."""


@dataclass(frozen=True)
class Panoptic(Raw):
    """Prepare sequences of the Panoptic Studio: RAW/<sequence> with videos, calibration and poses."""

    def run(self) -> str:
        return prepare_panoptic(self.raw, self.out, masks=self.masks, segment=self.segment, workers=self.workers)


@dataclass(frozen=True)
class Human36M(Raw):
    """Prepare Human3.6M: RAW/S<n> with videos and poses, metadata.xml, and the CPN detections."""

    def run(self) -> str:
        return prepare_human36m(self.raw, self.out, masks=self.masks, segment=self.segment, workers=self.workers)


def _named(name: str) -> object:
    return tyro.conf.subcommand(name, prefix_name=False)


@dataclass(frozen=True)
class Prepare:
    """Turn a public download into the prepared layout. An interrupted preparation continues where it stopped."""

    source: Annotated[Panoptic, _named("panoptic")] | Annotated[Human36M, _named("human36m")]

    def run(self) -> int:
        print(self.source.run())
        return 0


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'s' * (number != 1)}"


def print_table(reports: list[ViewReport]) -> None:
    """Print a row per view, and the faults below."""
    width = max(len("sequence"), *(len(report.sequence) for report in reports))
    views = max(len("view"), *(len(report.view) for report in reports))
    titles = "".join(f"{modality:>9s}" for modality in MODALITIES)
    print(f"{'sequence':{width}s}  {'view':>{views}s}{titles}{'usable':>9s}{'2D-3D px':>10s}{'faults':>9s}")
    for report in reports:
        counts = "".join(f"{'-' if (n := report.counts.get(m)) is None else n:>9}" for m in MODALITIES)
        distance = "-" if math.isnan(report.distance) else f"{report.distance:.2f}"
        print(
            f"{report.sequence:{width}s}  {report.view or '-':>{views}s}{counts}{report.usable:9d}{distance:>10s}"
            f"{len(report.faults) or '-':>9}"
        )
    for report in reports:
        for fault in report.faults[:LISTED]:
            print(f"fault: {fault}")
        if len(report.faults) > LISTED:
            print(f"fault: {report.sequence}, view {report.view}: {len(report.faults) - LISTED} more")


def main() -> int:
    commands = {"check": Check, "prepare": Prepare}
    settings = tyro.extras.subcommand_cli_from_dict(
        commands, prog="python -m hvs.data", description=__doc__, config=(tyro.conf.OmitArgPrefixes,)
    )
    return settings.run()


if __name__ == "__main__":
    sys.exit(run(main))
