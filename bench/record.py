"""What a bench finds: its rows with the machine they were measured on, written to a file as they come."""

import contextlib
import datetime
import json
import os
import platform
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch


class WrongResultsError(Exception):
    """A result is wrong, and so is not timed."""


class Record:
    """The rows of a bench; a run that is cut short keeps those it has, and what fails costs no others."""

    def __init__(self, device: str, file: Path | None) -> None:
        make_folders(file)
        self.machine, self.file = describe(device), file
        self.rows: list[dict[str, Any]] = []
        self.failed: dict[str, str] = {}

    def write(self) -> None:
        if self.file:
            found = dict(machine=self.machine, rows=self.rows, failed=self.failed)
            self.file.write_text(json.dumps(found, indent=1) + "\n")

    @contextlib.contextmanager
    def trying(self, name: str) -> Iterator[None]:
        """Within this context, an error is noted under that name instead of ending the run."""
        try:
            yield
        except Exception as error:
            if not isinstance(error, (WrongResultsError, torch.OutOfMemoryError)):
                traceback.print_exc()
            self.failed[name] = str(error) or type(error).__name__
            print(f"{name}: {self.failed[name].splitlines()[0]}", file=sys.stderr, flush=True)
        self.write()

    def close(self) -> None:
        """Print the machine, and end with an error if anything has failed."""
        print("\n".join(f"{name:8s}{value}" for name, value in self.machine.items()))
        if self.failed:
            raise SystemExit(f"not timed: {', '.join(self.failed)}")


def make_folders(*files: Path | None) -> None:
    """Make the folders of files to be written, rather than fail when all is measured."""
    for file in filter(None, files):
        file.parent.mkdir(parents=True, exist_ok=True)


def describe(device: str) -> dict[str, str]:
    """What the results depend on: versions, commit, date and device."""

    def output(*command: str) -> str:
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return "unknown"

    found = dict(
        torch=torch.__version__,
        python=platform.python_version(),
        commit=os.environ.get("COMMIT") or output("git", "describe", "--always", "--dirty", "--abbrev=40"),
    )
    found["date"] = datetime.date.today().isoformat()
    try:
        import triton

        found["triton"] = triton.__version__
    except ImportError:
        pass
    if torch.device(device).type == "cuda":
        found["device"] = torch.cuda.get_device_name()
        found["driver"] = output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    else:
        found["device"] = f"{platform.processor() or platform.machine()} CPU, {torch.get_num_threads()} threads"
    return found
