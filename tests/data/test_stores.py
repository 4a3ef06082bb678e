"""Databases: key bytes, faults of every kind, processes, and labels that must not run anything."""

import io
import os
import pickle
from collections import OrderedDict

import lmdb
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from hvs.data import stores
from hvs.data.stores import DataError, Store, pack_label, read_label, write_store


def raw(path):
    """All entries of a database as LMDB has them."""
    with lmdb.open(str(path), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return {bytes(key): bytes(value) for key, value in transaction.cursor()}


def write_raw(path, entries):
    with lmdb.open(str(path)) as environment, environment.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key, value)


class StoreDataset(Dataset):
    def __init__(self, path):
        self.store = Store(path)

    def __len__(self):
        return 4

    def __getitem__(self, frame):
        return int.from_bytes(self.store[frame], "little")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "x.lmdb"
    write_store(path, [(frame, frame.to_bytes(4, "little")) for frame in (300, 0, 2, 1, 70000)])
    return path


def test_frames_and_values(path):
    store = Store(path)
    assert store.frames == [0, 1, 2, 300, 70000]
    assert store[300] == (300).to_bytes(4, "little")
    assert 70000 in store and 3 not in store


def test_databases_of_the_same_frames_have_their_list_read_once(tmp_path, monkeypatch):
    """A sequence has about a hundred, each with thousands of frames."""
    read = []
    monkeypatch.setattr(stores, "unpickle", lambda data: read.append(data) or pickle.loads(data))
    stores._read_frames.cache_clear()
    for name in "abc":
        write_store(tmp_path / name, [(frame, name.encode()) for frame in (6, 2)])
    for name in "abc":
        # What one reader does to its list is of no concern to the next.
        frames = Store(tmp_path / name).frames
        assert frames == [2, 6]
        frames.clear()
    assert len([data for data in read if pickle.loads(data) != 4]) == 1


def test_key_bytes_are_those_of_published_files(path):
    keys = raw(path)
    assert pickle.loads(keys[b"protocol"]) == 4
    assert bytes.fromhex("8004 4B02 2E") in keys
    assert bytes.fromhex("800495 0400000000000000 4D 2C01 2E") in keys
    assert bytes.fromhex("800495 0800000000000000 8C04") + b"keys" + bytes.fromhex("94 2E") in keys


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_is_read(tmp_path, protocol):
    write_store(tmp_path / "x", [(7, b"seven"), (1000, b"thousand")], protocol=protocol)
    store = Store(tmp_path / "x")
    assert (store.protocol, store.frames, store[7], store[1000]) == (protocol, [7, 1000], b"seven", b"thousand")


def test_missing_frame_names_file_and_frame_as_a_key_error(path):
    with pytest.raises(KeyError) as caught:
        Store(path)[3]
    assert isinstance(caught.value, DataError)
    assert str(caught.value) == f"{path}: no frame 3"


def test_one_path_opens_many_times(path):
    first, second = Store(path), Store(str(path))
    assert first[1] == second[1] == Store(path.parent / "." / "x.lmdb")[1]


def test_more_stores_than_may_be_open(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "MAX_OPEN", 2)
    for name in "abcd":
        write_store(tmp_path / name, [(0, name.encode())])
    every = [Store(tmp_path / name) for name in "abcd"]
    for _ in range(2):
        assert [store[0] for store in every] == [b"a", b"b", b"c", b"d"]
        assert len(stores._environments.opened) <= 2


