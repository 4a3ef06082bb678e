"""Train a model.

python train.py                       the sample capture, on any machine, in minutes

python train.py sample-512            the same at 512×512, for a GPU

python train.py sample --help         every setting
"""

import json
import math
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from hvs import HumanViewSynthesis, distribute, load
from hvs.checkpoint import load_discriminator, save_model
from hvs.config import DESCRIPTIONS, PRESETS, DataSettings, TrainSettings
from hvs.data import DataError, NoSequencesError, PairDataset, PoseDataset, collate, even_subset
from hvs.data.sampling import Draws, draw, step_generator
from hvs.data.virtual import VirtualViews
from hvs.evaluation import average, draw_pairs, score, to_device
from hvs.losses import R1_INTERVAL, TERMS, AdaptiveAugmentation, PerceptualLoss, load_perceptual
from hvs.metrics import lpips_alex
from hvs.models import Discriminator
from hvs.runtime import (
    UserError,
    autocast,
    choose_precision,
    make_folder,
    run_command,
    seed_everything,
    write_atomically,
)
from hvs.training.faults import Faults
from hvs.training.interrupt import heed_parent
from hvs.training.monitor import ROWS, Watch
from hvs.training.objectives import Critic, LifterObjective, SynthesisObjective, total
from hvs.training.progress import Progress
from hvs.training.report import score_table, write_report
from hvs.training.stepper import Stepper
from hvs.training.validation import Validation
from hvs.transfer import load_imagenet, load_lifter

CLIP_NORM = 1.0
LIFTER_LOG_EVERY = 50
# Images that an untrained encoder learns to tell apart before the training.
START_IMAGES = 64
# Of a cosine schedule: the part of the steps that warm up, and the last learning rate as a part of the first.
WARM_UP, FINAL_RATE = 0.02, 0.05


