"""Train a model.

python train.py                       the sample capture, on any machine, in minutes
python train.py sample-512            the same at 512×512, for a GPU
python train.py sample --help         every setting
"""

import json
import math
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from hvs import HumanViewSynthesis
from hvs.checkpoint import save_model
from hvs.config import DESCRIPTIONS, PRESETS, DataSettings, TrainSettings
from hvs.data import NoSequencesError, PairDataset, PoseDataset, collate, even_subset
from hvs.data.sampling import Draws, draw, step_generator
from hvs.data.virtual import VirtualViews
from hvs.evaluation import draw_pairs, evaluate, synthesise, to_device
from hvs.losses import load_perceptual, pixel_loss, pose_loss
from hvs.metrics import MILLIMETRES, lpips_alex, mpjpe
from hvs.pictures import mosaic
from hvs.runtime import (
    UserError,
    autocast,
    make_folder,
    run_command,
    seed_everything,
    select_device,
    write_atomically,
)
from hvs.training_state import load_state, restore, save_state
from hvs.transfer import load_imagenet, load_lifter

# Losses by their weight in the sum (Rochette et al. 2021).
WEIGHTS = dict(pixel=10.0, perceptual=10.0, appearance=1e-3, pose=1.0)
CLIP_NORM = 1.0
# Images that an untrained encoder learns to tell apart before the training.
START_IMAGES = 64
# Of a cosine schedule: the part of the steps that warm up, and the last learning rate as a part of the first.
WARM_UP, FINAL_RATE = 0.02, 0.05


