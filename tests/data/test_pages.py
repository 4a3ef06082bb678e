"""Databases whose pages are damaged: LMDB itself would read beyond the end of the file, which kills the process."""

import pytest

from hvs.data.pages import BRANCH, LEAF, TREE, check_pages
from hvs.data.stores import DataError, Store, write_store

PAGE = 4096


@pytest.mark.parametrize("frames", [0, 1, 20, 2000])
@pytest.mark.parametrize("size", [10, 3000])
def test_what_is_written_is_whole(tmp_path, frames, size):
    write_store(tmp_path / "x.lmdb", [(frame, bytes(size)) for frame in range(frames)])
    check_pages(tmp_path / "x.lmdb" / "data.mdb", PAGE)


def root(data):
    """Where the page at the root begins."""
    newest = max((0, PAGE), key=lambda page: number(data, page + TREE + 56, 8))
    return number(data, newest + TREE + 40, 8) * PAGE


def number(data, place, size):
    return int.from_bytes(data[place : place + size], "little")


def entry(data, page, index):
    """Where an entry of a page begins."""
    return page + number(data, page + 16 + 2 * index, 2)


def put(data, place, value, size=2):
    data[place : place + size] = value.to_bytes(size, "little")


def endless_value(data):
    put(data, entry(data, root(data), 3), 2**30, 4)


def distant_value(data):
    place = entry(data, root(data), 3)
    put(data, place + 8 + number(data, place + 6, 2), 10**6, 8)


def last_page(data):
    """A value of two pages that begins on the last one."""
    place = entry(data, root(data), 3)
    put(data, place, 2 * PAGE, 4)
    put(data, place + 8 + number(data, place + 6, 2), len(data) // PAGE - 1, 8)


def inner_value(data):
    """A value within the page that is longer than the page."""
    place = entry(data, root(data), 3)
    put(data, place + 4, 0)
    put(data, place, PAGE, 4)


DAMAGES = {
    "endless value": endless_value,
    "distant value": distant_value,
    "last page": last_page,
    "inner value": inner_value,
    "key": lambda data: put(data, entry(data, root(data), 3) + 6, 60_000),
    "place": lambda data: put(data, root(data) + 16, PAGE - 2),
    "odd place": lambda data: put(data, root(data) + 16, 2001),
    "kind": lambda data: put(data, root(data) + 10, LEAF | 32),
    "number": lambda data: put(data, root(data), 7, 8),
    "entries": lambda data: put(data, root(data) + 12, PAGE + 2),
    "database in it": lambda data: put(data, entry(data, root(data), 3) + 4, 2),
    "several values": lambda data: (put(data, TREE + 4, 4), put(data, PAGE + TREE + 4, 4)),
    "metadata": lambda data: put(data, 16, 0, 4),
    "root": lambda data: (put(data, TREE + 40, 10**9, 8), put(data, PAGE + TREE + 40, 10**9, 8)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damages_are_told_before_lmdb_follows_them(tmp_path, damage):
    path = tmp_path / "x.lmdb"
    write_store(path, [(frame, bytes(3000)) for frame in range(20)])
    data = bytearray((path / "data.mdb").read_bytes())
    damage(data)
    (path / "data.mdb").write_bytes(data)
    with pytest.raises(ValueError, match="damaged|several values"):
        check_pages(path / "data.mdb", PAGE)
    with pytest.raises(DataError, match="x.lmdb: ") as caught:
        _ = Store(path).frames
    assert "\n" not in str(caught.value)


def test_a_tree_that_leads_back_to_itself(tmp_path):
    path = tmp_path / "x.lmdb"
    write_store(path, [(frame, bytes(10)) for frame in range(2000)])
    data = bytearray((path / "data.mdb").read_bytes())
    page = root(data)
    assert number(data, page + 10, 2) == BRANCH
    put(data, entry(data, page, 1), page // PAGE, 4)
    (path / "data.mdb").write_bytes(data)
    with pytest.raises(
        DataError, match="x.lmdb: not a readable LMDB database .a damaged tree: it leads back to itself"
    ):
        _ = Store(path).frames
