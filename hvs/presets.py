"""Presets: good training settings by name, for the sample and for the original's experiments."""

from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

from .config import EPOCH_STEPS, DataSettings, LifterSettings, SynthesisSettings, TrainSettings
from .models import ModelSettings

# The original's values: width of the lifter, and pairs that fit on one of its GPUs.
D_EMBEDDING = {"human36m": 1024, "panoptic": 2048}
AT_ONCE = {("human36m", 256): 16, ("panoptic", 256): 8, ("panoptic", 512): 4}
EPOCHS, LIFTER_EPOCHS = 400, 200
SEED = 42069


def sample() -> TrainSettings:
    """The sample capture at 64×64, in minutes on two CPU cores."""
    return TrainSettings(
        model=ModelSettings(
            d_embedding=512,
            # The lifter soon knows a few hundred poses by heart, and the jitter of dropout would blur the pictures.
            dropout=0.0,
            input_resolution=64,
            rendering_resolution=64,
            target_resolution=64,
            alpha=0.1,
            base_channels=24,
            encoder_depth=18,
        ),
        data=DataSettings(validation_pairs=16),
        lifter=LifterSettings(
            steps=7000, batch_size=128, learning_rate=5e-3, weight_decay=1e-2, weigh_parts=False, virtual_views=0.75
        ),
        # A few minutes are not enough to train an encoder from scratch. It starts with random features that tell people
        # apart; the faster it learns, the better it does on the few people it sees and the worse on anybody else. The
        # lifter keeps the paper's rate, 5e-6: at more, the pictures of a few people spoil its poses.
        synthesis=SynthesisSettings(
            steps=1400,
            batch_size=8,
            learning_rate=1e-2,
            encoder_rate=2e-2,
            lifter_rate=5e-4,
            momentum=0.9,
            amsgrad=False,
            cosine=True,
            recolour=0.5,
        ),
    )


def sample_adaptive() -> TrainSettings:
    """Continues from what the preset sample has left, against a discriminator, on two CPU cores in 12 minutes."""
    settings = sample()
    return replace(
        settings,
        run=Path("runs/sample-adaptive"),
        stages=("synthesis",),
        start_from=Path("runs/sample/model.safetensors"),
        # The model already makes pictures: smaller steps than from scratch.
        synthesis=replace(
            settings.synthesis,
            image_loss="adaptive",
            steps=2000,
            learning_rate=2e-3,
            momentum=0.0,
            average=0.98,
        ),
    )


def sample_512() -> TrainSettings:
    """The sample capture at 512×512 with the full-size model, for a GPU."""
    settings = sample()
    return replace(
        settings,
        run=Path("runs/sample-512"),
        compile=True,
        checkpoint_every=1000,
        data=DataSettings(sample_height=576, sample_frames=60, sample_subjects=16, workers=8, evaluation_pairs=256),
        # A few people are learned as in the preset sample, also with larger networks.
        model=ModelSettings(target_resolution=512, dropout=0.0),
        synthesis=replace(settings.synthesis, steps=20_000, learning_rate=2e-3, encoder_rate=0.1, lifter_rate=2.5e-3),
    )


def tiny() -> TrainSettings:
    """All stages of the sample at a size that takes seconds, to see that everything works."""
    settings = sample()
    return replace(
        settings,
        run=Path("runs/tiny"),
        checkpoint_every=3,
        data=DataSettings(sample_height=96, sample_frames=6, sample_subjects=3, validation_pairs=2, evaluation_pairs=4),
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


def experiment(skeleton: str, resolution: int, image_loss: str) -> TrainSettings:
    """The paper's, on data/SKELETON or --data.root; needs --synthesis.lifter-weights (adaptive: --start-from)."""
    return TrainSettings(
        run=Path(f"runs/{skeleton}-{resolution}-{image_loss}"),
        stages=("synthesis",),
        compile=True,
        seed=SEED,
        checkpoint_every=EPOCH_STEPS,
        data=DataSettings(root=Path("data") / skeleton, workers=8),
        model=ModelSettings(skeleton=skeleton, d_embedding=D_EMBEDDING[skeleton], target_resolution=resolution),
        synthesis=SynthesisSettings(
            image_loss=image_loss,
            steps=EPOCHS * EPOCH_STEPS,
            most_at_once=AT_ONCE[skeleton, resolution],
        ),
    )


def lifter_experiment(skeleton: str) -> TrainSettings:
    """The paper's lifter alone, on data/SKELETON or --data.root."""
    return TrainSettings(
        run=Path(f"runs/{skeleton}-lifter"),
        stages=("lifter",),
        seed=SEED,
        checkpoint_every=EPOCH_STEPS,
        data=DataSettings(root=Path("data") / skeleton),
        model=ModelSettings(skeleton=skeleton, d_embedding=D_EMBEDDING[skeleton]),
        lifter=LifterSettings(epochs=LIFTER_EPOCHS),
    )


_EXPERIMENTS = {
    f"{skeleton}-{resolution}-{image_loss}": partial(experiment, skeleton, resolution, image_loss)
    for (skeleton, resolution), image_loss in product(AT_ONCE, ("adaptive", "lpips", "pixel", "vgg"))
    # The original has no adaptive experiments on Human3.6M.
    if (skeleton, image_loss) != ("human36m", "adaptive")
}
_EXPERIMENTS |= {f"{skeleton}-lifter": partial(lifter_experiment, skeleton) for skeleton in D_EMBEDDING}
_SAMPLES = {"sample": sample, "sample-adaptive": sample_adaptive, "sample-512": sample_512, "tiny": tiny}
_MAKERS = _SAMPLES | _EXPERIMENTS
PRESETS = {name: make() for name, make in _MAKERS.items()}
DESCRIPTIONS = {name: (make.func if isinstance(make, partial) else make).__doc__ for name, make in _MAKERS.items()}