class Trainer:
    """One run: a model, its data and its folder, and the clock that ends up in the metrics."""

    def __init__(self, settings: TrainSettings) -> None:
        self.started = time.monotonic()
        self.settings = settings
        self.device = select_device(settings.device)
        self.folder = make_folder(settings.run)
        seed_everything(settings.seed)
        self.root = settings.data.root or make_sample_capture(settings.data)
        self.faults: set[str] = set()
        self.state = load_state(settings) if settings.resume else {}
        self.started -= self.state.get("seconds", 0.0)
        self.model = HumanViewSynthesis(settings.model).to(self.device)
        if self.state:
            self.model.load_state_dict(self.state["model"])
        # The decoder's convolutions are faster with the channels last, on tensor cores and on CPUs.
        self.model.decoder.to(memory_format=torch.channels_last)
        self.writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.state.get("step"))

    def run(self) -> None:
        stages = self.settings.stages
        if self.settings.synthesis.lifter_weights:
            stages = tuple(stage for stage in stages if stage != "lifter")
            if not stages:
                raise UserError("stages: only the lifter, and that comes with --synthesis.lifter-weights")
        reached = stages.index(self.state["stage"]) if self.state.get("stage") in stages else 0
        for stage in stages[reached:]:
            if stage == "lifter":
                self.train_lifter()
            else:
                self.train_synthesis()
        self.writer.close()
        self.finish()

    def train_lifter(self) -> None:
        """2D keypoints to 3D pose; all poses fit into memory."""
        settings, model = self.settings.lifter, self.model
        dataset = PoseDataset(self.root, "train")
        self.check_skeleton(dataset)
        poses, faults = dataset.tensors()
        self.note_faults(faults, dataset)
        poses = to_device(poses, self.device)
        turned = round(settings.virtual_views * settings.batch_size)
        virtual = VirtualViews(dataset) if turned else None
        optimizer = torch.optim.AdamW(
            model.lifter.parameters(),
            settings.learning_rate,
            weight_decay=settings.weight_decay,
            amsgrad=True,
            fused=True,
        )
        first = self.restore("lifter", optimizer)
        model.train()
        bar = self.bar("lifter", range(first, settings.steps), settings.steps)
        for step in bar:
            set_rates(optimizer, step, settings.steps)
            items = draw(len(poses["valid"]), settings.batch_size - turned, self.settings.seed, step).to(self.device)
            batch = {name: value[items] for name, value in poses.items()}
            if virtual:
                more = to_device(virtual.draw(turned, step_generator(self.settings.seed, step)), self.device)
                batch = {name: torch.cat((value, more[name])) for name, value in batch.items()}
            lifted = model.lift(batch["keypoints"], batch["confidence"], batch["resolution"])
            loss = self.pose_loss(lifted, batch["relative"], batch["valid"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 50 == 0 or step + 1 == settings.steps:
                self.log("lifter", step, dict(pose=loss), bar)
            self.save_now_and_then("lifter", step + 1, settings.steps, optimizer)

    def train_synthesis(self) -> None:
        """The whole model, end to end, on pairs of views."""
        settings, model = self.settings.synthesis, self.model
        dataset = self.pairs("train", "known")
        try:
            perceptual = load_perceptual(settings.perceptual_weights)
        except ValueError as error:
            raise UserError(str(error)) from error
        if perceptual:
            perceptual = perceptual.to(self.device)
        if self.settings.compile:
            model.encoder.compile()
            model.decoder.compile()
        parts = [(model.decoder, 1.0), (model.encoder, settings.encoder_rate), (model.lifter, settings.lifter_rate)]
        for part, rate in parts:
            part.requires_grad_(rate > 0)
        optimizer = torch.optim.AdamW(
            [dict(params=part.parameters(), lr=rate * settings.learning_rate) for part, rate in parts if rate > 0],
            betas=(settings.momentum, 0.99),
            weight_decay=settings.weight_decay,
            amsgrad=settings.amsgrad,
            fused=True,
        )
        if self.state.get("stage") != "synthesis":
            if settings.lifter_weights:
                load_lifter(model, settings.lifter_weights)
            self.start_encoder(dataset)
            model.decoder.start_quiet()
        first = self.restore("synthesis", optimizer)
        steps = range(first, settings.steps)
        workers = self.settings.data.workers
        loader = DataLoader(
            dataset,
            batch_sampler=Draws(
                dataset.index, settings.batch_size, self.settings.seed, steps, self.settings.data.balance
            ),
            num_workers=workers,
            collate_fn=collate,
            # Its own random numbers: it would take one from those of the training, at a resume once more.
            generator=torch.Generator(),
        )
        model.train()
        bar = self.bar("synthesis", loader, settings.steps, first)
        for step, batch in enumerate(self.readable(bar, dataset), first):
            if settings.cosine:
                set_rates(optimizer, step, settings.steps)
            batch = to_device(batch, self.device)
            with autocast(self.device):
                found = synthesise(model, batch)
            image, target = found["image"].float(), batch["image_b"]
            losses = dict(
                pixel=pixel_loss(image, target),
                appearance=found["appearance"].float().square().mean(),
                pose=self.pose_loss(found["lifted"], found["relative"], batch["valid"]),
            )
            if perceptual:
                losses["perceptual"] = perceptual(image, target)
            loss = torch.stack([WEIGHTS[name] * value for name, value in losses.items()]).sum()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
            optimizer.step()
            if step % settings.log_every == 0 or step + 1 == settings.steps:
                self.log("synthesis", step, dict(losses, total=loss), bar)
                # Pairs without a person in them, and broken files, for which others were taken.
                self.writer.add_scalar("synthesis/skipped", batch["skipped"].float().mean(), step)
                self.writer.add_scalar("synthesis/faults", len(self.faults), step)
            if step % (10 * settings.log_every) == 0:
                rows = [list(images[:8]) for images in (batch["image_a"], image, target)]
                self.writer.add_image("source, output, target", np.array(mosaic(rows)), step, dataformats="HWC")
            self.save_now_and_then("synthesis", step + 1, settings.steps, optimizer)

    def start_encoder(self, dataset: PairDataset) -> None:
        """From ImageNet's weights where there are some, else from random features of the training images."""
        weights = self.settings.synthesis.encoder_weights
        if weights:
            load_imagenet(self.model.encoder, weights)
        else:
            chosen = even_subset(dataset, START_IMAGES, self.settings.seed)
            images = torch.stack([chosen[i]["image_a"] for i in range(len(chosen))])
            self.model.encoder.start_apart(images.to(self.device))

    def finish(self) -> None:
        """Evaluate on held-out frames and held-out subjects, write the results and say where they are."""
        settings, folder = self.settings, self.folder
        lpips = lpips_alex()
        if lpips:
            lpips = lpips.to(self.device)
        scores: dict[str, Any] = {}
        shown = []
        for subjects in ("known", "unknown"):
            try:
                dataset = self.pairs("test", subjects)
            except NoSequencesError:
                # Nobody was kept out of the training.
                if subjects == "known":
                    raise
                continue
            chosen = even_subset(dataset, settings.data.evaluation_pairs, settings.seed)
            loader = DataLoader(chosen, batch_size=settings.synthesis.batch_size, collate_fn=collate)
            batches = self.readable(tqdm(loader, f"evaluate {subjects} subjects", unit="batch"), dataset)
            found = evaluate(self.model, batches, lpips)
            scores |= found if subjects == "known" else {"held_out_subjects": found}
            shown += [chosen[i] for i in torch.linspace(0, len(chosen) - 1, 4).round().int().tolist()]
        scores["seconds"] = time.monotonic() - self.started
        preview = draw_pairs(self.model, collate(shown))
        write_atomically(folder / "preview.png", lambda path: preview.save(path, "PNG"))
        write_atomically(folder / "metrics.json", lambda path: path.write_text(json.dumps(scores, indent=1)))
        save_model(folder / "model.safetensors", self.model, dict(root=str(Path(self.root).absolute()), metrics=scores))
        print_table(scores)
        print(f"preview     {folder / 'preview.png'}")
        print(f"checkpoint  {folder / 'model.safetensors'}")

    def pairs(self, split: str, subjects: str) -> PairDataset:
        """Every pair of two different views: a view of its own is no novel one."""
        model = self.settings.model
        sizes = model.input_resolution, model.target_resolution
        dataset = PairDataset(self.root, split, subjects, *sizes, model.resize, same_view=False)
        self.check_skeleton(dataset)
        return dataset

    def check_skeleton(self, dataset: PairDataset | PoseDataset) -> None:
        found, wanted = dataset.layout.skeleton, self.model.skeleton
        if found.name != wanted.name:
            raise UserError(f"{self.root}: is a {found.name} capture, but the model's skeleton is {wanted.name}")
        if found.joints != wanted.joints:
            raise UserError(f"{self.root}: its joints are not those of --model.joints, or in another order")

    def readable(self, batches: Iterable[dict[str, Any]], dataset: PairDataset) -> Iterator[dict[str, Any]]:
        """The batches, telling what had to be passed over for them."""
        for batch in batches:
            self.note_faults(chain(*batch["faults"]), dataset)
            yield batch

    def note_faults(self, faults: Iterable[str], dataset: PairDataset | PoseDataset) -> None:
        """Tell of broken files once each; a few are passed over, many mean that the capture needs a look."""
        for fault in sorted(set(faults) - self.faults):
            tqdm.write(f"note: passed over {fault}", file=sys.stderr)
            self.faults.add(fault)
        limit = max(1, round(self.settings.data.max_faults * int(dataset.index.counts.sum())))
        if len(self.faults) > limit:
            raise UserError(
                f"{self.root}: more than {limit} broken files, the last one {fault}; "
                f"python -m hvs.data check {self.root} lists them all"
            )

    def pose_loss(self, lifted: Tensor, relative: Tensor, valid: Tensor) -> Tensor:
        """In metres; over all joints alike, or part by part as in the paper."""
        if self.settings.lifter.weigh_parts:
            return pose_loss(lifted, relative, valid, self.model.skeleton)
        return mpjpe(lifted, relative, valid).nanmean() / MILLIMETRES

    def restore(self, stage: str, optimizer: torch.optim.Optimizer) -> int:
        return restore(self.state if self.state.get("stage") == stage else {}, optimizer)

    def save_now_and_then(self, stage: str, done: int, steps: int, optimizer: torch.optim.Optimizer) -> None:
        if done % self.settings.checkpoint_every == 0 or done == steps:
            save_state(self.settings, stage, done, time.monotonic() - self.started, self.model, optimizer)

    def log(self, stage: str, step: int, losses: dict[str, Tensor], bar: tqdm) -> None:
        values = {name: value.item() for name, value in losses.items()}
        for name, value in values.items():
            self.writer.add_scalar(f"{stage}/{name}", value, step)
        bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()})

    @staticmethod
    def bar(name: str, steps: Any, total: int, first: int | None = None) -> tqdm:
        return tqdm(steps, name, initial=steps.start if first is None else first, total=total, mininterval=1)


