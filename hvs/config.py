"""Typed training settings."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .data.sampling import Balance
from .losses.terms import TERMS, ImageLoss
from .models import ModelSettings
from .runtime import Precision

Stage = Literal["lifter", "synthesis"]

# Steps that the original calls an epoch.
EPOCH_STEPS = 2048
# Decay of the running average of the weights against a discriminator, unless given.
AVERAGE = 0.999
# numpy's largest seed, less room for the ranks, which are added to the seed.
LAST_SEED = 2**32 - 2**16


def _require_positive(settings: object, *names: str) -> None:
    for name in names:
        if not 0 < getattr(settings, name) < math.inf:
            raise ValueError(f"{name}: got {getattr(settings, name)}, wanted more than 0")


def _require_between(settings: object, low: float, high: float, *names: str) -> None:
    for name in names:
        if not (low <= getattr(settings, name) <= high and getattr(settings, name) < math.inf):
            wanted = f"{low} or more" if high == math.inf else f"{low} to {high}"
            raise ValueError(f"{name}: got {getattr(settings, name)}, wanted {wanted}")


@dataclass(frozen=True)
class DataSettings:
    """Which capture to train on."""

    root: Path | None = None
    """Folder of a capture, prepared or of plain files (docs/data.md); by default the sample, made if needed."""
    sample_height: int = 270
    """Height of the sample capture's frames in pixels."""
    sample_frames: int = 56
    """Frames of each subject of the sample capture."""
    sample_subjects: int = 10
    """Subjects of the sample capture; the last one is never trained on."""
    workers: int = 0
    """Processes that read poses and training pairs in addition to the main one."""
    balance: Balance = "pairs"
    """What comes up equally often in the stage "synthesis": every pair of views, every frame, or every sequence."""
    max_faults: float = 0.01
    """Fraction of the views of frames of a split that may be broken; they are skipped and reported. More of those to
    train on end the training; other splits are then no longer scored. One may always be, unless this is 0."""
    validation_pairs: int = 64
    """Pairs of validation frames, spread evenly, that select the best model during training; 0 turns this off."""
    evaluation_pairs: int = 96
    """Pairs of held-out frames to evaluate on, spread evenly, and as many again of held-out subjects."""

    def __post_init__(self) -> None:
        _require_positive(self, "evaluation_pairs")
        _require_between(self, 0, math.inf, "workers", "validation_pairs")
        _require_between(self, 0, 1, "max_faults")


@dataclass(frozen=True)
class LifterSettings:
    """Stage "lifter": 2D keypoints to 3D pose."""

    steps: int = 2000
    """Number of steps."""
    epochs: int | None = None
    """How often each pose of the capture comes up on average, besides virtual ones; replaces the number of steps."""
    batch_size: int = 1024
    """Poses per step, on all GPUs together."""
    learning_rate: float = 1e-4
    """Learning rate of AdamW with AMSGrad; falls along a cosine to 5 % after a warm-up."""
    weight_decay: float = 0.1
    """Weight decay of AdamW."""
    weigh_parts: bool = True
    """Weigh hands and face as the paper does. With all joints weighed alike, the body is learned many times faster."""
    virtual_views: float = 0.0
    """Fraction of every batch made of poses turned about the vertical, as one of the cameras would see them."""

    def __post_init__(self) -> None:
        _require_positive(self, "steps", "batch_size", "learning_rate")
        _require_between(self, 0, 1, "weight_decay", "virtual_views")
        if self.epochs is not None:
            _require_positive(self, "epochs")
            if self.virtual == self.batch_size:
                raise ValueError(f"epochs: got {self.epochs}, wanted none: virtual_views leaves no pose of the capture")

    @property
    def virtual(self) -> int:
        """How many poses of a batch are virtual ones."""
        return round(self.virtual_views * self.batch_size)

    def count_steps(self, poses: int) -> int:
        """The number of steps for training on so many poses."""
        if self.epochs is None:
            return self.steps
        return math.ceil(self.epochs * poses / (self.batch_size - self.virtual))


