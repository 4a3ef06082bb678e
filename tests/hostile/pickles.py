"""Pickles that call, that ask for too much, and that are none."""

import pickle
import random
import struct
from collections.abc import Iterator

Files = Iterator[tuple[str, bytes]]

WITNESS = "open('witness', 'w').close()"
SHELL = "touch witness"
HUGE = 10**12
# What a pickle could name, and what it could call that with.
CALLS = {
    "os.system": (SHELL,),
    "posix.system": (SHELL,),
    "nt.system": (SHELL,),
    "os.mkdir": ("witness",),
    "os.popen": (SHELL,),
    "os.execvp": ("touch", ["touch", "witness"]),
    "os._exit": (0,),
    "os.kill": (0, 9),
    "pathlib.Path.touch": ("witness",),
    "shutil.copy": ("/etc/hostname", "witness"),
    "subprocess.Popen": (["touch", "witness"],),
    "subprocess.check_output": (["touch", "witness"],),
    "pty.spawn": (["touch", "witness"],),
    "builtins.eval": (WITNESS,),
    "builtins.exec": (WITNESS,),
    "__builtin__.eval": (WITNESS,),
    "builtins.open": ("witness", "w"),
    "builtins.compile": (WITNESS, "x", "exec"),
    "builtins.__import__": ("antigravity",),
    "builtins.getattr": ("text", "format"),
    "builtins.input": (),
    "builtins.breakpoint": (),
    "builtins.bytearray": (HUGE,),
    "builtins.bytes": (HUGE,),
    "builtins.list": ("x" * 1000,),
    "builtins.range": (HUGE,),
    "builtins.set": (["a"],),
    "importlib.import_module": ("antigravity",),
    "runpy.run_path": ("witness",),
    "code.interact": (),
    "marshal.loads": (b"\xe3",),
    "pickle.loads": (b"cos\nsystem\n(X\x0d\x00\x00\x00touch witnesstR.",),
    "_pickle.loads": (b"N.",),
    "types.CodeType": (),
    "types.FunctionType": (),
    "functools.partial": ("text",),
    "operator.attrgetter": ("__class__",),
    "operator.methodcaller": ("__class__",),
    "copyreg._reconstructor": ("a", "b", None),
    "copyreg.__newobj__": ("a",),
    "ctypes.CDLL": ("libc.so.6",),
    "socket.create_connection": (("127.0.0.1", 9),),
    "webbrowser.open": ("file:///dev/null",),
    "collections.Counter": ("aab",),
    "collections.deque": ([], 1),
    "collections.OrderedDict": ("not pairs",),
    "_codecs.encode": ("text", "rot13"),
    "_codecs.decode": (b"text", "zip"),
    "numpy.load": ("witness",),
    "numpy.memmap": ("witness", "uint8", "w+", 0, (4,)),
    "numpy.zeros": ((HUGE,),),
    "numpy.ndarray": ((HUGE,),),
    "numpy.dtype": ([("a", "O")],),
    "numpy.core.multiarray.scalar": (1, 2),
    "numpy.core.multiarray._reconstruct": (1, (HUGE,), b"b"),
    "numpy.testing._private.utils.runstring": (WITNESS, {}),
    "torch.load": ("witness",),
    "torch.save": ({}, "witness"),
    "torch.hub.load": ("a/b", "c"),
    "torch.jit.load": ("witness",),
    "torch.zeros": (HUGE,),
    "torch.Tensor": (HUGE,),
    "torch.FloatTensor": (HUGE,),
    "torch.UntypedStorage": (HUGE,),
    "torch.nn.modules.linear.Linear": (10**6, 10**6),
    "torch.storage._load_from_bytes": (b"\x80\x02cos\nsystem\n(X\x0d\x00\x00\x00touch witnesstR.",),
    "torch._utils._rebuild_tensor_v2": (1, 2, 3),
    "torch._utils._rebuild_meta_tensor_no_storage": (1, (HUGE,), (1,), False),
    "torch._utils._rebuild_sparse_tensor": (1, 2),
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": (1, 2, "cpu", False),
    "torch._tensor._rebuild_from_type_v2": (1, 2, 3, 4),
    "torch.fx.graph_module.reduce_graph_module": ({}, ""),
    "hvs.checkpoint.save_model": ("witness", 1),
}


def raw(value) -> bytes:
    """The operations that push a value, without a pickle's start and end."""
    return pickle.dumps(value, 2)[2:-1]


def call(name: str, *arguments) -> bytes:
    """The operations that push what a function returns; arguments may be operations too."""
    module, _, last = name.rpartition(".")
    return b"c" + f"{module}\n{last}\n".encode() + b"(" + b"".join(map(pushed, arguments)) + b"tR"


class Ops(bytes):
    """Operations in the place of a value."""


def pushed(value) -> bytes:
    return value if isinstance(value, Ops) else raw(value)


def whole(operations: bytes) -> bytes:
    return b"\x80\x02" + operations + b"."


def bare(data: bytes) -> bytes:
    """The operations of a whole pickle."""
    return data[2:-1] if data[:1] == b"\x80" else data


