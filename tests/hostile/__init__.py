"""Files that a reader must refuse: broken ones, and ones that would run code, hang, or fill the memory.

Each generator yields (name, bytes). What would run code leaves a file "witness" in the current folder. Values are put
into pickles as operations (:class:`~.pickles.Ops`), so that a file can say what no writer would.
"""

from .arrays import archives
from .checkpoints import checkpoints
from .torch_files import labels

__all__ = ["archives", "checkpoints", "labels"]
