"""Checkpoints of every format that are none."""

import io
import json
import struct

import torch

from tests.originals import SETTINGS, hyper_parameters

from .pickles import HUGE, Files, bare, pickles, raw, truncated, whole
from .torch_files import NUMBERS, STORAGES, VIEWS, legacy, legacy_files, storage, tensor
from .zips import BOMB, Entry, lying_zips, raw_zip, zeros_bomb


def checkpoints() -> Files:
    """For :func:`hvs.load`."""
    for name, data in pickles():
        yield f"bare {name}", data
        yield f"zipped {name}", zipped(data)
        if not name.startswith(("operation", "call")):
            yield f"legacy {name}", legacy(bare(data))
    for name, data in legacy_files(lightning):
        yield name, data
    for name, view in VIEWS.items():
        yield f"zipped view {name}", zipped(whole(lightning(tensor(*view))))
    for name, over in STORAGES.items():
        yield f"zipped storage {name}", zipped(whole(lightning(tensor(over=over))))
    fine = whole(lightning(tensor()))
    parts = [("a/data.pkl", fine), ("a/data/0", NUMBERS[8:])]
    yield from lying_zips(parts)
    yield from ((f"pickle last, {name}", data) for name, data in lying_zips(parts[::-1]))
    yield "two pickles", raw_zip([*parts, ("b/data.pkl", fine)])
    yield "no storage", raw_zip(parts[:1])
    yield "short storage", raw_zip([parts[0], ("a/data/0", NUMBERS[9:])])
    yield "long storage", raw_zip([parts[0], ("a/data/0", NUMBERS)])
    yield "byte order", raw_zip([*parts, ("a/byteorder", b"big")])
    bomb = whole(lightning(tensor(0, (BOMB // 4,), (1,), storage(BOMB // 4))))
    yield "a bomb", raw_zip([("a/data.pkl", bomb), Entry("a/data/0", zeros_bomb(), method=8, size=BOMB)])
    yield "a bomb for a pickle", raw_zip([Entry("a/data.pkl", zeros_bomb(), method=8, size=BOMB)])
    buffer = io.BytesIO()
    torch.save({"state_dict": {"model.x": torch.ones(3)}, "hyper_parameters": hyper_parameters()}, buffer)
    yield from truncated(buffer.getvalue(), 23)
    for name, hyper in HYPERS.items():
        buffer = io.BytesIO()
        torch.save({"state_dict": {"model.x": torch.ones(3)}, "hyper_parameters": hyper_parameters() | hyper}, buffer)
        yield f"hyper-parameter {name}", buffer.getvalue()
    yield from safetensors()


def zipped(data: bytes) -> bytes:
    return raw_zip([("a/data.pkl", data), ("a/data/0", NUMBERS[8:])])


def lightning(operations: bytes) -> bytes:
    """The operations of a Lightning file with one entry, the tensor that the operations make."""
    hyper = {name: value for name, value in hyper_parameters().items() if name != "widths"}
    state = b"}X\x07\x00\x00\x00model.x" + operations + b"s"
    return b"}" + raw("hyper_parameters") + raw(hyper) + b"s" + raw("state_dict") + state + b"s"


HYPERS = {
    "d_embedding": dict(d_embedding=32 * 10**9),
    "beyond integers": dict(d_embedding=2**500),
    "base_channels": dict(base_channels=8 * 10**9),
    "features": dict(appearance_features=10**15),
    "resolution": dict(target_resolution=10**15),
    "fraction": dict(input_resolution=64.5),
    "infinity": dict(input_resolution=float("inf")),
    "no number": dict(dropout=float("nan")),
    "text": dict(base_channels="x" * 10**6),
    "dict": dict(base_channels={"a": 1}),
    "nothing": dict(base_channels=None),
    "tensor": dict(base_channels=torch.ones(1000)),
    "joints": dict(joints={str(i): i for i in range(10_000)}),
    "joints twice": dict(joints={"a": 0, "b": 0}),
    "joints deep": dict(joints={"a": [[[[]]]]}),
    "many edges": dict(edges=((0, 1),) * 10**5, widths=torch.ones(10**5)),
    "edges apart": dict(edges=((0, 10**9),) * 16),
    "edges of text": dict(edges="ab" * 8),
    "widths": dict(widths=torch.full((16, 1, 1), float("inf"))),
    "no widths": dict(widths=None),
}
PATHS = (
    "../../../etc/passwd",
    "/etc/passwd",
    "file:///etc/passwd",
    "~/.ssh/id_rsa",
    "%2e%2e/x",
    "human36m/../panoptic",
    "\x00",
    "${HOME}",
)
FAULTY_SETTINGS = {
    **{f"path {path!r}": json.dumps({"skeleton": path}) for path in PATHS},
    **{f"joint {path!r}": json.dumps({"joints": [path] * 2}) for path in PATHS},
    **{
        name: json.dumps({name: value})
        for name, value in {"d_embedding": 32 * 10**9, "base_channels": 8 * 10**9}.items()
    },
    "limbs": json.dumps({"limbs": [[0, 10**9, 0.1]]}),
    "limbs of text": json.dumps({"limbs": ["abc"]}),
    "limbs of nothing": json.dumps({"limbs": []}),
    "joints of number": json.dumps({"joints": 7}),
    "unknown": json.dumps({"__class__": "x"}),
    "infinity": '{"alpha": Infinity}',
    "no number": '{"dropout": NaN}',
    "digits": '{"d_embedding": ' + "9" * 100_000 + "}",
    "exponent": '{"alpha": 1e999}',
    "deep": "[" * 200_000,
    "deep dicts": '{"a":' * 100_000,
    "list": "[]",
    "null": "null",
    "text": '"panoptic"',
    "empty": "",
    "surrogate": '{"skeleton": "\\ud800"}',
}


def safetensors() -> Files:
    """Of this project's own format."""
    header = {
        "__metadata__": {"format": "hvs", "version": "1", "settings": SETTINGS.to_json(), "extra": "{}"},
        "lifter.head.bias": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    }

    def file(entry=None, data=bytes(8), length=None, **metadata) -> bytes:
        changed = header | {"__metadata__": header["__metadata__"] | metadata} | (entry or {})
        text = json.dumps(changed).encode()
        return struct.pack("<Q", len(text) if length is None else length) + text + data

    yield from ((f"own cut {length}", file()[:length]) for length in range(0, len(file()), 3))
    for length in (0, 1, 2**20, 2**31, 2**40, 2**63, 2**64 - 1):
        yield f"own header of {length}", file(length=length)
    for name, settings in FAULTY_SETTINGS.items():
        yield f"own settings {name}", file(settings=settings)
        yield f"own extra {name}", file(extra=settings)
    for version in ("", "0", "3", "-1", "1e0", "one", "9" * 10_000):
        yield f"own version {version[:9]}", file(version=version)
    for name, entry in {
        "offsets swapped": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        "offsets beyond": {"dtype": "F32", "shape": [2], "data_offsets": [2**40, 2**40 + 8]},
        "offsets negative": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]},
        "offsets long": {"dtype": "F32", "shape": [2], "data_offsets": [0, 2**62]},
        "shape giant": {"dtype": "F32", "shape": [HUGE], "data_offsets": [0, 8]},
        "shape overflowing": {"dtype": "F32", "shape": [2**62, 8], "data_offsets": [0, 8]},
        "shape negative": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
        "shape text": {"dtype": "F32", "shape": "two", "data_offsets": [0, 8]},
        "type": {"dtype": "PICKLE", "shape": [2], "data_offsets": [0, 8]},
        "type number": {"dtype": 7, "shape": [2], "data_offsets": [0, 8]},
        "nothing": None,
    }.items():
        yield f"own entry {name}", file({"lifter.head.bias": entry})
    yield "own entries overlapping", file({"b": header["lifter.head.bias"]})
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [8, 8]}
    yield "own many entries", file({f"a/../{i}": empty for i in range(5000)})
    yield "own more data", file(data=bytes(100))
    yield "own name with lines", file({"a\nb\x1b[2J": empty})
    yield "own no text", struct.pack("<Q", 100) + b"\xff" * 200
    yield "own deep", struct.pack("<Q", 200_000) + b"[" * 200_000
