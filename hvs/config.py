"""Typed settings of training, and the presets that name good ones."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from .data.sampling import Balance
from .models import ModelSettings

Stage = Literal["lifter", "synthesis"]


def _require_positive(settings: object, *names: str) -> None:
    for name in names:
        if getattr(settings, name) <= 0:
            raise ValueError(f"{name}: got {getattr(settings, name)}, wanted more than 0")


@dataclass(frozen=True)
class DataSettings:
    """Which capture to train on."""

    root: Path | None = None
    """Folder of a capture, prepared or of plain files (docs/data.md). The sample, made if needed, by default."""
    sample_height: int = 270
    """Height of the sample capture's frames in pixels."""
    sample_frames: int = 40
    """Frames of each take of the sample capture; every subject has two."""
    sample_subjects: int = 6
    """Subjects of the sample capture; the last one is never trained on."""
    workers: int = 0
    """Processes that read training pairs beside the main one."""
    balance: Balance = "pairs"
    """What comes up equally often in training: every pair of views, every frame, or every sequence."""
    max_faults: float = 0.01
    """Part of all views of frames that may be broken: they are passed over and told. More end the training."""
    evaluation_pairs: int = 96
    """Pairs of held-out frames to evaluate on, spread evenly; as many again of the held-out subjects."""


@dataclass(frozen=True)
class LifterSettings:
    """Stage "lifter": 2D keypoints to 3D pose."""

    steps: int = 2000
    batch_size: int = 1024
    learning_rate: float = 1e-4
    """Of AdamW with AMSGrad; cosine down to 5 % after a warm-up."""
    weight_decay: float = 0.1
    weigh_parts: bool = True
    """Weigh hands and face as the paper does. Without it, every joint alike, the body is learned many times sooner."""
    virtual_views: float = 0.0
    """Part of every batch that is poses turned about the vertical, as one of the cameras would see them."""

    def __post_init__(self) -> None:
        _require_positive(self, "steps", "batch_size", "learning_rate")
        if not 0 <= self.virtual_views <= 1:
            raise ValueError(f"virtual_views: got {self.virtual_views}, wanted between 0 and 1")


@dataclass(frozen=True)
class SynthesisSettings:
    """Stage "synthesis": the whole model, end to end."""

    steps: int = 100_000
    batch_size: int = 32
    learning_rate: float = 2e-3
    """Of the decoder."""
    encoder_rate: float = 0.1
    """The encoder's learning rate as a part of the decoder's; 0 leaves it as it starts."""
    lifter_rate: float = 2.5e-3
    """The lifter's learning rate as a part of the decoder's; 0 leaves it as it is."""
    momentum: float = 0.0
    """First beta of AdamW."""
    amsgrad: bool = True
    """AdamW with AMSGrad, which divides by the largest second moment so far."""
    encoder_weights: Path | None = None
    """ImageNet weights of a ResNet with group normalisation to start the encoder from. Without them it starts from
    random features that tell images apart."""
    lifter_weights: Path | None = None
    """Checkpoint to take the lifter from, in place of the stage "lifter", which is then left out. One of this project
    or of the original; a lifter of the original's first stage will do."""
    weight_decay: float = 1e-2
    cosine: bool = False
    """Lower the learning rates to 5 % along a cosine, instead of keeping them."""
    perceptual_weights: Path | None = None
    """torchvision's vgg16-397923af.pth; looked for in torch's download cache by default."""
    log_every: int = 50
    """Steps between TensorBoard entries."""

    def __post_init__(self) -> None:
        _require_positive(self, "steps", "batch_size", "learning_rate", "log_every")
        for name in ("encoder_rate", "lifter_rate"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: got {getattr(self, name)}, wanted 0 or more")


@dataclass(frozen=True)
class TrainSettings:
    """Train a model and evaluate it."""

    run: Path = Path("runs/sample")
    """Folder of everything the run writes."""
    stages: tuple[Stage, ...] = ("lifter", "synthesis")
    """What to train, in this order."""
    resume: bool = False
    """Go on from the run folder's last checkpoint."""
    device: str = "auto"
    """"cpu", "cuda", "cuda:1", ...; "auto" takes the GPU if there is one."""
    compile: bool = False
    """Compile encoder and decoder with torch.compile."""
    seed: int = 0
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    lifter: LifterSettings = field(default_factory=LifterSettings)
    synthesis: SynthesisSettings = field(default_factory=SynthesisSettings)


def sample() -> TrainSettings:
    """The sample capture at 64×64, in minutes on two CPU cores."""
    return TrainSettings(
        model=ModelSettings(
            d_embedding=512,
            # A few hundred poses are soon known by heart, and their jitter in training would blur the pictures.
            dropout=0.0,
            input_resolution=64,
            rendering_resolution=64,
            target_resolution=64,
            alpha=0.1,
            base_channels=24,
            encoder_depth=18,
        ),
        lifter=LifterSettings(
            steps=7000, batch_size=128, learning_rate=5e-3, weight_decay=1e-2, weigh_parts=False, virtual_views=0.75
        ),
        # A few minutes do not train an encoder from nothing. It starts with random features that tell people apart; the
        # faster it learns, the better it knows the few people it sees and the worse anybody else.
        synthesis=SynthesisSettings(
            steps=1550,
            batch_size=8,
            learning_rate=1e-2,
            encoder_rate=2e-2,
            lifter_rate=2e-2,
            momentum=0.9,
            amsgrad=False,
            cosine=True,
        ),
    )


def sample_512() -> TrainSettings:
    """The sample capture at 512×512 with the full-size model, for a GPU."""
    return TrainSettings(
        run=Path("runs/sample-512"),
        compile=True,
        checkpoint_every=1000,
        data=DataSettings(sample_height=576, sample_frames=60, sample_subjects=8, workers=8, evaluation_pairs=256),
        model=ModelSettings(target_resolution=512),
        synthesis=SynthesisSettings(steps=20_000, batch_size=8),
    )


def tiny() -> TrainSettings:
    """Every step of the main job at a size that takes seconds, to see that it works."""
    settings = sample()
    return replace(
        settings,
        run=Path("runs/tiny"),
        checkpoint_every=3,
        data=DataSettings(sample_height=96, sample_frames=6, sample_subjects=3, evaluation_pairs=4),
        model=replace(
            settings.model,
            d_embedding=64,
            input_resolution=32,
            rendering_resolution=32,
            target_resolution=32,
            base_channels=8,
        ),
        lifter=replace(settings.lifter, steps=20, batch_size=16),
        synthesis=replace(settings.synthesis, steps=6, batch_size=2, log_every=2),
    )


PRESETS = {"sample": sample(), "sample-512": sample_512(), "tiny": tiny()}
DESCRIPTIONS = {"sample": sample.__doc__, "sample-512": sample_512.__doc__, "tiny": tiny.__doc__}