@dataclass(frozen=True)
class SynthesisSettings:
    """Stage "synthesis": the whole model, end to end."""

    image_loss: ImageLoss = "lpips"
    """How pictures are compared: by their pixels, and with "vgg" and "lpips" also by a classifier's features.
    "adversarial" trains against a discriminator, "adaptive" does so with augmentation; the lifter then stays fixed.
    Without the classifier's weights, "vgg" and "lpips" act as "pixel"."""
    steps: int = 100_000
    """Number of steps."""
    batch_size: int = 32
    """Pairs per step, on all GPUs together."""
    most_at_once: int | None = None
    """Pairs that one GPU takes at once, at most; a step is split into as many equal passes as that needs.
    By default all at once."""
    learning_rate: float = 2e-3
    """Learning rate of the decoder and of the discriminator."""
    encoder_rate: float = 0.1
    """The encoder's learning rate as a fraction of the decoder's; 0 keeps the encoder fixed."""
    lifter_rate: float = 2.5e-3
    """The lifter's learning rate as a fraction of the decoder's; 0 keeps the lifter fixed, as does a discriminator."""
    momentum: float = 0.0
    """First beta of AdamW."""
    amsgrad: bool = True
    """Use AdamW with AMSGrad, which divides by the largest second moment so far."""
    encoder_weights: Path | None = None
    """ImageNet weights of a ResNet with group normalisation to initialise the encoder.
    Without them it starts from random features that tell images apart."""
    lifter_weights: Path | None = None
    """Checkpoint to take the lifter from, of this project or of the original; the stage "lifter" is then skipped.
    A lifter from the original's first stage will do."""
    weight_decay: float = 1e-2
    """Weight decay of AdamW."""
    cosine: bool = False
    """Lower the learning rates to 5 % along a cosine, after a warm-up, instead of keeping them constant."""
    recolour: float = 0.0
    """Fraction of every batch in which people wear colours that they never wore, so that a few people teach how colours
    carry over between views. They are the same in both images, and differ for legs, head and the rest."""
    average: float | None = None
    """Decay of a running average of the weights, which is then what is evaluated and saved; 0 turns it off.
    By default 0.999 against a discriminator, and off otherwise."""
    save_memory: bool = False
    """Let the decoder's layers of the largest images keep only their input and recompute the rest in the backward pass.
    Larger pictures or batches then fit on a GPU, and a step takes longer."""
    perceptual_weights: Path | None = None
    """torchvision's vgg16-397923af.pth; by default looked for in torch's download cache."""
    log_every: int = 50
    """Steps between log entries (TensorBoard and history.jsonl)."""

    def __post_init__(self) -> None:
        _require_positive(self, "steps", "batch_size", "learning_rate", "log_every")
        if self.most_at_once is not None:
            _require_positive(self, "most_at_once")
        for name, value in (("average", self.decay), ("momentum", self.momentum)):
            if not 0 <= value < 1:
                raise ValueError(f"{name}: got {value}, wanted 0 or more and less than 1")
        _require_between(self, 0, 1, "recolour", "weight_decay")
        _require_between(self, 0, math.inf, "encoder_rate", "lifter_rate")

    @property
    def adversarial(self) -> bool:
        """Whether there is a discriminator."""
        return "adversarial" in TERMS[self.image_loss]

    @property
    def decay(self) -> float:
        """Decay of the running average of the weights; 0 where there is none."""
        if self.average is None:
            return AVERAGE if self.adversarial else 0.0
        return self.average


@dataclass(frozen=True)
class TrainSettings:
    """Train a model and evaluate it."""

    run: Path = Path("runs/sample")
    """Folder for everything the run writes."""
    stages: tuple[Stage, ...] = ("lifter", "synthesis")
    """What to train, in this order."""
    resume: Literal["never", "auto"] = "never"
    """"auto", or --resume without a value, resumes from the run folder's last state, or starts a run if it has none.
    "never" starts a new run; a folder that already holds one is renamed first."""
    start_from: Path | None = None
    """Checkpoint of this project or of the original to continue from, with its weights and model settings."""
    device: str = "auto"
    """"cpu", "cuda", "cuda:1", ...; "auto" takes the GPU if there is one.
    Under torchrun each process has its own (docs/training.md)."""
    precision: Precision = "auto"
    """Precision of the networks; geometry, rasteriser and the decoder's last layer always compute in float32.
    "auto" is bf16 where the GPU has it, and fp32 elsewhere; "fp16" scales its gradients."""
    compile: bool = False
    """Compile the synthesis, with its rasteriser and losses, with torch.compile."""
    seed: int = 0
    """Seed of everything drawn at random: weights, batches, dropout, augmentation."""
    checkpoint_every: int = 200
    """Steps between saved states, which --resume continues from; in the stage "synthesis" also between validations."""
    keep: int = 3
    """Number of states to keep, besides the best model by validation."""
    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    lifter: LifterSettings = field(default_factory=LifterSettings)
    synthesis: SynthesisSettings = field(default_factory=SynthesisSettings)

    def __post_init__(self) -> None:
        _require_positive(self, "checkpoint_every", "keep")
        _require_between(self, 0, LAST_SEED, "seed")
        if not self.stages:
            raise ValueError("stages: got none, wanted the lifter, the synthesis or both")
        if len(set(self.stages)) < len(self.stages):
            raise ValueError(f"stages: got {' '.join(self.stages)}, wanted each of them once")
        if self.stages == ("synthesis", "lifter"):
            raise ValueError(
                "stages: got synthesis before lifter, wanted the lifter first, because the synthesis builds on it"
            )
        given = [f"{name}_weights" for name in ("lifter", "encoder") if getattr(self.synthesis, f"{name}_weights")]
        if self.start_from and given:
            raise ValueError(f"start_from: brings a whole model, so there is no use for {' and '.join(given)}")

    @property
    def to_train(self) -> tuple[Stage, ...]:
        """The stages, less the lifter's if that comes from a file."""
        return tuple(stage for stage in self.stages if stage != "lifter" or not self.synthesis.lifter_weights)

    @property
    def has_pictures(self) -> bool:
        """Whether the model's pictures mean anything: its synthesis is trained, or comes from a checkpoint."""
        return "synthesis" in self.stages or self.start_from is not None
