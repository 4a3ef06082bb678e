"""Reads a kernel from PTX, NVIDIA's assembly language.

Only what Triton 3.6 to 3.9 writes for kernels without tensor cores. Source: Parallel Thread Execution ISA 8.8.
"""

import re
from dataclasses import dataclass

Operand = str | tuple[str, ...]

# Takes its operands from memory, or does nothing but name a value again: free, or nearly so, in the machine's own code.
FREE = ("mov", "ld.param", "ret")


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        name: up to the first dot, such as "ld".
        modifiers: what follows between dots, such as "global", "v4" and "b32".
        operands: registers, numbers and names as they are written, without brackets; vectors are tuples.
        guard: the register that says which threads take part; all do if it is empty.
        negated: whether those take part for which the guard is not set.
    """

    name: str
    modifiers: tuple[str, ...]
    operands: tuple[Operand, ...]
    guard: str = ""
    negated: bool = False

    @property
    def type(self) -> str:
        return self.modifiers[-1]

    @property
    def opcode(self) -> str:
        return ".".join((self.name, *self.modifiers))

    @property
    def is_free(self) -> bool:
        return self.opcode.startswith(FREE)


@dataclass(frozen=True)
class Kernel:
    """A kernel as blocks of instructions that are executed one after the other.

    Attributes:
        parameters: names of its parameters.
        threads: threads per program.
        blocks: in the order of the text. A block ends before a label and behind a branch or barrier; without a branch,
            the next one follows.
        labels: the block at each label.
    """

    name: str
    parameters: tuple[str, ...]
    threads: int
    blocks: tuple[tuple[Instruction, ...], ...]
    labels: dict[str, int]


def parse(text: str) -> Kernel:
    """Read the only kernel of a module.

    Raises:
        ValueError: there is none, or a line of it has another form than Triton's.
    """
    entry = re.search(r"\.visible \.entry (\w+)\((.*?)\)\s*\.reqntid (\d+).*?\n\{(.*?)\n\}", text, re.DOTALL)
    if not entry:
        raise ValueError("this PTX has no kernel of Triton's form")
    name, parameters, threads, body = entry.groups()
    blocks: list[list[Instruction]] = [[]]
    labels: dict[str, int] = {}
    for line in body.splitlines():
        line = line.split("//")[0].strip()
        if not line or line.startswith(".") or line in "{}":
            continue
        if line.endswith(":"):
            if blocks[-1]:
                blocks.append([])
            labels[line[:-1]] = len(blocks) - 1
            continue
        instruction = _instruction(line)
        blocks[-1].append(instruction)
        if instruction.name in ("bra", "ret", "bar"):
            blocks.append([])
    names = tuple(re.findall(r"(\w+)\s*(?:,|$)", parameters))
    return Kernel(name, names, int(threads), tuple(map(tuple, blocks)), labels)


def _instruction(line: str) -> Instruction:
    found = re.fullmatch(r"(?:@(!?)(%p\d+)\s+)?([\w.:]+)\s*(.*?)\s*;", line)
    if not found:
        raise ValueError(f"not an instruction of the form that Triton writes: {line!r}")
    negation, guard, opcode, rest = found.groups()
    name, *modifiers = opcode.replace("::cta", "").split(".")
    operands: list[Operand] = []
    for part in re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+", rest):
        inner = part.strip("{}[] ")
        if part.startswith("{"):
            operands.append(tuple(v.strip() for v in inner.split(",")))
        else:
            operands.append(inner.replace(" ", ""))
    return Instruction(name, tuple(modifiers), tuple(operands), guard or "", negation == "!")
