"""A process of its own that reads files and says what became of each: python -m tests.hostile.reading KIND FOLDER

It may take a GiB of memory more than it has at the start, and ten seconds of a core for one file, however
busy the machine is. Prints JSON.
"""

import codecs
import contextlib
import json
import os
import pickle
import resource
import signal
import sys
import warnings
from pathlib import Path

import hvs.checkpoint
from hvs.data.npz import read_object_npz
from hvs.data.stores import DataError, read_label

READERS = {
    "labels": lambda path: read_label(path.read_bytes(), str(path)),
    "archives": read_object_npz,
    "checkpoints": hvs.load,
    # Not of the project: it does all that no reader may, to see that it is noticed.
    "careless": lambda path: pickle.loads(path.read_bytes()),
}
FAULTS = (hvs.checkpoint.CheckpointError, DataError)
GIB = 2**30
SECONDS = 10
# What reading a file never does. Names that are looked up, and modules, count from the first file on.
FORBIDDEN = ("os.", "subprocess.", "socket.", "shutil.", "pty.", "ctypes.", "webbrowser.", "code.", "marshal.", "exec")
HARMLESS = ("os.listdir", "os.scandir")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class SlowError(BaseException):
    """No reader may catch it."""


def stop(*_) -> None:
    raise SlowError


def main(kind: str, folder: Path) -> None:
    reader, seen = READERS[kind], []

    def audit(event: str, arguments: tuple) -> None:
        new_module = event == "import" and arguments[0] not in sys.modules
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if new_module or writes or (event.startswith(FORBIDDEN) and event not in HARMLESS):
            seen.append(f"{event} {arguments!r:.200}")

    # What is imported at the first use must not count as a file's doing.
    for path in sorted((folder / "good").iterdir()):
        reader(path)
    for path in sorted((folder / "broken").iterdir()):
        with contextlib.suppress(*FAULTS):
            reader(path)
    codecs.lookup("cp437")
    before = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (before + GIB, before + GIB))
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.signal(signal.SIGPROF, stop)
    sys.addaudithook(audit)
    results = {}
    for path in sorted((folder / "files").iterdir()):
        seen.clear()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                reader(path)
                outcome = "read"
            except FAULTS as error:
                message = str(error)
                clear = message.startswith(str(path)) and len(message.splitlines()) == 1
                outcome = "refused" if clear else f"unclear: {message!r}"
            except BaseException as error:
                outcome = f"{type(error).__name__}: {error}"
        signal.setitimer(signal.ITIMER_PROF, 0)
        results[path.name] = [outcome, *seen, *(str(warning.message) for warning in warned)]
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident) * 1024
    print(json.dumps({"results": results, "grown": grown}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
