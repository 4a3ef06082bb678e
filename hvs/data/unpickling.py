"""Pickles read as data: nothing that a file names is imported or called, and no more is allocated than a file holds.

This is the standard library's unpickler written in Python, with most of its operations removed. Its twin in C obeys
files that ask for tables of 2^32 entries or for buffers of any size, and both hash and compare whatever they find. What
is left makes numbers, text, lists, tuples and dicts, and calls the functions in a table that the caller provides.
"""

import io
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO

# Every operation makes at most one small object, so this bounds memory and time whatever the file says.
MAX_OPERATIONS = 2_000_000
# Hashing and comparing long keys again and again would take forever.
MAX_NAME = 500
# Counted as in a tree: lists that hold the same list twice, nested many times over, unfold to any size.
MAX_VALUES, MAX_DEPTH = 1_000_000, 32

Refusal = pickle.UnpicklingError


class Name:
    """A class or function that a file names. It is inert, and only a call can turn it into a value."""

    __slots__ = ("call", "name")

    def __init__(self, name: str, call: Callable | None) -> None:
        self.name, self.call = name, call


class Placeholder:
    """Stands in for every object of an unknown class."""

    __slots__ = ()


PLACEHOLDER = Placeholder()


class Unbuilt:
    """An object that a pickle makes first and fills by a later operation, which hands ``build`` its state."""

    __slots__ = ("build", "built", "value")

    def __init__(self, build: Callable[[Any], Any]) -> None:
        self.build, self.built, self.value = build, False, None


class Budget:
    """How many bytes may still be made from one file."""

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise Refusal("it declares more data than it holds")