def test_forked_process_reads_what_the_parent_had_open(path):
    store = Store(path)
    assert store[2] == (2).to_bytes(4, "little")
    child = os.fork()
    if child == 0:
        closed = not stores._environments.opened
        os._exit(0 if closed and store[2] == Store(path)[2] == (2).to_bytes(4, "little") else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert store[1] == (1).to_bytes(4, "little")


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_read_and_report_in_one_line(path, context):
    assert 0 in Store(path)
    read, message = [], ""
    try:
        for value in DataLoader(StoreDataset(path), None, num_workers=1, multiprocessing_context=context):
            read.append(value)
    except DataError as error:
        message = str(error)
        # The traceback is in a cycle with the loader, which would keep its workers alive beyond this test.
        error.__traceback__ = None
    assert (read, message) == ([0, 1, 2], f"{path}: no frame 3")


def test_writing_again_replaces_what_is_open(path):
    assert Store(path)[1] == (1).to_bytes(4, "little")
    write_store(path, [(1, b"new")])
    assert Store(path).frames == [1]
    assert Store(path)[1] == b"new"


def test_a_file_may_be_open_under_another_path(path, tmp_path):
    one = (1).to_bytes(4, "little")
    assert Store(path)[1] == one
    path.rename(tmp_path / "moved")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/data.mdb").hardlink_to(tmp_path / "moved/data.mdb")
    assert Store(tmp_path / "moved")[1] == Store(tmp_path / "linked")[1] == Store(tmp_path / "moved")[1] == one


def test_interrupted_writing_leaves_nothing(tmp_path):
    def items():
        yield 0, b"x" * 2**21
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path / "deep" / "x.lmdb", items())
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def full(environment, batch):
        raise lmdb.DiskError("mdb_txn_commit: No space left on device")

    monkeypatch.setattr(stores, "_put", full)
    with pytest.raises(DataError, match="x.lmdb: cannot be written .*No space left on device") as caught:
        write_store(tmp_path / "x.lmdb", [(0, b"")])
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_named_once(path):
    (path / "data.mdb").write_bytes(b"no database at all" * 1000)
    with pytest.raises(DataError, match=r"x.lmdb: not a readable LMDB database \(MDB_INVALID: ") as caught:
        Store(path)[0]
    assert str(caught.value).count("x.lmdb") == 1


