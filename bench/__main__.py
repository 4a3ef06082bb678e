"""Bench the rasteriser on this machine: a table, plots, JSON, a trace.

    python -m bench                            the scenes that fit this machine
    python -m bench --json FILE --plots FILE   for the record
    python -m bench --only b32/256x256         scenes whose names begin like this
    python -m bench --profile trace.json       a trace of the main scene, for Perfetto or chrome://tracing

Times are medians in milliseconds. Memory is the peak of a call beyond its result. Ratios are of times that were taken
in turns, in the same run.
"""

import argparse
import importlib.util
import sys
from pathlib import Path

import torch

import hvs

from . import gsplat_baseline, report
from .rasterize import Calls, Scene, measure_scene
from .record import Record, make_folders


def scenes(device: str) -> list[Scene]:
    """The main scene first, then series of scenes that differ in one thing; a run may be cut short."""
    if torch.device(device).type == "cuda":
        base = Scene(batch=32)
        found = [base, Scene(batch=32, dtype=torch.bfloat16)]
        found += [Scene(height=1024, width=1024, count=count, channels=32) for count in (100, 1000, 10_000, 100_000)]
        found += [Scene(batch=batch) for batch in (1, 2, 4, 8, 16, 64)]
        found += [Scene(batch=8, height=side, width=side) for side in (64, 128, 512, 1024)]
        found += [Scene(batch=8, channels=channels) for channels in (1, 3, 32, 64, 128, 256)]
        return found
    found = [Scene()]
    found += [Scene(batch=batch) for batch in (2, 4)]
    found += [Scene(height=side, width=side) for side in (64, 128, 512)]
    found += [Scene(channels=channels) for channels in (1, 3, 64)]
    found += [Scene(count=count) for count in (10, 100, 1000, 10_000)]
    return found


def profile(scene: Scene, device: str, file: Path) -> None:
    inputs = scene.inputs(device)
    gradient = torch.randn(scene.batch, scene.channels, scene.height, scene.width).to(device, scene.dtype)
    calls = Calls.of(hvs.rasterize, inputs, gradient)
    for _ in range(3):
        calls.both()
    with torch.profiler.profile() as profiler:
        for _ in range(5):
            calls.both()
    profiler.export_chrome_trace(str(file))
    print(f"trace  {file}")


def main() -> None:
    # As argparse says itself from Python 3.14 on.
    usage = dict(prog="python -m bench", formatter_class=argparse.RawDescriptionHelpFormatter)
    parser = argparse.ArgumentParser(description=__doc__, **usage)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--only", default="", metavar="PREFIX", help="scenes whose names begin like this, e.g. b32/256x256"
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="time to spend on each measurement")
    parser.add_argument("--no-compile", action="store_true", help="leave out the compiled dense formulation")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows, with device and versions")
    parser.add_argument("--plots", type=Path, metavar="FILE", help="write plots as PNG (needs matplotlib)")
    parser.add_argument(
        "--profile", type=Path, metavar="FILE", help="only write a torch.profiler trace of the first scene"
    )
    options = parser.parse_args()
    every = scenes(options.device)
    chosen = [scene for scene in every if str(scene).startswith(options.only)]
    if not chosen:
        raise SystemExit(f"--only: got {options.only!r}, wanted one of {', '.join(map(str, every))}, or its beginning")
    make_folders(options.plots, options.profile)
    if options.profile:
        profile(chosen[0], options.device, options.profile)
        return
    if options.plots and importlib.util.find_spec("matplotlib") is None:
        print("--plots: matplotlib is not installed; `python -m bench.report` plots a file of --json", file=sys.stderr)
        options.plots = None
    if torch.device(options.device).type == "cuda" and not gsplat_baseline.is_installed():
        print("gsplat is not installed, and is left out", file=sys.stderr)
    record = Record(options.device, options.json)
    print(report.header())
    for scene in chosen:
        with record.trying(str(scene)):
            found = measure_scene(scene, options.device, options.seconds, compiled=not options.no_compile)
            print(report.lines(found), flush=True)
            record.rows += found
    if options.plots and record.rows:
        report.plot(record.rows, record.machine, options.plots)
    record.close()


if __name__ == "__main__":
    main()
