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

# The networks bring libraries that rasterising does not need, so they are imported on first use, as is `hvs.metrics`
# and the like.
_LAZY = {"HumanViewSynthesis": ".models", "load": ".checkpoint"}
_MODULES = {"checkpoint", "data", "evaluation", "export", "losses", "metrics", "models", "pictures", "presets", "video"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_MODULES})