class Bounded:
    """The first ``size`` bytes of a file; no more are ever read, whatever is asked for."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.left = file, size

    def read(self, size: int) -> bytes:
        data = self.file.read(max(0, min(size, self.left)))
        self.left -= len(data)
        return data

    def readline(self) -> bytes:
        line = self.file.readline(min(self.left, MAX_NAME))
        self.left -= len(line)
        return line


def unpickle(
    source: bytes | Bounded,
    calls: Mapping[str, Callable | None] | None = None,
    *,
    persistent: Callable[[Any], Any] | None = None,
    lenient: bool = False,
) -> Any:
    """The content of a pickle, read from the source's position to the end of the pickle.

    Args:
        source: the pickle, or a file positioned at its start.
        calls: what the file may name, "module.name" -> the function that is called instead; None if the name is only
            passed to another function. A function must not make more than its arguments hold.
        persistent: makes the objects that are stored outside the pickle from their names.
        lenient: whether a name that is not in ``calls``, and everything made with it, becomes :data:`PLACEHOLDER`;
            otherwise it is refused.

    Raises:
        pickle.UnpicklingError: the file is damaged, or asks for more than data; the message is one line.
    """
    source = Bounded(io.BytesIO(source), len(source)) if isinstance(source, bytes) else source
    try:
        return _Machine(source, calls or {}, persistent, lenient).load()
    except EOFError as error:
        raise Refusal("it ends too early") from error
    # A damaged pickle can raise anything.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Refusal(f"{reason:.120}") from error


def leaves(value: Any) -> Iterator[Any]:
    """All values in nested lists, tuples and dicts, including keys; their number and depth as a tree are bounded.

    Raises:
        pickle.UnpicklingError: there are too many, or they are nested too deeply.
    """
    open_values: list[Iterator] = [iter((value,))]
    count = 0
    while open_values:
        for item in open_values[-1]:
            count += 1
            if count > MAX_VALUES:
                raise Refusal(f"it holds more than {MAX_VALUES} values")
            if isinstance(item, dict | list | tuple):
                open_values.append(_items(item))
                break
            yield item
        else:
            open_values.pop()
        if len(open_values) > MAX_DEPTH:
            raise Refusal(f"its values are nested more than {MAX_DEPTH} deep")


def _items(value: dict | list | tuple) -> Iterator:
    return (part for pair in value.items() for part in pair) if isinstance(value, dict) else iter(value)


def to_bytes(budget: Budget) -> Callable[[str, str], bytes]:
    """The call with which pickles of protocol 2 write bytes: ``_codecs.encode(text, "latin1")``."""

    def encode(text: str, coding: str) -> bytes:
        if type(text) is not str or coding not in ("latin1", "latin-1"):
            raise Refusal("it asks for an encoding other than latin1")
        budget.take(len(text))
        return text.encode("latin1")

    return encode


def to_dict(budget: Budget) -> Callable[..., dict]:
    """The call that makes an ``OrderedDict``, with or without pairs; a plain dict is made instead."""

    def ordered(pairs: Iterable = ()) -> dict:
        pairs = list(pairs)
        # An entry of a dict takes about this many bytes.
        budget.take(100 * len(pairs))
        return {_check_key(key): value for key, value in pairs}

    return ordered


def _check_key(key: Any, nested: bool = False) -> Any:
    """Allow only keys with a cheap hash that cannot be made equal for many of them."""
    if key is None or type(key) in (bool, float, Name, Placeholder):
        return key
    if type(key) in (str, bytes) and len(key) <= MAX_NAME:
        return key
    if type(key) is int and abs(key) < 2**63:
        return key
    if type(key) is tuple and len(key) <= 8 and not nested:
        for part in key:
            _check_key(part, nested=True)
        return key
    raise Refusal(f"it has a dict key that is a {type(key).__name__}, or too long")


class _Machine(pickle._Unpickler):
    def __init__(self, source: Bounded, calls: Mapping, persistent: Callable | None, lenient: bool) -> None:
        # Files from Python 2 hold bytes where later ones hold text.
        super().__init__(source, encoding="latin1")
        self.calls, self.persistent, self.lenient = calls, persistent, lenient
        self.names: dict[str, Name] = {}
        self.left = MAX_OPERATIONS

    def find_class(self, module: str, name: str) -> Name | Placeholder:
        if len(module) + len(name) > MAX_NAME:
            raise Refusal(f"it names something with {len(module) + len(name)} letters")
        full = f"{module}.{name}"
        if full not in self.calls:
            if self.lenient:
                return PLACEHOLDER
            raise Refusal(f"it asks for {full}, which is not allowed")
        return self.names.setdefault(full, Name(full, self.calls[full]))

    def persistent_load(self, pid: Any) -> Any:
        if self.persistent is None:
            raise Refusal("it refers to objects outside the pickle")
        return self.persistent(pid)

    def call(self) -> None:
        arguments = self.stack.pop()
        called = self.stack[-1]
        if called is PLACEHOLDER:
            return
        if type(called) is not Name or called.call is None or type(arguments) is not tuple:
            raise Refusal(f"it calls a {type(called).__name__}")
        self.stack[-1] = called.call(*arguments)

    def build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is Unbuilt and not target.built:
            target.value = target.build(state)
            target.built = True
            self.stack[-1] = target.value
        # Attributes of an OrderedDict are ignored; state dicts of modules have some.
        elif type(target) is not dict and target is not PLACEHOLDER:
            raise Refusal(f"it sets attributes of a {type(target).__name__}")

    def recall(self) -> None:
        found = self.stack[-1]
        if type(found) is Unbuilt and found.built:
            self.stack[-1] = found.value

    def set_items(self, items: list) -> None:
        target = self.stack[-1]
        if target is PLACEHOLDER:
            return
        if type(target) is not dict or len(items) % 2:
            raise Refusal(f"it sets {len(items) / 2:g} items of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_check_key(key)] = value

    def extend(self, items: list) -> None:
        target = self.stack[-1]
        if target is PLACEHOLDER:
            return
        if type(target) is not list:
            raise Refusal(f"it appends to a {type(target).__name__}")
        target.extend(items)

    def set_item(self) -> None:
        self.set_items([self.stack.pop(-2), self.stack.pop()])

    def append_item(self) -> None:
        self.extend([self.stack.pop()])


def _counted(operation: Callable) -> Callable:
    def run(machine: _Machine) -> None:
        machine.left -= 1
        if machine.left < 0:
            raise Refusal(f"it has more than {MAX_OPERATIONS} operations")
        operation(machine)

    return run


def _refused(machine: _Machine) -> None:
    raise Refusal("it has an operation that data do not need, or is not a pickle")


_KEPT = """PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE
BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BINSTRING SHORT_BINSTRING EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
EMPTY_LIST EMPTY_DICT GLOBAL STACK_GLOBAL BINPERSID BINPUT LONG_BINPUT MEMOIZE"""
_OURS = {
    pickle.REDUCE: _Machine.call,
    pickle.NEWOBJ: _Machine.call,
    pickle.BUILD: _Machine.build,
    pickle.SETITEM: _Machine.set_item,
    pickle.SETITEMS: lambda machine: machine.set_items(machine.pop_mark()),
    pickle.APPEND: _Machine.append_item,
    pickle.APPENDS: lambda machine: machine.extend(machine.pop_mark()),
}


def _then_recall(operation: Callable) -> Callable:
    def run(machine: _Machine) -> None:
        operation(machine)
        machine.recall()

    return run


_THEIRS = pickle._Unpickler.dispatch
_Machine.dispatch = dict.fromkeys(range(256), _refused)
for _name in _KEPT.split():
    _code = getattr(pickle, _name)[0]
    _Machine.dispatch[_code] = _counted(_THEIRS[_code])
for _code in (pickle.BINGET[0], pickle.LONG_BINGET[0]):
    _Machine.dispatch[_code] = _counted(_then_recall(_THEIRS[_code]))
for _operation, _handler in _OURS.items():
    _Machine.dispatch[_operation[0]] = _counted(_handler)
