"""Novel views, new poses and motion transfer of people from one camera.

After "Human Pose Manipulation and Novel View Synthesis using Differentiable Rendering", Rochette, Russell and Bowden,
FG 2021, arXiv 2111.12731.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .geometry import Camera, limb_gaussians, skeletons
from .kernels import rasterize

if TYPE_CHECKING:
    from .checkpoint import load
    from .models import HumanViewSynthesis

__version__ = "0.1.0"
__all__ = ["Camera", "HumanViewSynthesis", "limb_gaussians", "load", "rasterize", "skeletons"]

# The networks bring libraries that rasterising does not need, so they are imported on first use.
_LAZY = {"HumanViewSynthesis": ".models", "load": ".checkpoint"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
