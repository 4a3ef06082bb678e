"""Lifter: 2D keypoints in the image -> 3D pose relative to its root joint."""

import math

import torch
from torch import Tensor, nn

GROUPS = 32


class Lifter(nn.Module):
    """Fully connected residual network on all joints at once (after Martinez et al. 2017, arXiv 1705.03098).

    Args:
        joints: number J of joints.
        width: width of the hidden layers, a multiple of 32 and at least 64.
        dropout: dropout probability after every hidden layer.
    """

    def __init__(self, joints: int, width: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.stem = _layer(3 * joints, width, dropout)
        self.blocks = nn.ModuleList(
            nn.Sequential(_layer(width, width, dropout), _layer(width, width, dropout)) for _ in range(2)
        )
        self.head = nn.Linear(width, 3 * joints)
        # A group of two is normalised to the sign of its difference, which float32 cannot always resolve.
        if width == 2 * GROUPS:
            self.double()

    def forward(self, keypoints: Tensor, confidence: Tensor, resolution: Tensor) -> Tensor:
        """Pose in the camera's frame, in metres, relative to the root joint, [B, J, 3].

        Args:
            keypoints: pixels of the full frame, [B, J, 2]; those of joints that were not found may be NaN.
            confidence: which joints were found, [B, J] bool.
            resolution: width and height of the full frame, [B, 2].
        """
        # Scores of a detector are no input: the network knows 0 and 1.
        confidence = confidence.bool()
        # Captures have zeros for joints that were not found, some detectors NaN.
        keypoints = keypoints.masked_fill(keypoints.isnan() & ~confidence[..., None], 0)
        dtype = self.head.weight.dtype
        size = resolution[:, None].to(dtype)  # [B, 1, 2]
        # Both axes are divided by the width, so that the picture keeps its proportions.
        position = (2 * keypoints.to(dtype) - size) / size[..., :1]
        x = torch.cat((position, confidence[..., None].to(dtype)), -1)  # [B, J, 3]
        x = self.stem(x.flatten(1))
        for block in self.blocks:
            x = (x + block(x)) / math.sqrt(2)
        # Pixels may be integers, but the pose must not be rounded to whole metres.
        found = keypoints.dtype if keypoints.is_floating_point() else torch.float32
        return self.head(x).unflatten(1, (-1, 3)).to(found)


def _layer(in_features: int, out_features: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(in_features, out_features, bias=False),
        nn.GroupNorm(GROUPS, out_features),
        nn.ReLU(),
        nn.Dropout(dropout),
    )
