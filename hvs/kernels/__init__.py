from .rasterize import rasterize

__all__ = ["rasterize"]