def pickles() -> Files:
    """Pickles that are neither a tensor, nor an array, nor a checkpoint, and would rather be something else."""
    for name, arguments in CALLS.items():
        yield f"call {name}", whole(call(name, *arguments))
    for name in ("os.system", "builtins.eval"):
        module, last = name.split(".")
        said = SHELL if module == "os" else WITNESS
        text = raw(said)
        yield f"stack global {name}", b"\x80\x04" + raw(module) + raw(last) + b"\x93" + text + b"\x85R."
        yield f"instance {name}", f'(S"{said}"\ni{module}\n{last}\n.'.encode()
        yield f"object {name}", whole(b"(c" + f"{module}\n{last}\n".encode() + text + b"o")
        yield f"new object {name}", whole(b"c" + f"{module}\n{last}\n".encode() + text + b"\x85\x81")
        yield f"new object with names {name}", b"\x80\x04c" + f"{module}\n{last}\n".encode() + text + b"\x85}\x92."
        yield f"build {name}", whole(b"c" + f"{module}\n{last}\n".encode() + raw({"__class__": 1}) + b"b")
    yield "dotted name", whole(b"cos\npath.os.system\n" + raw(SHELL) + b"\x85R")
    yield "a very long name", whole(b"c" + b"a" * 10**6 + b"\nb\n)R")
    yield "names again and again", b"\x80\x04" + raw("a" * 10**6) + b"q\x00" + b"h\x00h\x00\x93" * 10**5 + b"."
    yield "extension", whole(b"\x82\x01")
    yield "text of the first protocol", b"cos\nsystem\n(S'touch witness'\ntR."
    yield from bombs()
    for code in range(256):
        yield f"operation {code:02x}", whole(bytes([code]))


def bombs() -> Files:
    """Pickles that ask for memory or time."""
    for index in (10**6, 2**31, 2**32 - 1):
        yield f"memo put {index}", whole(b"]r" + struct.pack("<I", index))
        yield f"memo get {index}", whole(b"j" + struct.pack("<I", index))
    for name, start in {"X": b"X\xff\xff\xff\xff", "B": b"B\xff\xff\xff\xff", "T": b"T\xff\xff\xff\x7f"}.items():
        yield f"length {name}", whole(start + b"abc")
    for code in (b"\x8d", b"\x8e", b"\x96", b"\x95"):
        for length in (2**31, 2**40, 2**63 - 1, 2**64 - 1):
            yield f"length {code.hex()} {length}", b"\x80\x05" + code + struct.pack("<Q", length) + b"abc."
    yield "long number", whole(b"\x8b" + struct.pack("<i", 2**31 - 1) + b"\xff")
    yield "negative number", whole(b"\x8b" + struct.pack("<i", -1))
    yield "a number of a million digits", b"I" + b"9" * 10**6 + b"\n."
    yield "deep lists", whole(b"]" * 100_000 + b"a" * 99_999)
    yield "deep tuples", whole(b")" + b"\x85" * 100_000)
    yield "deep dicts", whole(b"}N" * 100_000 + b"}" + b"s" * 100_000)
    yield "many marks", whole(b"(" * 100_000)
    yield "many dicts", whole(b"(" + b"}" * 2_050_000 + b"t")
    yield "many pops", whole(b"]" + b"0" * 10)
    doubled = b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(100))
    yield "a tuple that doubles", whole(b")q\x00" + doubled)
    yield "a key that doubles", whole(b"})q\x00" + doubled + b"Ns")
    yield "a set of what doubles", b"\x80\x04\x8f()q\x00" + doubled + b"\x90."
    yield "a list in itself", whole(b"]q\x00h\x00a")
    yield "a dict in itself", whole(b"}q\x00X\x01\x00\x00\x00ah\x00s")
    numbers = b"".join(raw(i * (2**61 - 1)) + b"N" for i in range(5000))
    yield "keys that collide", whole(b"}(" + numbers + b"u")
    long = raw("a" * 10**6)
    yield "long keys", whole(b"}q\x00" + long + b"Ns" + long + b"q\x01" + b"h\x01Ns" * 20_000)
    pairs = raw([("a", 1)] * 1000) + b"q\x63"
    yield "dicts of pairs", whole(pairs + b"ccollections\nOrderedDict\nq\x620" + b"h\x62h\x63\x85R" * 20_000)
    encode = b"c_codecs\nencode\nq\x61" + raw("a" * 10**6) + b"q\x62" + raw("latin1") + b"q\x63"
    yield "bytes again and again", whole(encode + b"h\x61h\x62h\x63\x86R" * 20_000)
    yield "unhashable key", whole(b"}]Ns")
    yield "nothing", b""
    yield "no end", b"\x80\x02N"
    yield "protocol 99", b"\x80\x63N."
    yield "no pickle", b"hello, this is text"
    yield "reference", whole(raw(("storage", "x", "0", "cpu", 4)) + b"Q")


def as_bytes(data: bytes) -> Ops:
    return Ops(b"B" + struct.pack("<I", len(data)) + data)


def flipped(data: bytes, count: int, seed: int = 0) -> Files:
    """A file with one to three bytes changed."""
    generator = random.Random(seed)
    for number in range(count):
        changed = bytearray(data)
        for _ in range(generator.randint(1, 3)):
            changed[generator.randrange(len(data))] = generator.randrange(256)
        yield f"flip {number}", bytes(changed)


def truncated(data: bytes, step: int = 1) -> Files:
    for length in range(0, len(data), step):
        yield f"cut {length}", data[:length]
