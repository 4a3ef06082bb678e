"""Triton's interpreter in less time, to the same bits.

Most of it goes into what every operation makes and checks anew: the types and shapes of its blocks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import pytest

# The versions of Triton with which this was tried. Others stay slow.
KNOWN = ("3.6", "3.8", "3.9")


@contextmanager
def quick() -> Iterator[None]:
    """A context in which kernels are interpreted quickly."""
    import triton
    from triton.language import core
    from triton.language.semantic import TritonSemantic
    from triton.runtime import interpreter

    if not triton.__version__.startswith(tuple(version + "." for version in KNOWN)):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        _prepare_once(patch, interpreter, core)
        _call_directly(patch, interpreter)
        _look_types_up(patch, interpreter)
        _share_shapes(patch, core, TritonSemantic)
        _promote_what_differs(patch, core, TritonSemantic)
        yield


def _prepare_once(patch, interpreter, core):
    """It prepares triton.language anew for every call of a device function."""
    prepare, scope = interpreter._patch_lang, interpreter._LangPatchScope

    @cache
    def modules_of(function):
        return [value for value in function.__globals__.values() if value is interpreter.tl or value is core]

    def prepare_what_is_not(function):
        again = any(core.is_builtin(module.load) for module in modules_of(function))
        return prepare(function) if again else scope()

    patch.setattr(interpreter, "_patch_lang", prepare_what_is_not)


def _call_directly(patch, interpreter):
    """It copies the keywords of every call but one, and calls what only asks whether that one is there."""

    def patch_attribute(holder, name, member, builder, scope):
        function = getattr(member, "__wrapped__", member)

        def call(*arguments, **named):
            named["_semantic"] = interpreter.interpreter_semantic
            return function(*arguments, **named)

        scope.set_attr(holder, name, call)

    patch.setattr(interpreter, "_patch_attr", patch_attribute)


def _look_types_up(patch, interpreter):
    """It writes a table of all types to look one up, and repeats every operation of integers in 64 bits, to look at the
    result in its debug mode only."""
    kinds, builder = interpreter._get_np_dtype, interpreter.interpreter_builder
    looked_up = cache(kinds)

    def look_up(kind):
        return kinds(kind) if kind.scalar.is_ptr() else looked_up(kind.scalar)

    patch.setattr(interpreter, "_get_np_dtype", look_up)
    if not builder.options.debug:
        patch.setattr(builder, "options", replace(builder.options, sanitize_overflow=False))


def _share_shapes(patch, core, semantic):
    """It checks the shape of every block anew, and compares the shapes of two blocks number by number."""
    make, broadcast = core.block_type.__init__, semantic.broadcast_impl_value
    shapes, scalar = {}, (core.tuple([]), core.constexpr(1))

    def make_block_type(self, element_ty, shape):
        sizes = tuple(getattr(size, "value", size) for size in shape)
        if sizes not in shapes:
            make(self, element_ty, shape)
            told = core.tuple([core.constexpr(size) for size in sizes]), core.constexpr(self.numel)
            shapes[sizes] = dict(shape=self.shape, numel=self.numel, told=told), str(self.shape)
        same, text = shapes[sizes]
        vars(self).update(same, element_ty=element_ty, name=f"<{text}, {element_ty}>")

    def make_tensor(self, handle, type):
        self.handle, self.type, self.dtype = handle, type, type.scalar
        self.shape, self.numel = type.told if type.is_block() else scalar

    def broadcast_what_differs(self, lhs, rhs):
        alike = lhs.type.is_block() and rhs.type.is_block() and lhs.type.shape is rhs.type.shape
        return (lhs, rhs) if alike else broadcast(self, lhs, rhs)

    patch.setattr(core.block_type, "__init__", make_block_type)
    patch.setattr(core.tensor, "__init__", make_tensor)
    patch.setattr(semantic, "broadcast_impl_value", broadcast_what_differs)


def _promote_what_differs(patch, core, semantic):
    """It works out which type the sum of two numbers of the same type has."""
    promote, plain = semantic.binary_op_type_checking_impl, (id(core.float32), id(core.int32))

    def promote_what_differs(self, lhs, rhs, *options, **named):
        alike = isinstance(lhs, core.tensor) and isinstance(rhs, core.tensor) and lhs.dtype is rhs.dtype
        if alike and id(lhs.dtype) in plain:
            return self.broadcast_impl_value(lhs, rhs)
        return promote(self, lhs, rhs, *options, **named)

    patch.setattr(semantic, "binary_op_type_checking_impl", promote_what_differs)
