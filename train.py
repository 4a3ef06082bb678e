"""Train a model.

python train.py                       the sample capture, on any machine, in minutes

python train.py sample-adaptive       continues from that, against a discriminator

python train.py sample-512            the same at 512×512, for a GPU

python train.py sample --help         every setting
"""

import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import tyro
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hvs import HumanViewSynthesis, distribute, load
from hvs.config import TrainSettings
from hvs.data import PairDataset, collate
from hvs.data.recolouring import draw_colours, recolour
from hvs.data.sampling import draw, step_generator
from hvs.data.virtual import VirtualViews
from hvs.evaluation import to_device
from hvs.losses import R1_INTERVAL
from hvs.models import Discriminator
from hvs.presets import DESCRIPTIONS, PRESETS
from hvs.runtime import UserError, autocast, choose_precision, make_folder, run_command, seed_everything
from hvs.training.capture import Capture
from hvs.training.finishing import finish
from hvs.training.making import (
    check_settings,
    make_critic,
    make_lpips,
    make_perceptual,
    make_terms,
    resumes_in_synthesis,
    warn_of_unheeded,
)
from hvs.training.monitor import ROWS, Watch
from hvs.training.objectives import Critic, LifterObjective, SynthesisObjective, add_up, total
from hvs.training.optimizers import critic_optimizer, lifter_optimizer, set_rates, synthesis_optimizer, train_mode
from hvs.training.progress import Progress
from hvs.training.report import write_report
from hvs.training.stepper import Stepper
from hvs.training.validation import make_validation
from hvs.transfer import load_weights

CLIP_NORM = 1.0
LIFTER_LOG_EVERY = 50
# Training images that an untrained encoder is initialised to tell apart.
START_IMAGES = 64


