"""`python -m hvs.data prepare panoptic RAW OUT`, `python -m hvs.data prepare human36m RAW OUT`."""

import sys
from pathlib import Path

import tyro

from .stores import DataError


def prepare(arguments: list[str]) -> None:
    """Turn a public download into the prepared layout that training reads."""
    from . import preparation

    Folder = tyro.conf.Positional[Path]

    def panoptic(
        raw: Folder, out: Folder, masks: Path | None = None, segment: str | None = None, workers: int | None = None
    ) -> None:
        """Prepare raw sequences of the Panoptic Studio. A run that was stopped goes on where it was.

        Args:
            raw: holds <sequence>/hdVideos, <sequence>/calibration_<sequence>.json and poses.
            out: folder of the prepared capture.
            masks: folder of <sequence>/<view>.mp4 or <sequence>/<view>/*.png, white on the person.
            segment: module:function that makes a mask [H, W] of an image [3, H, W] in 0..1.
            workers: processes; one for each core by default.
        """
        print(preparation.prepare_panoptic(raw, out, masks=masks, segment=segment, workers=workers))

    def human36m(
        raw: Folder, out: Folder, masks: Path | None = None, segment: str | None = None, workers: int | None = None
    ) -> None:
        """Prepare the raw Human3.6M. A run that was stopped goes on where it was.

        Args:
            raw: holds S<n>/Videos, S<n>/MyPoseFeatures, metadata.xml and the CPN detections.
            out: folder of the prepared capture.
            masks: folder of <subject>/<action>/<view>.mp4 or <subject>/<action>/<view>/*.png, white on the person.
            segment: module:function that makes a mask [H, W] of an image [3, H, W] in 0..1.
            workers: processes; one for each core by default.
        """
        print(preparation.prepare_human36m(raw, out, masks=masks, segment=segment, workers=workers))

    commands = {"panoptic": panoptic, "human36m": human36m}
    tyro.extras.subcommand_cli_from_dict(commands, prog="python -m hvs.data prepare", args=arguments)


COMMANDS = {"prepare": prepare}


def main(arguments: list[str]) -> None:
    if not arguments or arguments[0] not in COMMANDS:
        got = arguments[0] if arguments else "nothing"
        raise DataError(f"command: got {got}, wanted one of {', '.join(COMMANDS)}")
    COMMANDS[arguments[0]](arguments[1:])


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (DataError, ModuleNotFoundError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
