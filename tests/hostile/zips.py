"""Zips that lie about what is in them."""

import struct
import zlib

from .pickles import Files

# A raw deflate stream of this many zeros, in pieces that do not refer to one another.
PIECE, PIECES = 16 * 2**20, 200
BOMB = PIECE * PIECES


def zeros_bomb() -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    piece = packer.compress(bytes(PIECE)) + packer.flush(zlib.Z_FULL_FLUSH)
    return piece * PIECES + b"\x03\x00"


class Entry:
    """One file of a zip, which may lie about itself."""

    def __init__(self, name, data, method=0, size=None, packed=None, crc=None, flags=0, offset=None):
        self.name, self.data, self.method, self.flags, self.offset = name.encode(), data, method, flags, offset
        self.size = len(data) if size is None else size
        self.packed = len(data) if packed is None else packed
        self.crc = zlib.crc32(data) if crc is None else crc

    def fields(self) -> bytes:
        sizes = min(self.packed, 2**32 - 1), min(self.size, 2**32 - 1)
        return struct.pack("<HHHHIIIHH", self.flags, self.method, 0, 0x21, self.crc, *sizes, len(self.name), 0)


def raw_zip(entries, count: int | None = None, shift: int = 0) -> bytes:
    """A zip written by hand; ``entries`` are (name, data) or :class:`Entry`."""
    entries = [entry if isinstance(entry, Entry) else Entry(*entry) for entry in entries]
    body, directory = b"", b""
    for entry in entries:
        offset = len(body) if entry.offset is None else entry.offset
        directory += b"PK\1\2\x14\0\x14\0" + entry.fields() + struct.pack("<HHHII", 0, 0, 0, 0, offset) + entry.name
        body += b"PK\3\4\x14\0" + entry.fields() + entry.name + entry.data
    number = min(len(entries) if count is None else count, 65535)
    place = len(directory), len(body) + shift
    return body + directory + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, number, number, *place, 0)


def lying_zips(parts: list[tuple[str, bytes]]) -> Files:
    """A good zip whose last file lies about itself."""
    *rest, (name, data) = parts
    lies = {
        "size": dict(size=2**32 - 2),
        "packed size": dict(packed=2**32 - 2),
        "both sizes": dict(size=2**31, packed=2**31),
        "smaller": dict(size=3, packed=3),
        "crc": dict(crc=1),
        "encrypted": dict(flags=1),
        "method": dict(method=99),
        "deflated": dict(method=8),
        "bzip2": dict(method=12),
        "lzma": dict(method=14),
        "offset": dict(offset=2**31),
        "offset inside": dict(offset=5),
    }
    for title, lie in lies.items():
        yield f"zip {title}", raw_zip([*rest, Entry(name, data, **lie)])
    for path in ("../../witness", "/witness", "a/../../witness", "C:\\witness", "x" * 60_000, "a\0b"):
        yield f"zip path {path[:20]!r}", raw_zip([(path, b"hello")])
    yield "zip empty", raw_zip([])
    yield "zip directory elsewhere", raw_zip(parts, shift=10_000)
    yield "zip of many", raw_zip([(str(i), b"") for i in range(3000)])
