"""What the Triton kernels execute and which memory they access, counted on the CPU. Needs no GPU.

    python -m bench.counts                                  a few scenes
    python -m bench.counts --scene b1/512x512               the first scene whose name begins like this
    python -m bench.counts --target sm_100 --json FILE      for another GPU, and written to a file as well

One row for each launch of a forward and a backward pass: what `bench.emulation` executes of the PTX that Triton
compiles for the GPU. Columns:

    programs           of the launch
    instructions       that warps execute, in thousands, without copies of registers and reads of parameters
    64-bit             those of them that calculate with integers of 64 bits, addresses above all
    loads, stores      MiB of global memory that warps ask for, in sectors of 32 bytes, whatever the caches hold of it
    read, written      MiB of different sectors among these, which a GPU with a perfect cache would move

PTX is not the machine's own code: there an instruction may become several or none. Nothing here is a time: latencies,
caches, conflicts of banks and how many warps run at a time are not looked at.
"""

import argparse
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Triton's interpreter would compile nothing.
os.environ["TRITON_INTERPRET"] = "0"

import torch

from .__main__ import scenes
from .emulation.launches import differentiate, emulated
from .emulation.memory import SECTOR
from .rasterize import Scene
from .record import make_folders
from .resources import GPUS
from .timing import MIB

SCENES = [Scene(batch=2), Scene(batch=2, dtype=torch.bfloat16), Scene(height=512, width=512), Scene(count=10_000)]
TARGETS = [name for name, gpu in GPUS.items() if gpu.target.backend == "cuda"]


def count(scene: Scene, target: str) -> Iterator[dict[str, Any]]:
    """The rows of a scene. Counts are numbers of warps' instructions; memory is in bytes."""
    shape = scene.batch, scene.channels, scene.height, scene.width
    cotangent = torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(scene.dtype)
    with emulated(target) as launches:
        differentiate(scene.inputs("cpu"), cotangent, with_rays=False)
    for launch in launches:
        found = launch.counts
        yield dict(
            scene=str(scene),
            target=target,
            kernel=launch.name,
            programs=math.prod(launch.grid),
            instructions=found.executed,
            wide_integers=found.wide_integers,
            loads=found.load_sectors * SECTOR,
            stores=found.store_sectors * SECTOR,
            read=found.read_bytes,
            written=found.written_bytes,
        )


def header(title: str) -> str:
    names = "programs", "instructions", "64-bit", "loads", "stores", "read", "written"
    return f"{title:32s}" + "".join(f"{name:>13s}" for name in names)


def line(row: dict[str, Any]) -> str:
    thousands = "".join(f"{row[name] / 1000:13,.1f}" for name in ("instructions", "wide_integers"))
    memory = "".join(f"{row[name] / MIB:13.2f}" for name in ("loads", "stores", "read", "written"))
    return f"{row['kernel']:32s}{row['programs']:13,d}{thousands}{memory}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", metavar="PREFIX", help="beginning of its name, e.g. b32/256x256")
    parser.add_argument("--target", choices=TARGETS, default="sm_90", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows, with memory in bytes")
    options = parser.parse_args()
    chosen = SCENES
    if options.scene is not None:
        every = dict.fromkeys([*SCENES, *scenes("cuda"), *scenes("cpu")])
        chosen = [scene for scene in every if str(scene).startswith(options.scene)][:1]
        if not chosen:
            raise SystemExit(
                f"--scene: got {options.scene!r}, wanted one of {', '.join(map(str, every))}, or its beginning"
            )
    make_folders(options.json)
    rows = []
    for scene in chosen:
        print(header(str(scene)), flush=True)
        for row in count(scene, options.target):
            print(line(row), flush=True)
            rows.append(row)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
