"""Look through a capture before training on it.

python -m hvs.data check ROOT         what is there, and what is broken
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from tqdm import tqdm

from .checking import ViewReport, check
from .stores import DataError

MODALITIES = ("images", "masks", "2D", "3D")
# Faults of one view that are listed; a view that is broken throughout has thousands.
LISTED = 10


@dataclass(frozen=True)
class Check:
    """Read every file of a capture and print a table per sequence and view. Faults are listed, and make exit code 2."""

    root: tyro.conf.Positional[Path]
    """Folder of a capture, prepared or of plain files."""
    workers: int | None = None
    """Processes; as many as there are CPUs by default."""

    def run(self) -> int:
        count, reports = check(self.root, workers=self.workers)
        done = list(tqdm(reports, "check", total=count, unit="view"))
        print_table(done)
        faults = sum(len(report.faults) for report in done)
        if faults:
            print(f"\n{faults} faults in {sum(bool(report.faults) for report in done)} of {count} views")
            return 2
        print(f"\n{count} views, no faults")
        return 0


def print_table(reports: list[ViewReport]) -> None:
    """A row per view, the faults below."""
    width = max(len("sequence"), *(len(report.sequence) for report in reports))
    titles = "".join(f"{modality:>9s}" for modality in MODALITIES)
    print(f"{'sequence':{width}s}  {'view':>10s}{titles}{'usable':>9s}{'2D-3D px':>10s}{'faults':>9s}")
    for report in reports:
        counts = "".join(f"{'-' if (n := report.counts.get(m)) is None else n:>9}" for m in MODALITIES)
        distance = "-" if report.distance != report.distance else f"{report.distance:.2f}"
        print(
            f"{report.sequence:{width}s}  {report.view or '-':>10s}{counts}{report.usable:9d}{distance:>10s}"
            f"{len(report.faults) or '-':>9}"
        )
    for report in reports:
        for fault in report.faults[:LISTED]:
            print(f"fault: {fault}")
        if len(report.faults) > LISTED:
            print(f"fault: {report.sequence}, view {report.view}: {len(report.faults) - LISTED} more")


def main() -> int:
    try:
        settings = tyro.extras.subcommand_cli_from_dict({"check": Check}, description=__doc__)
        return settings.run()
    except (DataError, OSError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
