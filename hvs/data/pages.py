"""Whether the pages of an LMDB database are whole.

LMDB believes its file, which it maps into memory: a single changed number, such as the length of a value, makes it read
beyond the file's end, and the system kills the process.
"""

import os

import numpy as np

# Sizes in bytes of the header of a page and of an entry.
PAGE_HEADER, ENTRY_HEADER = 16, 8
# Kinds of pages, and what is set for an entry whose value has pages of its own.
BRANCH, LEAF, LARGE = 1, 2, 1
# Offsets within a page of metadata, of which the first two are. The tree of entries is the second of two.
MAGIC, TREE = 0xBEEFC0DE, 16 + 24 + 48
# The root of a database without any entries.
EMPTY = 2**64 - 1
# More levels than a tree of 2^64 entries has.
MOST_LEVELS = 32


def check_pages(file: str | os.PathLike, page_size: int) -> None:
    """Follow the tree of a database that is as long as it says, without reading the values.

    Args:
        file: `data.mdb`.
        page_size: of its pages, in bytes.

    Raises:
        ValueError: a page or an entry is damaged, or of a kind that databases of frames do not have.
    """
    with open(file, "rb") as handle:
        count = os.fstat(handle.fileno()).st_size // page_size

        def read(page: int) -> bytes:
            data = os.pread(handle.fileno(), page_size, page * page_size) if page < count else b""
            if len(data) < page_size:
                raise ValueError("a damaged tree: it leads out of the file")
            return data

        newest = max((_meta(read(page)) for page in (0, 1)), key=lambda meta: meta[0])
        flags, root = newest[1:]
        if flags:
            raise ValueError("several values for a key, wanted one")
        pages, seen = [] if root == EMPTY else [root], 0
        for _ in range(MOST_LEVELS):
            pages = [child for page in pages for child in _children(read(page), page, count)]
            seen += len(pages)
            if seen > count:
                break
            if not pages:
                return
        raise ValueError("a damaged tree: it leads back to itself")


def _meta(page: bytes) -> tuple[int, int, int]:
    """Number of the transaction that wrote a page of metadata, flags of the tree, and its root."""
    if int.from_bytes(page[16:20], "little") != MAGIC:
        raise ValueError("a damaged page of metadata")
    transaction, flags, root = page[TREE + 56 : TREE + 64], page[TREE + 4 : TREE + 6], page[TREE + 40 : TREE + 48]
    return tuple(int.from_bytes(value, "little") for value in (transaction, flags, root))


def _children(page: bytes, number: int, count: int) -> list[int]:
    """The pages that a page of the tree leads to, of a file of so many pages."""
    size = len(page)
    kind, lower, upper = np.frombuffer(page, "<u2", 3, 10).tolist()
    own = int.from_bytes(page[:8], "little")
    if own != number or kind not in (BRANCH, LEAF) or not PAGE_HEADER <= lower <= upper <= size or lower % 2:
        raise ValueError("a damaged page")
    data = np.frombuffer(page, np.uint8)
    starts = np.frombuffer(page, "<u2", (lower - PAGE_HEADER) // 2, PAGE_HEADER).astype(np.int64)
    if ((starts < upper) | (starts + ENTRY_HEADER > size) | (starts % 2 == 1)).any():
        raise ValueError("a damaged page")
    header = data[starts[:, None] + np.arange(ENTRY_HEADER)].copy().view("<u2").astype(np.int64)  # [N, 4]
    low, high, flags, key = header.T
    ends = starts + ENTRY_HEADER + key
    if kind == BRANCH:
        if not len(starts) or (ends > size).any():
            raise ValueError("a damaged entry")
        return (low | high << 16 | flags << 32).tolist()
    length, large = low | high << 16, flags == LARGE
    ends = ends + np.where(large, 8, length)
    if (ends > size).any() or (flags & ~LARGE).any():
        raise ValueError("a damaged entry")
    own_pages = data[(ends[large] - 8)[:, None] + np.arange(8)].copy().view("<u8")[:, 0]
    needed = -(-(length[large] + PAGE_HEADER) // size)
    if ((own_pages >= count) | (own_pages + needed.astype(np.uint64) > count)).any():
        raise ValueError("a damaged entry: its value leads out of the file")
    return []
