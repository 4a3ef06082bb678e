"""The networks, and the model that combines them."""

from .decoder import Decoder
from .discriminator import Discriminator
from .encoder import AppearanceEncoder
from .lifter import Lifter
from .synthesis import HumanViewSynthesis, ModelSettings

__all__ = ["AppearanceEncoder", "Decoder", "Discriminator", "HumanViewSynthesis", "Lifter", "ModelSettings"]
