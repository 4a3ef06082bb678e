"""One training at a time in a folder: two would delete each other's states, and mix their logs."""

import fcntl
import os
from pathlib import Path

from ..runtime import UserError


class FolderLock:
    """Keeps other processes from training in a folder, until it is released or this process ends, however it ends.

    Locked is an empty file beside the folder, `.NAME.lock`, as the folder itself may be renamed. The file stays, and
    means nothing by itself. Where files cannot be made or locked, nothing is: a training is not to fail for that.

    Args:
        folder: of the run.

    Raises:
        UserError: another process has locked it.
    """

    def __init__(self, folder: Path) -> None:
        folder = folder.resolve()
        self._file: int | None = None
        try:
            self._file = os.open(folder.with_name(f".{folder.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
            # Unlike flock's, this lock is not inherited by the processes that read ahead, which may outlive this one.
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (OSError, ValueError) as error:
            # A ValueError is that of a folder without a name, the root of all.
            locked = self._file is not None and isinstance(error, BlockingIOError | PermissionError)
            self.release()
            if locked:
                raise UserError(f"{folder}: another training is using it; wait, or use another --run") from error

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
