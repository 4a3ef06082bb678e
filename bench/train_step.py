"""`python -m bench.train_step`: one training step of the whole model, compared with one built like the original.

    python -m bench.train_step                       256 and 512 on a GPU, 64 and 128 on a CPU
    python -m bench.train_step --json FILE           for the record
    python -m bench.train_step --profile trace.json  a trace of the step, for Perfetto or chrome://tracing

Needs only torch, torchvision, triton and numpy, and lpips for `--image-loss vgg` and `lpips`.

The model has its full size; poses are the sample's, pictures are noise, and all weights are random: a step costs the
same whatever they are. The baseline (bench/baseline.py) is eager and in float32, with contiguous tensors and torch's
default implementation of AdamW. The two take turns, and on a GPU the time includes Python's part.

Shares are those of the parts, each run by itself, forward and backward: in a step they overlap, and in a compiled one
they are fused.
"""

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hvs.evaluation import synthesise
from hvs.losses import PerceptualLoss
from hvs.models import HumanViewSynthesis, ModelSettings
from hvs.runtime import autocast, choose_precision
from hvs.training.objectives import SynthesisObjective, total
from hvs.training.stepper import Stepper

from .baseline import as_the_original_is_built
from .pairs import make_pairs
from .record import Record, make_folders
from .timing import MIB, measure, peak_mib

PARTS = ("lifter", "encoder", "rasteriser", "decoder", "loss", "optimiser")
# Largest side of the networks' pictures, except for the target.
LARGEST = 256
CLIP_NORM = 1.0
COMPILATION = dict(fullgraph=True, dynamic=False)
# Steps in a trace, and warm-up steps before it.
PROFILED = 3
PRECISIONS = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


@dataclass(frozen=True)
class Setup:
    """What is measured; the baseline is in float32, is not compiled, and does not save memory."""

    device: str
    resolution: int
    batch_size: int
    precision: torch.dtype
    image_loss: str = "pixel"
    compiled: bool = False
    save_memory: bool = False

    def __str__(self) -> str:
        side = self.resolution
        return f"train_step/b{self.batch_size}/{side}x{side}/{PRECISIONS[self.precision]}"


