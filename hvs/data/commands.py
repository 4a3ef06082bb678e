"""How the commands of this package end."""

import sys
from collections.abc import Callable

from .stores import DataError


def run(command: Callable[[], int | None]) -> int:
    """Run a command and return its exit code; a fault that the user can fix is one line on stderr and exit code 2."""
    try:
        return command() or 0
    except (DataError, ModuleNotFoundError, OSError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
