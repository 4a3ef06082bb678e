"""What training minimises."""

from .adversarial import R1_INTERVAL, discriminator_loss, feature_matching_loss, generator_loss, r1_penalty
from .augmentation import AdaptiveAugmentation
from .perceptual import SMALLEST, PerceptualLoss, load_lpips, load_perceptual, pixel_loss
from .pose import pose_loss
from .terms import CLASSIFIERS, TERMS, WEIGHTS, ImageLoss

__all__ = [
    "CLASSIFIERS",
    "R1_INTERVAL",
    "SMALLEST",
    "TERMS",
    "WEIGHTS",
    "AdaptiveAugmentation",
    "ImageLoss",
    "PerceptualLoss",
    "discriminator_loss",
    "feature_matching_loss",
    "generator_loss",
    "load_lpips",
    "load_perceptual",
    "pixel_loss",
    "pose_loss",
    "r1_penalty",
]
