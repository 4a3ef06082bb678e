"""`python -m hvs.data.sample`: make the sample capture if it is not there yet, and print where it is."""

import sys
from pathlib import Path

import tyro

from hvs.data.commands import run

from .capture import LayoutName, SampleSettings, make_sample


def main(
    settings: tyro.conf.OmitArgPrefixes[SampleSettings],
    root: Path | None = None,
    layout: LayoutName = "panoptic",
) -> None:
    """Make the sample capture if it is not there yet, and print its folder.

    Args:
        settings: what to make.
        root: folder to make it in; by default in the user's cache.
        layout: the kind of folders and labels to write.
    """
    print(make_sample(root, settings, layout))


if __name__ == "__main__":
    sys.exit(run(lambda: tyro.cli(main, prog="python -m hvs.data.sample")))
