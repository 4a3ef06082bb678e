"""Arrays that are not what they say, in .npz files."""

import io
import struct

import numpy as np

from .pickles import HUGE, Files, as_bytes, bare, call, pickles, raw, truncated, whole
from .zips import BOMB, Entry, lying_zips, raw_zip, zeros_bomb


def array(shape=(3,), code="f4", order="<", data=bytes(12), kind="numpy.ndarray", state=None) -> bytes:
    """The operations of a numpy array as its pickles have them."""
    module, _, last = kind.rpartition(".")
    made = (
        b"cnumpy.core.multiarray\n_reconstruct\n(c"
        + f"{module}\n{last}\n".encode()
        + raw((0,))
        + as_bytes(b"b")
        + b"tR"
    )
    dtype = call("numpy.dtype", code, False, True) + raw((3, order, None, None, None, -1, -1, 0)) + b"b"
    held = as_bytes(data) if isinstance(data, bytes) else raw(data)
    return made + (b"(K\x01" + raw(shape) + dtype + b"\x89" + held + b"t" if state is None else raw(state)) + b"b"


ARRAYS = {
    "giant": array(shape=(HUGE,)),
    "negative": array(shape=(-3,)),
    "twice negative": array(shape=(-1, -3)),
    "overflowing": array(shape=(2**62, 4)),
    "beyond integers": array(shape=(2**70,)),
    "many axes": array(shape=(1,) * 5000),
    "truth": array(shape=(True,) * 3),
    "list": array(shape=[3]),
    "too short": array(data=bytes(11)),
    "too long": array(data=bytes(13)),
    "records": array(code="V12", shape=(1,)),
    "text": array(code="U3", shape=(1,)),
    "dates": array(code="M8"),
    "complex": array(code="c8"),
    "long doubles": array(code="f16"),
    "no type": array(code=7),
    "byte order": array(order="?"),
    "objects, giant": array(code="O8", order="|", shape=(HUGE,), data=[1]),
    "objects, bytes": array(code="O8", order="|", shape=(), data=bytes(8)),
    "objects, none": array(code="O8", order="|", shape=(), data=[]),
    "objects, matrix": array(code="O8", order="|", shape=(1, 1), data=[1]),
    "another class": array(kind="numpy.matrix"),
    "class that runs": array(kind="os.system"),
    "state number": array(state=7),
    "state short": array(state=(1, 2)),
    "built twice": array() + raw((1, (3,), None, False, b"")) + b"b",
    "not built": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + raw((0,)) + as_bytes(b"b") + b"tR",
    "dtype alone": call("numpy.dtype", "f4", False, True),
}
HEADERS = {
    "giant": "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}",
    "overflowing": "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}",
    "negative": "{'descr': '<f4', 'fortran_order': False, 'shape': (-3,)}",
    "text shape": "{'descr': '<f4', 'fortran_order': False, 'shape': 'abc'}",
    "fraction": "{'descr': '<f4', 'fortran_order': False, 'shape': (3.0,)}",
    "truth": "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 3)}",
    "too few": "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}",
    "too many": "{'descr': '<f4', 'fortran_order': False, 'shape': (4,)}",
    "many axes": "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1," * 300 + ")}",
    "void": "{'descr': 'V1000000000', 'fortran_order': False, 'shape': (3,)}",
    "text": "{'descr': '<U3', 'fortran_order': False, 'shape': (1,)}",
    "text of any length": "{'descr': '<U999999999', 'fortran_order': False, 'shape': (0,)}",
    "dates": "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (1,)}",
    "complex": "{'descr': '<c16', 'fortran_order': False, 'shape': (1,)}",
    "records": "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,)}",
    "records of objects": "{'descr': [('a', 'O')], 'fortran_order': False, 'shape': (3,)}",
    "sub-arrays": "{'descr': ('<f4', (1000000, 1000)), 'fortran_order': False, 'shape': ()}",
    "many types": "{'descr': '" + "f4," * 200 + "', 'fortran_order': False, 'shape': ()}",
    "no type": "{'descr': 7, 'fortran_order': False, 'shape': (3,)}",
    "order": "{'descr': '<f4', 'fortran_order': 'no', 'shape': (3,)}",
    "keys missing": "{'descr': '<f4', 'shape': (3,)}",
    "keys extra": "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'x': 1}",
    "code": "__import__('os').mkdir('witness')",
    "code inside": "{'descr': '<f4', 'fortran_order': False, 'shape': (open('witness', 'w'),)}",
    "comprehension": "{'descr': '<f4', 'fortran_order': False, 'shape': tuple(x for x in (3,))}",
    "power": "{'descr': '<f4', 'fortran_order': False, 'shape': (9**9**9,)}",
    "parentheses": "(" * 900,
    "minus": "-" * 900 + "1",
    "not": "not " * 200 + "1",
    "digits": "9" * 900,
    "null": "\0" * 100,
    "nothing": "",
    "long": "{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}" + " " * 20_000,
}


def npy(header: str, data: bytes = bytes(12), version: int = 1) -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + data


def objects(operations: bytes, shape: str = "()") -> bytes:
    return npy("{'descr': '|O', 'fortran_order': False, 'shape': " + shape + "}", operations)


def boxed(content: bytes) -> bytes:
    """The operations of a 0-d array of objects around one value's."""
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + raw((0,)) + as_bytes(b"b") + b"tR"
    dtype = call("numpy.dtype", "O8", False, True) + raw((3, "|", None, None, None, -1, -1, 63)) + b"b"
    return made + b"(K\x01)" + dtype + b"\x89](" + content + b"etb"


def archives() -> Files:
    """For :func:`hvs.data.npz.read_object_npz`."""
    buffer = io.BytesIO()
    poses = {"S1": {"Walking 1": [np.ones((1, 17, 2), np.float32)]}}
    np.savez_compressed(buffer, positions_2d=poses)
    good = buffer.getvalue()
    yield from truncated(good)
    for name, data in pickles():
        # A list or a number is a fine thing to find in an object array.
        if not name.startswith(("operation", "memo put", "protocol")):
            yield f"object {name}", raw_zip([("a.npy", objects(data))])
            yield f"boxed {name}", raw_zip([("a.npy", objects(whole(boxed(bare(data)))))])
    for name, operations in ARRAYS.items():
        yield f"array {name}", raw_zip([("a.npy", objects(whole(operations)))])
        yield f"boxed array {name}", raw_zip([("a.npy", objects(whole(boxed(operations))))])
    for name, header in HEADERS.items():
        yield f"header {name}", raw_zip([("a.npy", npy(header))])
        yield f"header 2 {name}", raw_zip([("a.npy", npy(header, version=2))])
    fine = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}")
    yield "magic", raw_zip([("a.npy", b"X" + fine[1:])])
    yield "version", raw_zip([("a.npy", fine[:6] + b"\x09\x00" + fine[8:])])
    yield "header length", raw_zip([("a.npy", fine[:6] + b"\x02\x00\xff\xff\xff\xff" + fine[10:])])
    yield "no array", raw_zip([("readme.txt", b"hello")])
    yield "a bomb", raw_zip([Entry("a.npy", zeros_bomb(), method=8, size=BOMB)])
    yield "a bomb of many", raw_zip([Entry(f"{i}.npy", zeros_bomb(), method=8, size=BOMB) for i in range(3)])
    yield "a bomb that lies", raw_zip([Entry("a.npy", zeros_bomb(), method=8, size=100)])
    yield from lying_zips([("a.npy", fine)])
