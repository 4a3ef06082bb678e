"""Inspect and convert checkpoints.

python -m hvs.checkpoint inspect FILE         show what is in a checkpoint of this project or of the original

python -m hvs.checkpoint convert IN OUT       write one of either kind in this project's format
"""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import tyro
from torch import Tensor
from tyro.conf import Positional, arg

from .checkpoint import CheckpointError, build_discriminator, build_model, read_contents, save_model
from .data.torch_files import is_torch_file
from .original import lifter_prefixes, plain_extra, read_content
from .runtime import UserError, run_command

# Longest row of the table, in characters.
WIDEST = 120
PROGRAM = "python -m hvs.checkpoint"


def convert(
    source: Annotated[Positional[Path], arg(metavar="IN")],
    target: Annotated[Positional[Path], arg(metavar="OUT")],
) -> None:
    """Write a checkpoint in this project's format, with everything in it that this project uses.

    Args:
        source: checkpoint of this project or of the original.
        target: file to write, by convention ending in .safetensors. It must not exist yet.
    """
    if target.exists():
        raise UserError(f"{target}: already exists; convert overwrites no file")
    if not target.parent.is_dir():
        raise UserError(f"{target.parent}: no such folder")
    contents = read_contents(source)
    model = build_model(source, contents)
    try:
        discriminator = build_discriminator(source, contents)
    except CheckpointError as error:
        print(f"note: the discriminator is left out: {error}", file=sys.stderr)
        discriminator = None
    save_model(target, model, contents.extra, discriminator)
    print(f"checkpoint  {target}")


def inspect(file: Annotated[Positional[Path], arg(metavar="FILE")]) -> None:
    """Print what is in a checkpoint, without building the model.

    Args:
        file: checkpoint of this project or of the original, which may hold only a lifter.
    """
    for name, value in describe(file):
        # Text from a file goes to the terminal without its control characters.
        shown = "".join(letter if letter.isprintable() else "?" for letter in f"{name:22s}{value}")
        print(shown if len(shown) <= WIDEST else f"{shown[: WIDEST - 3]}...")


def describe(file: Path) -> list[tuple[str, Any]]:
    """The rows of the table: names, and values in words.

    Raises:
        CheckpointError: the file cannot be read, or holds neither a model nor a lifter.
    """
    try:
        contents = read_contents(file)
    except CheckpointError:
        rows = _describe_lifter(file)
        if rows is None:
            raise
        return rows
    settings = asdict(contents.settings)
    skeleton = contents.settings.make_skeleton()
    own = [name for name in ("joints", "limbs") if settings.pop(name) is not None]
    whose = f"{' and '.join(own)} of its own" if own else "as published"
    settings["skeleton"] = f"{skeleton.name}, {len(skeleton.joints)} joints, {len(skeleton.edges)} limbs, {whose}"
    parts = {name: {} for name in ("lifter", "encoder", "decoder", "other")}
    for name, value in contents.state.items():
        parts.get(name.partition(".")[0], parts["other"])[name] = value
    if not parts["other"]:
        del parts["other"]
    parts["discriminator"] = contents.discriminator
    left_out = sorted({name.partition(".")[0] for name in contents.left_out})
    return [
        ("file", file),
        ("format", f"hvs, version {contents.version}" if contents.version else "of the original (Lightning)"),
        ("size", _size(file)),
        *settings.items(),
        *contents.extra.items(),
        *((name, _count(entries)) for name, entries in parts.items()),
        ("left out", f"{len(contents.left_out)} entries of {', '.join(left_out)}" if left_out else "nothing"),
    ]


def _describe_lifter(file: Path) -> list[tuple[str, Any]] | None:
    try:
        content = read_content(file) if is_torch_file(file) else {}
    except (ValueError, OSError):
        return None
    prefixes = lifter_prefixes(content.get("state_dict", {}))
    if len(prefixes) != 1:
        return None
    state = {name: value for name, value in content["state_dict"].items() if name.startswith(prefixes[0])}
    first, last = state[f"{prefixes[0]}layers.0.linear.weight"], state[f"{prefixes[0]}layers.3.weight"]
    if not all(isinstance(weight, Tensor) and weight.ndim == 2 for weight in (first, last)):
        return None
    return [
        ("file", file),
        ("format", "of the original (Lightning), only a lifter"),
        ("size", _size(file)),
        ("joints", len(last) // 3),
        ("d_embedding", len(first)),
        *plain_extra(content).items(),
        ("lifter", _count(state)),
    ]


def _count(entries: dict[str, Any]) -> str:
    numbers = sum(value.numel() for value in entries.values() if isinstance(value, Tensor))
    return f"{len(entries)} entries, {numbers:,} numbers" if entries else "none"


def _size(file: Path) -> str:
    return f"{file.stat().st_size / 2**20:,.1f} MiB"


def main() -> None:
    commands = {"inspect": inspect, "convert": convert}
    run_command(lambda: tyro.extras.subcommand_cli_from_dict(commands, prog=PROGRAM, description=__doc__))