def test_interrupted_writing_keeps_the_old(path):
    with pytest.raises(ValueError, match="frame 5 came twice"):
        write_store(path, [(5, b""), (5, b"")])
    assert 300 in Store(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["x.lmdb"]


def test_writing_grows_and_is_deterministic(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "BATCH_BYTES", 2**20)
    items = [(frame, bytes([frame]) * 300_000) for frame in range(20)]
    for name in "ab":
        write_store(tmp_path / name, iter(items))
    assert [Store(tmp_path / "a")[frame] for frame, _ in items] == [value for _, value in items]
    assert (tmp_path / "a/data.mdb").read_bytes() == (tmp_path / "b/data.mdb").read_bytes()


def test_empty_store(tmp_path):
    write_store(tmp_path / "x", [])
    assert Store(tmp_path / "x").frames == []


def truncated(data):
    return data[: len(data) // 2]


def garbled(data):
    return data[:8192] + b"\xab" * (len(data) - 8192)


DAMAGES = {
    "empty": lambda data: b"",
    "one page": lambda data: data[:4096],
    "truncated": truncated,
    "one byte short": lambda data: data[:-1],
    "garbled": garbled,
    "text": lambda data: b"no database " * 1000,
    "zeros": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_database_is_one_line_with_its_path(tmp_path, damage):
    path = tmp_path / "x.lmdb"
    write_store(path, [(frame, bytes(3000)) for frame in range(20)])
    data = (path / "data.mdb").read_bytes()
    (path / "data.mdb").write_bytes(damage(data))
    with pytest.raises(DataError) as caught:
        _ = Store(path).frames
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_text("file")])
def test_no_database_there(tmp_path, make):
    make(tmp_path / "x.lmdb")
    with pytest.raises(DataError, match="x.lmdb: no LMDB database here"):
        Store(tmp_path / "x.lmdb")[0]


class Call:
    """Pickles as a call that would leave a file behind."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize(
    "entries",
    [
        {},
        {b"protocol": b""},
        {b"protocol": pickle.dumps("4")},
        {b"protocol": pickle.dumps(99)},
        {b"protocol": pickle.dumps(4, 4)},
        {b"protocol": pickle.dumps(4, 4), pickle.dumps("keys", 4): pickle.dumps({1: 2})},
        {b"protocol": pickle.dumps(4, 4), pickle.dumps("keys", 4): pickle.dumps([1, "2"])},
        {b"protocol": pickle.dumps(4, 4), pickle.dumps("keys", 4): pickle.dumps([True])},
        {b"protocol": pickle.dumps(4, 4), pickle.dumps("keys", 4): pickle.dumps(OrderedDict())},
    ],
    ids=str,
)
def test_odd_entries_are_refused(tmp_path, entries):
    write_raw(tmp_path / "x", entries)
    with pytest.raises(DataError, match="x: (no )?entry '"):
        _ = Store(tmp_path / "x").frames


@pytest.mark.parametrize("key", [b"protocol", pickle.dumps("keys", 4)])
def test_hostile_entries_run_nothing(tmp_path, key):
    entries = {b"protocol": pickle.dumps(4, 4), pickle.dumps("keys", 4): pickle.dumps([1])}
    write_raw(tmp_path / "x", entries | {key: pickle.dumps(Call(tmp_path / "made"))})
    with pytest.raises(DataError, match="posix.mkdir, which is not allowed"):
        _ = Store(tmp_path / "x").frames
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("shape", [(135, 3, 1), (17, 2, 1), (0, 3), ()])
def test_labels_round_trip(shape):
    label = torch.randn(shape)
    assert torch.equal(read_label(pack_label(label), "x"), label)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_labels_that_torch_pickled(protocol):
    label = torch.randn(135, 3, 1)
    assert torch.equal(read_label(pickle.dumps(label, protocol), "x"), label)
    assert torch.equal(read_label(pickle.dumps(label[::2, 1:], protocol), "x"), label[::2, 1:])
    assert torch.equal(read_label(pickle.dumps(label.double().requires_grad_(), protocol), "x"), label)


def test_a_slice_is_packed_without_its_storage():
    label = torch.randn(10_000, 17, 2, 1)[5]
    assert len(pack_label(label)) < 2000
    assert torch.equal(read_label(pack_label(label.mT), "x"), label.mT)


def test_a_read_label_is_one_of_its_own():
    data = pack_label(torch.zeros(3))
    read_label(data, "x").add_(1)
    assert torch.equal(read_label(data, "x"), torch.zeros(3))


class Evil:
    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def zip_storage():
    file = io.BytesIO()
    torch.save(torch.zeros(4).untyped_storage(), file)
    return file.getvalue()


STORAGE = torch.storage.TypedStorage(2, dtype=torch.float32, _internal=True)
HOSTILE = {
    "not a pickle": b"hello",
    "empty": b"",
    "cut off": pack_label(torch.zeros(135, 3, 1))[:-200],
    "a number": pickle.dumps(7),
    "whole numbers": pack_label(torch.zeros(3, dtype=torch.int64)),
    "a torch function": pickle.dumps(Evil(torch.load, ("/etc/hostname",))),
    "a class": pickle.dumps(Evil),
    "a module": pickle.dumps(torch.nn.Linear(2, 2)),
    "code in the storage": pickle.dumps(Evil(torch.storage._load_from_bytes, (pickle.dumps(Evil(os.getcwd, ())),))),
    "a zip": pickle.dumps(Evil(torch.storage._load_from_bytes, (zip_storage(),))),
    "wrong arguments": pickle.dumps(Evil(torch._utils._rebuild_tensor_v2, (1, 2, 3))),
    "more than it holds": pickle.dumps(torch.zeros(1).expand(1000, 1000, 1000)),
    "out of its storage": pickle.dumps(Evil(torch._utils._rebuild_tensor_v2, (STORAGE, 0, (10**6,), (1,), False, {}))),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_labels_are_refused_in_one_line(data):
    with pytest.raises(DataError, match="^here, frame 3: [^\n]+$"):
        read_label(data, "here, frame 3")


def test_a_call_is_refused_and_not_made(tmp_path):
    with pytest.raises(DataError, match="posix.mkdir, which is not allowed"):
        read_label(pickle.dumps(Call(tmp_path / "made")), "x")
    assert not (tmp_path / "made").exists()


def test_a_label_cannot_change_how_the_next_is_read():
    """A pickle may set attributes on what it names: here, it would take away an argument's default."""
    tamper = b"\x80\x04ctorch._utils\n_rebuild_tensor_v2\nN}\x8c\x0c__defaults__)s\x86b."
    with pytest.raises(DataError, match="it sets attributes of a Name"):
        read_label(tamper, "x")
    assert torch.equal(read_label(pack_label(torch.ones(2)), "x"), torch.ones(2))


def test_a_huge_label_is_refused(monkeypatch):
    monkeypatch.setattr(stores, "MAX_LABEL_BYTES", 1000)
    with pytest.raises(DataError, match="wanted at most 1000"):
        read_label(pack_label(torch.zeros(1000)), "x")


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_label_or_an_error(data):
    with pytest.raises(DataError):
        read_label(data, "x")


@given(position=st.integers(0, 1200), byte=st.integers(0, 255))
def test_any_damage_gives_a_tensor_or_an_error(position, byte):
    data = bytearray(pack_label(torch.zeros(17, 2, 1)))
    data[position % len(data)] = byte
    try:
        assert read_label(bytes(data), "x").dtype == torch.float32
    except DataError as error:
        assert "\n" not in str(error)


def test_equal_labels_have_equal_bytes_and_torch_reads_them():
    label = torch.randn(135, 3, 1)
    # Both are alive at once, so their storages have different addresses.
    other = label.clone()
    assert pack_label(label) == pack_label(other)
    # Its own bytes: this is what the original's reader does with them.
    assert torch.equal(pickle.loads(pack_label(label)), label)