def set_rates(optimizer: torch.optim.Optimizer, step: int, steps: int) -> None:
    """A linear warm-up, then a cosine; a function of the step alone, so there is no state to save."""
    warm_up = max(1, WARM_UP * steps)
    progress = max(0.0, step - warm_up) / max(1.0, steps - warm_up)
    cosine = FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * progress))
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * min(1.0, (step + 1) / warm_up) * cosine


def make_sample_capture(data: DataSettings) -> Path:
    try:
        from hvs.data.sample import SampleSettings, make_sample
    except ImportError as error:
        raise UserError(f"the sample capture needs the package {error.name}: pip install 'hvs[sample]'") from error
    size = dict(height=data.sample_height, width=round(data.sample_height * 16 / 9))
    try:
        return make_sample(settings=SampleSettings(subjects=data.sample_subjects, frames=data.sample_frames, **size))
    except ValueError as error:
        raise UserError(f"the sample capture: {error}") from error


def print_table(scores: dict[str, Any]) -> None:
    rows = dict(
        psnr="PSNR (dB)",
        ssim="SSIM",
        lpips="LPIPS",
        psnr_foreground="foreground PSNR (dB)",
        psnr_foreground_background_baseline="  of the constant background",
        psnr_foreground_copy_baseline="  of the source image",
        mpjpe_mm="MPJPE (mm)",
    )
    columns = {"held-out frames": scores}
    if "held_out_subjects" in scores:
        columns["held-out subjects"] = scores["held_out_subjects"]
    print(f"\n{'on novel views':30s}" + "".join(f"{title:>19s}" for title in columns))
    for name, title in rows.items():
        if name in scores:
            print(f"{title:30s}" + "".join(f"{column[name]:19.2f}" for column in columns.values()))
    print(f"\ntime        {scores['seconds']:.0f} s")


def parse_settings(arguments: list[str]) -> TrainSettings:
    """A preset's name, "sample" if none is given, and settings that change it."""
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["sample", *arguments]
    presets = {name: (DESCRIPTIONS[name], settings) for name, settings in PRESETS.items()}
    return tyro.extras.overridable_config_cli(presets, description=__doc__, args=arguments)


def main() -> None:
    settings = parse_settings(sys.argv[1:])
    warnings.showwarning = lambda message, *_: tqdm.write(f"note: {message}", file=sys.stderr)
    Trainer(settings).run()


if __name__ == "__main__":
    run_command(main)