class Trainer:
    """One run: a model, its data and its folder, and the clock whose time is reported in the metrics."""

    def __init__(self, settings: TrainSettings) -> None:
        started = time.monotonic()
        self.device = distribute.start(settings.device)
        self.first = distribute.is_first()
        distribute.agree(**vars(settings), device_type=self.device.type)
        check_settings(settings)
        if self.first:
            make_folder(settings.run)
        seed_everything(settings.seed)
        self.precision = choose_precision(settings.precision, self.device)
        model = load(settings.start_from) if settings.start_from else HumanViewSynthesis(settings.model)
        if not self.first:
            # The model is the same in all processes; what the steps draw at random is not.
            seed_everything(settings.seed + distribute.rank())
        # A checkpoint brings its own model settings.
        self.settings = settings = replace(settings, model=model.settings)
        self.model = model.to(self.device)
        # The decoder's convolutions are faster in the channels-last layout, on tensor cores and on CPUs.
        self.model.decoder.to(memory_format=torch.channels_last)
        # All pictures have the same size, so the search for the fastest convolution is short.
        torch.backends.cudnn.benchmark = True
        self.average: AveragedModel | None = None
        # All weights from files are read before anything is trained or renamed: a faulty one should not end the run
        # later.
        synthesis = "synthesis" in settings.stages
        self.perceptual = make_perceptual(settings.synthesis, self.device) if synthesis else None
        self.lpips = make_lpips(model.settings, self.device) if settings.has_pictures else None
        self.critic: Critic | None = make_critic(settings, self.device) if synthesis else None
        if synthesis and not resumes_in_synthesis(settings):
            load_weights(model, settings.synthesis)
        # Captures are opened before, too; what is in the files is read later.
        self.capture = Capture(settings, model)
        self.poses = self.capture.poses() if "lifter" in settings.to_train else None
        self.pairs = self.capture.pairs("train", "known") if synthesis else None
        # Every machine has a download cache of its own.
        found = {"vgg16_weights": self.perceptual, "alexnet_weights": self.lpips}
        distribute.agree(**{name: "found" if part else "missing" for name, part in found.items()})
        weights = settings.synthesis.lifter_weights, settings.synthesis.encoder_weights
        reads = settings.start_from, Path(self.capture.root), *weights
        self.progress = Progress(settings, self.model, self.device, started, reads)

    def run(self) -> None:
        """Train, evaluate, and write the results; a report at least, if the run is stopped."""
        with self.progress:
            try:
                self.train()
                finish(self.settings, self.capture, self.progress, *self.result(), self.lpips)
            except (SystemExit, Exception):
                # A report on what a stopped run has done so far, if there is room on the disk.
                with suppress(OSError):
                    if self.first:
                        write_report(self.settings.run, self.settings, self.device, self.progress.seconds)
                raise

    def train(self) -> None:
        """Train the stages of the settings, from the one in which the run was stopped."""
        stages = self.settings.to_train
        if "synthesis" not in stages and self.progress.stage == "synthesis":
            # Trained again, the lifter's states would replace those of the synthesis.
            raise UserError(f"stages: got only the lifter, but {self.settings.run} has gone on to the synthesis")
        if "synthesis" in stages and self.progress.stage != "synthesis":
            # Again, as a state of the lifter would have taken their place.
            load_weights(self.model, self.settings.synthesis)
        reached = stages.index(self.progress.stage) if self.progress.stage in stages else 0
        for stage in stages[reached:]:
            if stage == "lifter":
                self.train_lifter()
            else:
                self.train_synthesis()

    def train_lifter(self) -> None:
        """Train the lifter from 2D keypoints to 3D poses; all poses fit into memory."""
        settings, model, faults = self.settings.lifter, self.model, self.capture.faults
        # No longer needed afterwards.
        dataset, self.poses = self.poses, None
        read = self.capture.tensors(dataset)
        count = len(read.items["valid"])
        distribute.agree(poses=count)
        turned = settings.virtual
        virtual = VirtualViews(dataset, read.world) if turned else None
        poses = to_device(read.items, self.device)

        objective = distribute.wrap(LifterObjective(model, settings.weigh_parts))
        optimizer = lifter_optimizer(model, settings)
        stepper = Stepper("lifter", optimizer)
        parts = {"contents": self.capture.contents("poses", count), "lifter": stepper}
        steps = range(self.progress.restore("lifter", parts), settings.count_steps(count))

        model.train()
        watch = Watch(self.settings.run, "lifter", steps, LIFTER_LOG_EVERY, settings.batch_size, self.device)
        with watch:
            for step in watch:
                set_rates(optimizer, step, steps.stop, settings.epochs)
                items = draw(count, settings.batch_size - turned, self.settings.seed, step)
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
                    faults.tell(dataset)
                    watch.log(step, [stepper], faults=len(faults))
                self.save_now_and_then(watch, step + 1, parts)

    def train_synthesis(self) -> None:
        """Train the whole model end to end on pairs of views, against a discriminator if the loss is adversarial."""
        settings, model, faults = self.settings.synthesis, self.model, self.capture.faults
        dataset = self.pairs
        distribute.agree(pairs=len(dataset))

        critic = self.critic
        objective = SynthesisObjective(model, self.settings.lifter.weigh_parts, self.perceptual, critic)
        if settings.save_memory:
            model.decoder.save_memory()
        if self.settings.compile:
            # Compiled as a whole, with the rasteriser and the losses; evaluation uses the model as it is.
            for part in filter(None, (objective, critic)):
                part.compile(dynamic=False)
        scaled = self.precision is torch.float16
        steppers = {"synthesis": Stepper("synthesis", synthesis_optimizer(model, settings), CLIP_NORM, scaled)}
        if critic:
            optimizer = critic_optimizer(critic.discriminator, settings)
            steppers["critic"] = Stepper("discriminator", optimizer, CLIP_NORM, scaled)
        if self.progress.stage != "synthesis" and not self.settings.start_from:
            self.start_synthesis(dataset)
        objective, judging = distribute.wrap(objective), critic and distribute.wrap(critic)
        if settings.decay:
            self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.decay))
        validation = make_validation(self.settings, self.capture, self.lpips)
        extra = {"discriminator": critic, "average": self.average, "validation": validation}
        terms, contents = make_terms(settings, self.perceptual), self.capture.contents("pairs", len(dataset))
        parts = {"contents": contents, "losses": terms, **steppers, **extra}
        steps = range(self.progress.restore("synthesis", parts), settings.steps)

        draws = self.capture.draws(dataset, steps)
        batches = self.capture.batches(dataset, draws, self.device)
        # Always the same pairs, to see them improve.
        examples = collate(self.capture.read(self.capture.examples(dataset, ROWS))) if self.first else None
        augmentation = critic and critic.augmentation
        followed = {"augmentation": augmentation.probability} if augmentation else {}
        train_mode(model)
        watch = Watch(self.settings.run, "synthesis", steps, settings.log_every, settings.batch_size, self.device)
        with watch:
            if not steps.start:
                watch.show(0, self.result()[0], examples)
            for step in watch:
                if settings.cosine:
                    for stepper in steppers.values():
                        set_rates(stepper.optimizer, step, steps.stop)
                shown, samples, passed = [], [], []
                colours = draw_colours(settings.batch_size, settings.recolour, self.settings.seed, step)
                for last, maps in zip(draws.last_of_passes, colours.chunk(draws.passes), strict=True):
                    batch = to_device(watch.wait_for(batches), self.device)
                    if settings.recolour:
                        recolour(batch, distribute.share(maps), model.skeleton)
                    with distribute.accumulating(objective, last):
                        with autocast(self.device, self.precision):
                            losses, found = objective(batch)
                        steppers["synthesis"].backward(total(losses) / draws.passes)
                    # Pairs without a person, which were replaced by others.
                    watch.add(losses, skipped=batch["skipped"].float().mean())
                    shown.append((found["image"].detach().float(), batch["image_b"]))
                    samples += batch["name"]
                    passed.append(losses)
                steppers["synthesis"].step(step, add_up(passed), samples)
                if critic:
                    passed = []
                    for last, pictures in zip(draws.last_of_passes, shown, strict=True):
                        with distribute.accumulating(judging, last):
                            with autocast(self.device, self.precision):
                                penalise = step % R1_INTERVAL == 0
                                judged = judging(*pictures, penalise=penalise, part=1 / draws.passes)
                            steppers["critic"].backward(total(judged) / draws.passes)
                        watch.add(judged)
                        passed.append(judged)
                    steppers["critic"].step(step, add_up(passed), samples)
                if self.average:
                    self.average.update_parameters(model)
                if watch.is_due(step):
                    faults.tell(dataset)
                    watch.log(step, steppers.values(), faults=len(faults), **followed)
                watch.show(step + 1, self.result()[0], examples)
                self.save_now_and_then(watch, step + 1, parts)

    def start_synthesis(self, dataset: PairDataset) -> None:
        """Initialise the synthesis where training does not continue from a checkpoint of a whole model."""
        # Without ImageNet weights, the encoder starts from random features that tell training images apart.
        if not self.settings.synthesis.encoder_weights:
            images = [pair["image_a"] for pair in self.capture.read(self.capture.examples(dataset, START_IMAGES))]
            self.model.encoder.start_apart(torch.stack(images).to(self.device))
        self.model.decoder.start_quiet()

    def result(self) -> tuple[HumanViewSynthesis, Discriminator | None]:
        """The model to evaluate and save, and the discriminator if there is one."""
        model = self.average.module if self.average else self.model
        return model, self.critic and self.critic.discriminator

    def save_now_and_then(self, watch: Watch, done: int, parts: dict[str, Any]) -> None:
        """Validate and save, if that is due after ``done`` steps or the run has been asked to stop."""
        steps = watch.steps.stop
        due = done % self.settings.checkpoint_every == 0 or done == steps
        if not (due or self.progress.asked):
            return
        with watch.aside():
            if due and "validation" in parts:
                watch.log_scores(done, parts["validation"](done, *self.result()))
            watch.flush()
            self.progress.save(watch.stage, done, steps, parts)


