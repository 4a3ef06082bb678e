"""Losses between pictures: L1, and LPIPS when its weights are at hand."""

import warnings
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SCALES = 3


class _Weights(NamedTuple):
    """A file that torchvision publishes, and what becomes of a run without it."""

    name: str
    without: str


_WEIGHTS = {
    "vgg": _Weights("vgg16-397923af.pth", "training goes on with the pixel loss"),
    "alex": _Weights("alexnet-owt-7be5be79.pth", "the LPIPS metric is left out"),
}


def pyramid(image: Tensor, scales: int = SCALES) -> list[Tensor]:
    """The image [B, 3, H, W] and its halves (bilinear), largest first."""
    images = [image]
    for _ in range(scales - 1):
        images.append(F.interpolate(images[-1], scale_factor=0.5, mode="bilinear", align_corners=False))
    return images


def pixel_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of pictures [B, 3, H, W], summed over three scales (scalar)."""
    pairs = zip(pyramid(predicted), pyramid(target), strict=True)
    return torch.stack([F.l1_loss(a, b) for a, b in pairs]).sum()


class PerceptualLoss(nn.Module):
    """LPIPS (Zhang et al. 2018) of pictures [B, 3, H, W] in 0..1, summed over three scales (scalar)."""

    def __init__(self, distance: nn.Module) -> None:
        super().__init__()
        self.distance = distance

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        pairs = zip(pyramid(predicted), pyramid(target), strict=True)
        return torch.stack([self.distance(a, b, normalize=True).mean() for a, b in pairs]).sum()


def load_perceptual(path: str | Path | None = None) -> PerceptualLoss | None:
    """The perceptual loss, LPIPS on VGG; see :func:`load_lpips`."""
    distance = load_lpips("vgg", path)
    return PerceptualLoss(distance) if distance else None


def load_lpips(net: Literal["vgg", "alex"], path: str | Path | None = None) -> nn.Module | None:
    """LPIPS on the features of a classifier, frozen; None, after one warning, where the classifier's weights are not.

    Nothing is ever downloaded.

    Args:
        net: which classifier.
        path: its weights as torchvision publishes them; looked for in torch's download cache if not given.

    Raises:
        ValueError: a path was given, and is not such a file.
    """
    weights = _WEIGHTS[net]
    file = Path(path) if path else Path(torch.hub.get_dir()) / "checkpoints" / weights.name
    if not file.is_file():
        if path:
            raise ValueError(f"{file}: no such file, wanted torchvision's {weights.name}")
        warnings.warn(
            f"LPIPS needs {weights.name}, which is not there: {weights.without}. "
            f"To have it, download https://download.pytorch.org/models/{weights.name} to {file}",
            stacklevel=3,
        )
        return None
    from lpips import LPIPS

    # Left to itself the package downloads the classifier; started at random instead, it gets the file's weights below.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torchvision")
        distance = LPIPS(net=net, pnet_rand=True, verbose=False)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        for part in distance.net.children():
            part.load_state_dict({name: state[f"features.{name}"] for name in part.state_dict()})
    # A damaged file can fail anywhere in the unpickler, with any error.
    except Exception as error:
        reason = str(error).partition("\n")[0] or repr(error)
        raise ValueError(f"{file}: not torchvision's {weights.name} ({reason:.200})") from error
    return distance.eval().requires_grad_(False)