class Step:
    """A model with all that a step of its training needs; ours, or built like the original."""

    def __init__(self, setup: Setup, baseline: bool) -> None:
        self.setup, self.baseline = setup, baseline
        torch.manual_seed(0)
        settings = model_settings(setup.resolution)
        self.model = model = HumanViewSynthesis(settings).to(setup.device).train()
        model.decoder.start_quiet()
        self.objective = SynthesisObjective(model, True, make_perceptual(setup.image_loss)).to(setup.device)
        self.batch = make_pairs(setup.batch_size, settings.input_resolution, setup.resolution, setup.device)
        rates = [(model.decoder, 1.0), (model.encoder, 0.1), (model.lifter, 2.5e-3)]
        groups = [dict(params=part.parameters(), lr=2e-3 * rate) for part, rate in rates]
        fused = None if baseline else True
        optimizer = torch.optim.AdamW(groups, betas=(0.0, 0.99), weight_decay=1e-2, amsgrad=True, fused=fused)
        self.stepper = Stepper("synthesis", optimizer, CLIP_NORM, not baseline and setup.precision is torch.float16)
        self.compiled = setup.compiled and not baseline
        if not baseline:
            model.decoder.to(memory_format=torch.channels_last)
            if setup.save_memory:
                model.decoder.save_memory()
        if self.compiled:
            self.objective.compile(**COMPILATION)

    def __call__(self) -> dict[str, Tensor]:
        """Run one step; returns the losses by name."""
        with self.way(), self.autocast():
            losses, _ = self.objective(self.batch)
        self.stepper.backward(total(losses))
        self.optimise(losses)
        return losses

    def optimise(self, losses: dict[str, Tensor]) -> None:
        if not self.baseline:
            self.stepper.step(0, losses)
            return
        # A stepper needs a fused optimiser.
        torch.nn.utils.clip_grad_norm_(self.stepper.parameters, CLIP_NORM)
        self.stepper.optimizer.step()
        self.stepper.optimizer.zero_grad(set_to_none=True)

    def way(self) -> Any:
        return as_the_original_is_built() if self.baseline else nullcontext()

    def autocast(self) -> torch.autocast:
        return autocast(torch.device(self.setup.device), torch.float32 if self.baseline else self.setup.precision)

    def state_mib(self) -> float:
        """Weights, buffers and the optimiser's moments, which stay between steps."""
        moments = [value for state in self.stepper.optimizer.state.values() for value in state.values()]
        tensors = [*self.objective.parameters(), *self.objective.buffers(), *moments]
        return sum(tensor.nbytes for tensor in tensors if torch.is_tensor(tensor)) / MIB

    def parts(self) -> dict[str, Callable[[], None]]:
        """Every part of the step by itself, forward and backward, on the inputs that it has in the step."""
        model, batch = self.model, self.batch
        with self.way(), self.autocast(), torch.no_grad():
            found = synthesise(model, batch)
        root = batch["camera_a"].to_camera(batch["points"])[:, model.skeleton.root, None]
        world = batch["camera_a"].to_world(root + found["lifted"])
        points = batch["camera_b"].to_camera(world).detach().requires_grad_()
        leaves = {name: value.detach().clone().requires_grad_() for name, value in found.items()}
        keypoints = batch["keypoints_a"], batch["confidence_a"], batch["resolution_a"]
        appearance, latent = leaves["appearance"], leaves["latent"]
        forwards: dict[str, Callable[[], Tensor]] = {
            "lifter": lambda: model.lift(*keypoints),
            "encoder": lambda: model.encode(batch["image_a"]),
            "rasteriser": lambda: model.rasterize(points, appearance, batch["camera_b"]),
            "decoder": lambda: model.decoder(latent, appearance),
            "loss": lambda: total(self.objective.compare(leaves, batch)),
        }
        calls = {name: self._both_ways(forward, [points, *leaves.values()]) for name, forward in forwards.items()}
        held = [(parameter, torch.randn_like(parameter)) for parameter in self.stepper.parameters]
        return calls | {"optimiser": partial(self._optimise, held, {"pixel": torch.ones_like(points.sum())})}

    def _both_ways(self, forward: Callable[[], Tensor], leaves: list[Tensor]) -> Callable[[], None]:
        run = torch.compile(forward, **COMPILATION) if self.compiled else forward

        def call() -> None:
            with self.way(), self.autocast():
                result = run()
            result.backward(torch.ones_like(result))
            for leaf in (*leaves, *self.stepper.parameters):
                leaf.grad = None

        return call

    def _optimise(self, held: list[tuple[Tensor, Tensor]], losses: dict[str, Tensor]) -> None:
        for parameter, gradient in held:
            parameter.grad = gradient
        self.optimise(losses)


def model_settings(resolution: int) -> ModelSettings:
    """The full-size model for pictures with this side."""
    side = min(resolution, LARGEST)
    return ModelSettings(input_resolution=side, rendering_resolution=side, target_resolution=resolution)


def make_perceptual(image_loss: str) -> PerceptualLoss | None:
    """A perceptual loss with random weights: a step costs the same."""
    if image_loss == "pixel":
        return None
    try:
        from lpips import LPIPS
    except ImportError:
        raise SystemExit(f"--image-loss: got {image_loss!r}, which needs the package lpips") from None
    distance = LPIPS(net="vgg", pnet_rand=True, verbose=False)
    return PerceptualLoss(distance.eval().requires_grad_(False), image_loss)


def make_steps(setup: Setup, with_baseline: bool) -> dict[str, Step]:
    """Ours, and the baseline's if wanted, by what the names of their values begin with."""
    return {"": Step(setup, baseline=False)} | ({"baseline_": Step(setup, baseline=True)} if with_baseline else {})


def measure_steps(setup: Setup, steps: dict[str, Step], seconds: float) -> dict[str, Any]:
    """One row: images per second and memory."""
    chosen = dict(image_loss=setup.image_loss, compiled=setup.compiled, save_memory=setup.save_memory)
    row: dict[str, Any] = dict(name=str(setup)) | chosen
    for name, step in steps.items():
        # First of all, as the first step creates the optimiser's moments.
        step()
        row[f"{name}peak_mib"] = peak_mib(step, setup.device) + step.state_mib()
        row[f"{name}state_mib"] = step.state_mib()
    for name, timing in measure(dict(steps), setup.device, seconds).items():
        row[f"{name}ms"] = timing.median
        row[f"{name}images_per_s"] = 1e3 * setup.batch_size / timing.median
    if len(steps) > 1:
        row["speedup"] = row["baseline_ms"] / row["ms"]
        row["part_of_baseline_peak"] = row["peak_mib"] / row["baseline_peak_mib"]
    return row