def parse_settings(arguments: list[str]) -> TrainSettings:
    """Parse a preset's name ("sample" if none is given) and the settings that change it."""
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["sample", *arguments]
    # --resume alone means --resume auto.
    for i, argument in enumerate(arguments):
        if argument == "--resume" and (arguments[i + 1 :] or ["-"])[0].startswith("-"):
            arguments = [*arguments[: i + 1], "auto", *arguments[i + 1 :]]
    presets = {name: (DESCRIPTIONS[name], settings) for name, settings in PRESETS.items()}
    with distribute.first_prints():
        if (name := arguments[0]) not in presets:
            return tyro.extras.overridable_config_cli(presets, description=__doc__, args=arguments)
        # On its own, so that errors point to the help with all the settings, not to the list of presets.
        described = dict(prog=f"train.py {name}", description=DESCRIPTIONS[name])
        return tyro.cli(TrainSettings, default=PRESETS[name], args=arguments[1:], **described)


def main() -> None:
    settings = parse_settings(sys.argv[1:])
    # If a log's writer thread fails to write, whoever writes to the log next reports it.
    threading.excepthook = lambda args: issubclass(args.exc_type, OSError) or threading.__excepthook__(args)
    with distribute.one_voice():
        trainer = Trainer(settings)
        warn_of_unheeded(sys.argv, settings.model, trainer.settings.model)
        trainer.run()


if __name__ == "__main__":
    run_command(main)
