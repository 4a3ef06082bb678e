"""Storages and tensors that are not what they say, in labels and in torch's older format."""

import io
import struct

import torch

from hvs.data.stores import pack_label

from .pickles import HUGE, Files, Ops, as_bytes, call, pickles, raw, truncated, whole


def legacy(content: bytes, keys=(), storages=b"", magic=None, version=1001, little=True) -> bytes:
    """A file as torch wrote it before 1.6; the content is given as operations."""
    head = raw(torch.serialization.MAGIC_NUMBER) if magic is None else magic
    info = raw({"protocol_version": 1001, "little_endian": little, "type_sizes": {}})
    return b"".join(map(whole, (head, raw(version), info, content, raw(list(keys))))) + storages


def storage(count=4, kind="torch.FloatStorage", key="0", rest=(None,), tag="storage") -> Ops:
    """The operations of a storage's name; the number of elements is whatever is given."""
    module, _, last = kind.rpartition(".")
    parts = b"".join(raw(part) for part in (key, "cpu", count, *rest))
    return Ops(b"(" + raw(tag) + b"c" + f"{module}\n{last}\n".encode() + parts + b"tQ")


NUMBERS = struct.pack("<q4f", 4, 1, 2, 3, 4)
# Of a tensor over a storage of four: offset, shape, strides.
VIEWS = {
    "giant": (0, (HUGE,), (1,)),
    "stride zero": (0, (HUGE,), (0,)),
    "square of stride zero": (0, (10**6, 10**6), (0, 0)),
    "one too many": (0, (5,), (1,)),
    "behind": (4, (1,), (1,)),
    "far behind": (2**61, (1,), (1,)),
    "before": (-1, (1,), (1,)),
    "backwards": (3, (4,), (-1,)),
    "negative": (0, (-4,), (1,)),
    "twice negative": (0, (-2, -2), (1, 1)),
    "wide": (0, (2, 2), (10**9, 1)),
    "overflowing": (0, (2**62, 4), (2**62, 1)),
    "beyond integers": (0, (2**70,), (1,)),
    "fewer strides": (0, (2, 2), (1,)),
    "more strides": (0, (2,), (1, 1)),
    "many axes": (0, (1,) * 5000, (1,) * 5000),
    "list": (0, [2], [1]),
    "truth": (0, (True,), (True,)),
    "fractions": (0, (2.0,), (1.0,)),
    "text": (0, "ab", "cd"),
    "nothing": (None, None, None),
}
STORAGES = {
    "giant": storage(HUGE),
    "beyond integers": storage(2**70),
    "negative": storage(-1),
    "text": storage("4"),
    "truth": storage(True),
    "another size": storage(3),
    "unknown class": storage(kind="os.system"),
    "untyped": storage(kind="torch.storage.UntypedStorage"),
    "complex": storage(kind="torch.ComplexFloatStorage"),
    "number as key": storage(key=0),
    "long key": storage(key="0" * 10_000),
    "path as key": storage(key="../../../etc/passwd"),
    "view": storage(rest=(("1", 0, 10**9),)),
    "module": storage(tag="module"),
    "short": Ops(raw(("storage",)) + b"Q"),
    "number": Ops(b"K\x01Q"),
}
REBUILD = "torch._utils._rebuild_tensor_v2"


def tensor(offset=0, shape=(4,), strides=(1,), over: bytes | None = None) -> bytes:
    """The operations of a tensor."""
    hooks = Ops(b"ccollections\nOrderedDict\n)R")
    return call(REBUILD, Ops(storage() if over is None else over), offset, shape, strides, False, hooks)


def legacy_files(pack) -> Files:
    """Legacy files; ``pack`` makes the content out of a tensor's operations."""
    for name, view in VIEWS.items():
        yield f"legacy view {name}", legacy(pack(tensor(*view)), ["0"], NUMBERS)
    for name, over in STORAGES.items():
        yield f"legacy storage {name}", legacy(pack(tensor(over=over)), ["0"], NUMBERS)
    good = pack(tensor())
    yield "legacy version", legacy(good, ["0"], NUMBERS, version=1000)
    yield "legacy magic", legacy(good, ["0"], NUMBERS, magic=raw(7))
    yield "legacy byte order", legacy(good, ["0"], NUMBERS, little=False)
    yield "legacy no keys", legacy(good, [], NUMBERS)
    yield "legacy other keys", legacy(good, ["1"], NUMBERS)
    yield "legacy keys twice", legacy(good, ["0", "0"], NUMBERS * 2)
    yield "legacy keys of lists", legacy(good, [["0"]], NUMBERS)
    yield "legacy count", legacy(good, ["0"], struct.pack("<q4f", 2**40, 1, 2, 3, 4))
    yield "legacy truncated", legacy(good, ["0"], NUMBERS[:-1])
    yield "legacy nothing behind", legacy(good, ["0"])
    shared = b"".join(b"h\x55(h\x50K\x00K\x04\x85K\x01\x85\x89}tR" for _ in range(1000))
    many = b"ctorch._utils\n_rebuild_tensor_v2\nq\x55" + storage() + b"q\x50(" + shared + b"t\x86"
    yield "legacy many views", legacy(pack(many), ["0"], NUMBERS)


def labels() -> Files:
    """For :func:`hvs.data.stores.read_label`."""
    good = pack_label(torch.ones(17, 2, 1))
    yield from pickles()
    yield from truncated(good)
    load = "torch.storage._load_from_bytes"
    # A label's storage is a whole legacy file in itself.
    for name, data in legacy_files(lambda operations: operations):
        yield f"tensor as storage, {name}", whole(tensor(over=call(load, Ops(Ops(as_bytes(data))))))
    for name, view in VIEWS.items():
        over = call(load, Ops(as_bytes(legacy(storage(), ["0"], NUMBERS))))
        yield f"view {name}", whole(tensor(*view, over=over))
    for name, over in STORAGES.items():
        yield f"storage {name}", whole(tensor(over=call(load, Ops(as_bytes(legacy(over, ["0"], NUMBERS))))))
    for kind in ("Long", "Int", "Bool", "Byte"):
        over = call(load, Ops(as_bytes(legacy(storage(kind=f"torch.{kind}Storage"), ["0"], NUMBERS + bytes(64)))))
        yield f"type {kind}", whole(tensor(over=over))
    buffer = io.BytesIO()
    torch.save(torch.zeros(4).untyped_storage(), buffer)
    yield "zip as storage", whole(tensor(over=call(load, Ops(as_bytes(buffer.getvalue())))))
    stored = as_bytes(legacy(storage(10**5), ["0"], struct.pack("<q", 10**5) + bytes(4 * 10**5)))
    again = b"q\x50ctorch.storage\n_load_from_bytes\nq\x51" + b"h\x51h\x50\x85R" * 20_000
    yield "one storage again and again", whole(stored + again)
