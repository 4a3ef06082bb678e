"""Reads a kernel from PTX, NVIDIA's assembly language.

Only what Triton 3.6 to 3.9 writes for kernels without tensor cores. Source: Parallel Thread Execution ISA 8.8.
"""

import re
from dataclasses import dataclass

Operand = str | tuple[str, ...]

# Names a value again, or takes it from the memory of constants: free, or nearly so, in the machine's own code.
FREE = ("mov", "ld.param", "ret")
# Opcodes that only move what their type says.
MOVING = ("mov", "ld", "st", "atom", "red", "shfl", "selp")
# Lines within a kernel that are no instructions and change nothing.
DIRECTIVES = (".reg", ".loc", ".pragma")


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        opcode: with all modifiers, such as "ld.global.v4.b32"; shared memory is "shared", however it is written.
        operands: registers, numbers and names as they are written, without brackets; vectors are tuples.
        guard: the register that says which threads take part; all do if it is empty.
        negated: whether those take part for which the guard is not set.
    """

    opcode: str
    operands: tuple[Operand, ...]
    guard: str = ""
    negated: bool = False

    @property
    def name(self) -> str:
        """The opcode up to the first dot."""
        return self.opcode.partition(".")[0]


@dataclass(frozen=True)
class Kernel:
    """A kernel as blocks of instructions that are executed one after the other.

    Attributes:
        parameters: names of its parameters.
        threads: threads per program.
        blocks: in the order of the text. A block ends before a label that is branched to and behind a branch or a
            barrier; without a branch, the next one follows.
        labels: the block at each of these labels.
    """

    name: str
    parameters: tuple[str, ...]
    threads: int
    blocks: tuple[tuple[Instruction, ...], ...]
    labels: dict[str, int]


def is_free(opcode: str) -> bool:
    """Whether the machine's own code has no instruction for it, or hardly one."""
    return opcode.startswith(FREE)


def is_wide_integer(opcode: str) -> bool:
    """Whether it calculates with integers of 64 bits, for which GPUs take several instructions."""
    name, *modifiers = opcode.split(".")
    return name not in MOVING and any(v in ("wide", "b64", "s64", "u64") for v in modifiers)


def parse(text: str) -> Kernel:
    """Read the only kernel of a module.

    Raises:
        ValueError: there is none, or more, or a line of it has another form than Triton's.
    """
    entries = re.findall(r"\.entry (\w+)\((.*?)\)\s*\.reqntid (\d+)[^{]*\{\n(.*?)\n\}", text, re.DOTALL)
    if len(entries) != 1 or text.count(".entry") != 1:
        raise ValueError("this PTX has no kernel of Triton's form, or several")
    [(name, parameters, threads, body)] = entries
    lines = [line.split("//")[0].strip() for line in body.splitlines()]
    lines = [line for line in lines if line and line not in "{}" and not line.startswith(DIRECTIVES)]
    read = [line[:-1] if line.endswith(":") else _instruction(line) for line in lines]
    targets = {v.operands[0] for v in read if isinstance(v, Instruction) and v.name == "bra"}
    blocks: list[list[Instruction]] = [[]]
    labels: dict[str, int] = {}
    for each in read:
        if isinstance(each, Instruction):
            blocks[-1].append(each)
        # Labels for debuggers would cut the text into many more blocks.
        if each in targets or (isinstance(each, Instruction) and each.opcode.startswith(("bra", "ret", "bar.sync"))):
            if blocks[-1]:
                blocks.append([])
            if each in targets:
                labels[each] = len(blocks) - 1
    if targets - set(labels):
        raise ValueError(f"branches to labels that this PTX does not have: {sorted(targets - set(labels))}")
    names = tuple(re.findall(r"(\w+)\s*(?:,|$)", parameters))
    return Kernel(name, names, int(threads), tuple(map(tuple, blocks)), labels)


def _instruction(line: str) -> Instruction:
    found = re.fullmatch(r"(?:@(!?)(%p\d+)\s+)?([a-z][\w.:]*)\s*([^;]*?)\s*;", line)
    if not found:
        raise ValueError(f"not an instruction of the form that Triton writes: {line!r}")
    negation, guard, opcode, rest = found.groups()
    operands: list[Operand] = []
    for part in re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+", rest):
        inner = part.strip("{}[] ").replace(" ", "")
        operands.append(tuple(inner.split(",")) if part.startswith("{") else inner)
    return Instruction(opcode.replace("shared::cta", "shared"), tuple(operands), guard or "", negation == "!")