class Trainer:
    """One run: a model, its data and its folder, and the clock that ends up in the metrics."""

    def __init__(self, settings: TrainSettings) -> None:
        started = time.monotonic()
        self.settings = settings
        self.device = distribute.start(settings.device)
        self.first = distribute.is_first()
        distribute.agree(**vars(settings), device_type=self.device.type)
        self.folder = make_folder(settings.run) if self.first else settings.run
        seed_everything(settings.seed)
        self.root = settings.data.root or make_sample_capture(settings.data)
        self.faults = Faults(self.root, settings.data.max_faults)
        self.precision = choose_precision(settings.precision, self.device)
        model = load(settings.start_from) if settings.start_from else HumanViewSynthesis(settings.model)
        if not self.first:
            # The model is the same in all processes, what the steps draw at random is not.
            seed_everything(settings.seed + distribute.rank())
        # A checkpoint brings its own settings of the model.
        self.settings = settings = replace(settings, model=model.settings)
        self.model = model.to(self.device)
        self.average: AveragedModel | None = None
        self.critic: Critic | None = None
        weights = settings.synthesis.lifter_weights, settings.synthesis.encoder_weights
        reads = settings.start_from, Path(self.root), *weights
        self.progress = Progress(settings, self.model, self.device, started, reads)
        # Pictures are all of one size: the search for the fastest convolution is soon done.
        torch.backends.cudnn.benchmark = True
        # The decoder's convolutions are faster with the channels last, on tensor cores and on CPUs.
        self.model.decoder.to(memory_format=torch.channels_last)

    def run(self) -> None:
        with self.progress:
            try:
                self.train()
                self.finish()
            except (SystemExit, UserError):
                # What there is to see of a run that was stopped, if the disk holds it.
                with suppress(OSError):
                    self.report()
                raise

    def train(self) -> None:
        stages = self.settings.stages
        if self.settings.synthesis.lifter_weights:
            stages = tuple(stage for stage in stages if stage != "lifter")
            if not stages:
                raise UserError("stages: only the lifter, and that comes with --synthesis.lifter-weights")
        reached = stages.index(self.progress.stage) if self.progress.stage in stages else 0
        for stage in stages[reached:]:
            if stage == "lifter":
                self.train_lifter()
            else:
                self.train_synthesis()

    def train_lifter(self) -> None:
        """2D keypoints to 3D pose; all poses fit into memory."""
        settings, model = self.settings.lifter, self.model
        dataset = PoseDataset(self.root, "train")
        self.check_skeleton(dataset)
        poses, faults = dataset.tensors()
        self.faults.note(faults, dataset)
        distribute.agree(poses=len(poses["valid"]))
        poses = to_device(poses, self.device)
        steps = settings.steps
        if settings.epochs is not None:
            steps = math.ceil(settings.epochs * len(poses["valid"]) / settings.batch_size)
        turned = round(settings.virtual_views * settings.batch_size)
        virtual = VirtualViews(dataset) if turned else None
        objective = distribute.wrap(LifterObjective(model, settings.weigh_parts))
        optimizer = torch.optim.AdamW(
            model.lifter.parameters(),
            settings.learning_rate,
            weight_decay=settings.weight_decay,
            amsgrad=True,
            fused=True,
        )
        stepper = Stepper("lifter", optimizer)
        first = self.progress.restore("lifter", {"lifter": stepper})
        model.train()
        with self.watch("lifter", range(first, steps), LIFTER_LOG_EVERY, settings.batch_size) as watch:
            for step in watch:
                set_rates(optimizer, step, steps)
                items = draw(len(poses["valid"]), settings.batch_size - turned, self.settings.seed, step)
                items = items.to(self.device, non_blocking=True)
                batch = {name: value[items] for name, value in poses.items()}
                if virtual:
                    more = to_device(virtual.draw(turned, step_generator(self.settings.seed, step)), self.device)
                    batch = {name: torch.cat((value, more[name])) for name, value in batch.items()}
                batch = {name: distribute.share(value) for name, value in batch.items()}
                losses = objective(batch)
                stepper.backward(losses["pose"])
                stepper.step(step, losses)
                watch.add(losses)
                if watch.is_due(step):
                    self.faults.tell(dataset)
                    watch.log(step, [stepper], faults=len(self.faults))
                self.save_now_and_then(watch, step + 1, {"lifter": stepper})

    def train_synthesis(self) -> None:
        """The whole model, end to end, on pairs of views; against a discriminator, if the loss is adversarial."""
        settings, model = self.settings.synthesis, self.model
        dataset = self.pairs("train", "known")
        distribute.agree(pairs=len(dataset))
        self.critic = critic = self.make_critic()
        objective = SynthesisObjective(model, self.settings.lifter.weigh_parts, self.load_perceptual(), critic)
        if self.settings.compile:
            # As a whole, with the rasteriser and the losses; what evaluates the model stays as it is.
            for part in (objective, critic):
                if part:
                    part.compile(dynamic=False)
        rates = {"decoder": 1.0, "encoder": settings.encoder_rate, "lifter": settings.lifter_rate}
        groups = []
        for name, rate in rates.items():
            part = model.get_submodule(name).requires_grad_(rate > 0)
            if rate > 0:
                groups.append(dict(params=part.parameters(), lr=rate * settings.learning_rate, name=name))
        scaled = self.precision is torch.float16
        steppers = {"synthesis": Stepper("synthesis", self.make_optimizer(groups), CLIP_NORM, scaled)}
        if critic:
            weights = [dict(params=critic.discriminator.parameters(), lr=settings.learning_rate)]
            steppers["critic"] = Stepper("discriminator", self.make_optimizer(weights), CLIP_NORM, scaled)
        if self.progress.stage != "synthesis" and not self.settings.start_from:
            if settings.lifter_weights:
                load_lifter(model, settings.lifter_weights)
            self.start_encoder(dataset)
            model.decoder.start_quiet()
        objective, judging = distribute.wrap(objective), critic and distribute.wrap(critic)
        if settings.average:
            self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.average))
        extra = {"discriminator": critic, "average": self.average, "validation": self.make_validation()}
        parts = {**steppers, **extra}
        first = self.progress.restore("synthesis", parts)
        draws = self.draws(dataset, range(first, settings.steps))
        loader = DataLoader(
            dataset,
            batch_sampler=draws,
            num_workers=self.settings.data.workers,
            collate_fn=collate,
            pin_memory=self.device.type == "cuda",
            # Its own random numbers: it would take one from those of the training, at a resume once more.
            generator=torch.Generator(),
            worker_init_fn=heed_parent,
        )
        # Always the same ones, to see them become better.
        examples = collate(list(even_subset(dataset, ROWS, self.settings.seed))) if self.first else None
        augmentation = critic and critic.augmentation
        followed = {"augmentation": augmentation.probability} if augmentation else {}
        batches = self.readable(loader, dataset)
        model.train()
        with self.watch("synthesis", range(first, settings.steps), settings.log_every, settings.batch_size) as watch:
            if not first:
                watch.show(0, self.result()[0], examples)
            for step in watch:
                if settings.cosine:
                    set_rates(steppers["synthesis"].optimizer, step, settings.steps)
                shown, samples = [], []
                for last in draws.last_of_passes:
                    batch = to_device(next(batches), self.device)
                    with distribute.accumulating(objective, last):
                        with autocast(self.device, self.precision):
                            losses, found = objective(batch)
                        steppers["synthesis"].backward(total(losses) / draws.passes)
                    # Pairs without a person in them, for which others were taken.
                    watch.add(losses, skipped=batch["skipped"].float().mean())
                    shown.append((found["image"].detach().float(), batch["image_b"]))
                    samples += batch["name"]
                steppers["synthesis"].step(step, losses, samples)
                if critic:
                    for last, pictures in zip(draws.last_of_passes, shown, strict=True):
                        with distribute.accumulating(judging, last):
                            with autocast(self.device, self.precision):
                                judged = judging(*pictures, penalise=step % R1_INTERVAL == 0)
                            steppers["critic"].backward(total(judged) / draws.passes)
                        watch.add(judged)
                    steppers["critic"].step(step, judged, samples)
                if self.average:
                    self.average.update_parameters(model)
                if watch.is_due(step):
                    self.faults.tell(dataset)
                    watch.log(step, steppers.values(), faults=len(self.faults), **followed)
                watch.show(step + 1, self.result()[0], examples)
                self.save_now_and_then(watch, step + 1, parts)

    def draws(self, dataset: PairDataset, steps: range) -> Draws:
        settings = self.settings.synthesis
        part = distribute.rank(), distribute.world()
        size, seed, balance = settings.batch_size, self.settings.seed, self.settings.data.balance
        try:
            return Draws(dataset.index, size, seed, steps, balance, settings.most_at_once, part)
        except ValueError as error:
            raise UserError(f"synthesis.{error}") from error

    def make_critic(self) -> Critic | None:
        """The other side of an adversarial training, from the checkpoint that is gone on from if that has one."""
        settings = self.settings.synthesis
        if "adversarial" not in TERMS[settings.image_loss]:
            return None
        found = load_discriminator(self.settings.start_from) if self.settings.start_from else None
        augmentation = AdaptiveAugmentation() if settings.image_loss == "adaptive" else None
        return Critic(found or Discriminator(), augmentation).to(self.device)

    def load_perceptual(self) -> PerceptualLoss | None:
        settings = self.settings.synthesis
        kinds = [term for term in TERMS[settings.image_loss] if term in ("vgg", "lpips")]
        try:
            found = load_perceptual(settings.perceptual_weights, *kinds) if kinds else None
        except ValueError as error:
            raise UserError(str(error)) from error
        return found.to(self.device) if found else None

    def make_optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        settings = self.settings.synthesis
        return torch.optim.AdamW(
            groups,
            betas=(settings.momentum, 0.99),
            weight_decay=settings.weight_decay,
            amsgrad=settings.amsgrad,
            fused=True,
        )

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
        model, discriminator = self.result()
        scores: dict[str, Any] = {}
        shown = []
        for subjects in ("known", "unknown"):
            if self.progress.asked:
                self.progress.leave("after the training, before its evaluation")
            try:
                dataset = self.pairs("test", subjects)
            except NoSequencesError:
                # Nobody was kept out of the training.
                if subjects == "known":
                    raise
                continue
            chosen = even_subset(dataset, settings.data.evaluation_pairs, settings.seed)
            own = Subset(chosen, distribute.part(len(chosen)))
            loader = DataLoader(own, batch_size=settings.synthesis.batch_size, collate_fn=collate)
            bar = tqdm(loader, f"evaluate {subjects} subjects", unit="batch", disable=not self.first)
            found = average(distribute.gather(score(model, self.readable(bar, dataset), self.lpips)))
            self.faults.tell(dataset)
            scores |= found if subjects == "known" else {"held_out_subjects": found}
            if self.first:
                shown += [chosen[i] for i in torch.linspace(0, len(chosen) - 1, 4).round().int().tolist()]
        if not self.first:
            return
        scores["seconds"] = self.progress.seconds
        preview = draw_pairs(model, collate(shown))
        write_atomically(folder / "preview.png", lambda path: preview.save(path, "PNG"))
        write_atomically(folder / "metrics.json", lambda path: path.write_text(json.dumps(scores, indent=1)))
        extra = dict(root=str(Path(self.root).absolute()), metrics=scores)
        save_model(folder / "model.safetensors", model, extra, discriminator)
        print(f"\n{score_table(scores)}\n\ntime        {scores['seconds']:.0f} s")
        print(f"report      {self.report(scores)}")
        print(f"preview     {folder / 'preview.png'}")
        print(f"checkpoint  {folder / 'model.safetensors'}")

    def report(self, scores: dict[str, Any] | None = None) -> Path | None:
        return (
            write_report(self.folder, self.settings, self.device, self.progress.seconds, scores) if self.first else None
        )

    def result(self) -> tuple[HumanViewSynthesis, Discriminator | None]:
        """What is evaluated and saved."""
        model = self.average.module if self.average else self.model
        return model, self.critic and self.critic.discriminator

    @cached_property
    def lpips(self) -> nn.Module | None:
        lpips = lpips_alex()
        return lpips and lpips.to(self.device)

    def make_validation(self) -> Validation:
        settings = self.settings
        try:
            count = settings.data.validation_pairs
            chosen = even_subset(self.pairs("val", "known"), count, settings.seed) if count else []
        except DataError as error:
            warnings.warn(f"no best.safetensors, as nothing can tell the best model: {error}", stacklevel=2)
            chosen = []
        return Validation(self.folder / "best.safetensors", chosen, settings.synthesis.batch_size, self.lpips)

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
            self.faults.note(chain(*batch["faults"]), dataset)
            yield batch

    def watch(self, stage: str, steps: range, log_every: int, images: int) -> Watch:
        return Watch(self.folder, stage, steps, log_every, images, self.device)

    def save_now_and_then(self, watch: Watch, done: int, parts: dict[str, Any]) -> None:
        steps = watch.steps.stop
        due = done % self.settings.checkpoint_every == 0 or done == steps
        if due and "validation" in parts and self.first:
            watch.score(done, parts["validation"](done, *self.result()))
        if due or self.progress.asked:
            watch.flush()
            self.progress.save(watch.stage, done, steps, parts)


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


def parse_settings(arguments: list[str]) -> TrainSettings:
    """A preset's name, "sample" if none is given, and settings that change it."""
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["sample", *arguments]
    # --resume alone is --resume auto.
    for i, argument in enumerate(arguments):
        if argument == "--resume" and (arguments[i + 1 :] or ["-"])[0].startswith("-"):
            arguments = [*arguments[: i + 1], "auto", *arguments[i + 1 :]]
    presets = {name: (DESCRIPTIONS[name], settings) for name, settings in PRESETS.items()}
    return tyro.extras.overridable_config_cli(presets, description=__doc__, args=arguments)


def show_warning(message: Warning | str, *_: Any) -> None:
    if distribute.is_first():
        tqdm.write(f"note: {message}", file=sys.stderr)


def main() -> None:
    settings = parse_settings(sys.argv[1:])
    warnings.showwarning = show_warning
    # A log that cannot be written is told of by whoever writes to it next.
    threading.excepthook = lambda args: issubclass(args.exc_type, OSError) or threading.__excepthook__(args)
    with distribute.one_voice():
        Trainer(settings).run()


if __name__ == "__main__":
    run_command(main)
