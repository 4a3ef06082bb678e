"""`python -m hvs.data.sample`: make the sample capture if it is not there yet, and print where it lies."""

from pathlib import Path

import tyro

from .capture import LayoutName, SampleSettings, make_sample


def main(
    root: Path | None = None,
    layout: LayoutName = "panoptic",
    settings: tyro.conf.OmitArgPrefixes[SampleSettings] = SampleSettings(),  # noqa: B008
) -> None:
    """Make the sample capture and print its folder.

    Args:
        root: where it shall lie; by default in the user's cache.
        layout: which data set's folders and labels.
        settings: what to make.
    """
    print(make_sample(root, settings, layout))


if __name__ == "__main__":
    tyro.cli(main)
