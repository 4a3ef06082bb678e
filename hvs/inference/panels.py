"""Frames that show, side by side, how a picture comes about."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from hvs.geometry import Skeleton
from hvs.pictures import draw_skeleton, mosaic

# Panels wider than this are scaled down: six of them fill the width of a screen.
WIDEST = 320


def side_by_side(panels: dict[str, Tensor]) -> Iterator[np.ndarray]:
    """A frame [H, W, 3] uint8 for each picture of a batch: all panels in a row, under their names.

    Args:
        panels: name -> pictures in 0..1, [B, 3, h, w] each; a batch of one is repeated.
    """
    count = max(len(pictures) for pictures in panels.values())
    panels = {name: pictures.cpu().expand(count, -1, -1, -1) for name, pictures in panels.items()}
    for row in zip(*panels.values(), strict=True):
        yield np.asarray(mosaic([row], list(panels), WIDEST))


def with_poses(images: Tensor, keypoints: Tensor, valid: Tensor, skeleton: Skeleton) -> Tensor:
    """Pictures [B, 3, H, W] with poses [B, J, 2], in their pixels, drawn over them, valid joints [B, J] only."""
    images, keypoints, valid = (tensor.cpu() for tensor in (images, keypoints, valid))
    drawn = [draw_skeleton(*entry, skeleton) for entry in zip(images, keypoints, valid, strict=True)]
    return torch.stack(drawn)
