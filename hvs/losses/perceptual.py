"""Losses between pictures: L1, and distances between the features of a classifier, if its weights are available."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SCALES = 3
# Weights of the five groups of VGG's features, from fine to coarse: "High-resolution image synthesis and semantic
# manipulation with conditional GANs" (Wang et al. 2018).
VGG_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
# Added to the length of a pixel's features before they are divided by it.
LENGTH_EPS = 1e-10


class _Weights(NamedTuple):
    """A file that torchvision publishes, and what happens to a run without it."""

    name: str
    without: str


_WEIGHTS = {
    "vgg": _Weights("vgg16-397923af.pth", "training goes on with the pixel loss"),
    "alex": _Weights("alexnet-owt-7be5be79.pth", "the LPIPS metric is left out"),
}
# The smallest pictures that each classifier can look at, pixels a side: of smaller ones its poolings leave nothing.
SMALLEST = {"vgg": 16, "alex": 31}


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
    """Distance of pictures [B, 3, H, W] in 0..1 in the features of VGG-16, summed over three scales (scalar).

    Scales that are too small for the classifier are left out. The target's features are computed once per scale and
    without a gradient.

    Args:
        lpips: from :func:`load_lpips`, on VGG.
        kind: "lpips", the learned distance (Zhang et al. 2018), or "vgg", the mean absolute difference of the features
            of five groups of layers, weighted 1/32, 1/16, 1/8, 1/4 and 1.
    """

    def __init__(self, lpips: nn.Module, kind: Literal["lpips", "vgg"] = "lpips") -> None:
        super().__init__()
        if kind not in ("lpips", "vgg"):
            raise ValueError(f'kind: got {kind!r}, wanted "lpips" or "vgg"')
        self.distance, self.kind = lpips, kind
        self.smallest = SMALLEST[lpips.pnet_type]

    def train(self, mode: bool = True) -> "PerceptualLoss":
        """Leaves the classifier in evaluation mode: with dropout, the distance would be a matter of chance."""
        super().train(mode)
        self.distance.eval()
        return self

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        total = predicted.new_zeros(())
        for image, wanted in zip(pyramid(predicted), pyramid(target.detach()), strict=True):
            if min(image.shape[-2:]) < self.smallest:
                break
            with torch.no_grad():
                features = self._features(wanted)
            total = total + self._compare(self._features(image), features)
        return total

    def _features(self, image: Tensor) -> Sequence[Tensor]:
        # LPIPS was trained on pictures in -1..1.
        return self.distance.net(self.distance.scaling_layer(2 * image - 1))

    def _compare(self, found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
        if self.kind == "vgg":
            pairs = zip(VGG_WEIGHTS, found, wanted, strict=True)
            return torch.stack([weight * F.l1_loss(a.float(), b.float()) for weight, a, b in pairs]).sum()
        layers = zip(self.distance.lins, found, wanted, strict=True)
        return torch.stack([lin((_unit(a) - _unit(b)).square()).mean() for lin, a, b in layers]).sum()


def _unit(features: Tensor) -> Tensor:
    """Features [B, C, H, W] scaled to length 1 in every pixel, in float32 at least."""
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    # Unlike a square root, the norm has a finite gradient where a pixel has no features.
    return features / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + LENGTH_EPS)


def load_perceptual(path: str | Path | None = None, kind: Literal["lpips", "vgg"] = "lpips") -> PerceptualLoss | None:
    """A perceptual loss on VGG; arguments and errors are those of :class:`PerceptualLoss` and :func:`load_lpips`."""
    distance = load_lpips("vgg", path)
    return PerceptualLoss(distance, kind) if distance else None


def load_lpips(net: Literal["vgg", "alex"], path: str | Path | None = None) -> nn.Module | None:
    """LPIPS on the features of a classifier, frozen; None, after one warning, if the classifier's weights are missing.

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
            f"LPIPS needs {weights.name}, which is missing: {weights.without}. "
            f"To use it, download https://download.pytorch.org/models/{weights.name} to {file}",
            stacklevel=3,
        )
        return None
    from lpips import LPIPS

    # By default the package downloads the classifier; instead it starts at random and gets the file's weights below.
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
