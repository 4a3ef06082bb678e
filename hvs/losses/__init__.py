"""What training minimises."""

from .perceptual import PerceptualLoss, load_lpips, load_perceptual, pixel_loss
from .pose import pose_loss

__all__ = ["PerceptualLoss", "load_lpips", "load_perceptual", "pixel_loss", "pose_loss"]