def measure_shares(setup: Setup, steps: dict[str, Step], seconds: float) -> dict[str, Any]:
    """What the parts add to the row: the sum of their times, and the share of each."""
    found: dict[str, Any] = {}
    for name, step in steps.items():
        times = {part: t.median for part, t in measure(step.parts(), setup.device, seconds / len(PARTS)).items()}
        found[f"{name}parts_ms"] = sum(times.values())
        found[f"{name}shares"] = {part: times[part] / sum(times.values()) for part in PARTS}
    return found


def show(row: dict[str, Any]) -> str:
    """A row as text."""
    lines = []
    for name, title in (("", row["name"]), ("baseline_", "  baseline")):
        if f"{name}ms" in row:
            lines.append(f"{title:34s}{row[f'{name}images_per_s']:10.4g}{row[f'{name}peak_mib']:10.0f}")
    if "speedup" in row:
        lines.append(f"  × images/s, part of the memory   {row['speedup']:10.2f}{row['part_of_baseline_peak']:10.2f}")
    return "\n".join(lines)


def show_shares(found: dict[str, Any]) -> str:
    """The shares as text."""
    lines = [f"{'':34s}" + "".join(f"{part:>12s}" for part in PARTS)]
    for name, title in (("", "  shares"), ("baseline_", "  shares of the baseline")):
        if f"{name}shares" in found:
            lines.append(f"{title:34s}" + "".join(f"{share:>12.1%}" for share in found[f"{name}shares"].values()))
    return "\n".join(lines)


def profile(setup: Setup, file: Path) -> None:
    step = Step(setup, baseline=False)
    for _ in range(PROFILED):
        step()
    with torch.profiler.profile() as profiler:
        for _ in range(PROFILED):
            step()
            profiler.step()
    profiler.export_chrome_trace(str(file))
    print(f"trace  {file}")


def parse() -> argparse.Namespace:
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if on_gpu else "cpu")
    parser.add_argument(
        "--resolution", type=int, nargs="+", default=[256, 512] if on_gpu else [64, 128], help="sides of the picture"
    )
    parser.add_argument("--batch-size", type=int, default=8 if on_gpu else 2)
    parser.add_argument("--precision", choices=("auto", *PRECISIONS.values()), default="auto")
    parser.add_argument(
        "--image-loss", choices=("pixel", "vgg", "lpips"), default="pixel", help="vgg and lpips need the package lpips"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="time to spend on each measurement")
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, default=on_gpu, help="compile our step with torch.compile"
    )
    parser.add_argument(
        "--save-memory", action="store_true", help="our decoder recomputes its largest images in the backward pass"
    )
    parser.add_argument("--no-baseline", action="store_true", help="time our step only")
    parser.add_argument("--no-shares", action="store_true", help="do not time the parts, each of which is compiled")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows, with device and versions")
    parser.add_argument(
        "--profile", type=Path, metavar="FILE", help="only write a torch.profiler trace of the first size"
    )
    return parser.parse_args()


def main() -> None:
    options = parse()
    precision = choose_precision(options.precision, torch.device(options.device))
    shared = precision, options.image_loss, options.compile, options.save_memory
    setups = [Setup(options.device, side, options.batch_size, *shared) for side in options.resolution]
    # Sizes do not change, so cuDNN may search for the fastest algorithms. Grouped convolutions gain most by that, which
    # favours the baseline.
    torch.backends.cudnn.benchmark = True
    make_folders(options.profile)
    if options.profile:
        profile(setups[0], options.profile)
        return
    record = Record(options.device, options.json)
    print(f"{'':34s}{'images/s':>10s}{'MiB':>10s}")
    for setup in setups:
        torch.compiler.reset()
        with record.trying(str(setup)):
            steps = make_steps(setup, not options.no_baseline)
            row = measure_steps(setup, steps, options.seconds)
            print(show(row), flush=True)
            record.rows.append(row)
            # The shares take longest, and may be cut short.
            record.write()
            if not options.no_shares:
                found = measure_shares(setup, steps, options.seconds)
                print(show_shares(found), flush=True)
                row |= found
    record.close()


if __name__ == "__main__":
    main()
