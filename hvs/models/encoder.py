"""Appearance encoder: image of a person -> one feature vector per limb."""

from functools import partial

import torch
from torch import Tensor, nn

DEPTHS = (18, 34, 50)
# Statistics of ImageNet, RGB in 0..1.
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)

# Number of principal components that make up the appearance of an untrained encoder.
COMPONENTS = 16
# Components with less than this fraction of the largest one's spread are left out.
LEAST_SPREAD = 1e-3
# Standard deviation over images of the part they make up; the rest, of deviation 1, is the same for all images.
VARIATION = 0.3


class AppearanceEncoder(nn.Module):
    """ResNet with group normalisation (Wu and He 2018), average pool, and a linear layer to N × C features.

    Args:
        limbs: number N of feature vectors.
        features: their length C.
        depth: of the ResNet: 18, 34 or 50.
    """

    def __init__(self, limbs: int, features: int, depth: int = 50) -> None:
        super().__init__()
        from torchvision.models import resnet

        build = getattr(resnet, f"resnet{depth}")
        self.backbone = build(norm_layer=partial(nn.GroupNorm, 32), num_classes=limbs * features)
        self.features = features
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION)[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Images [B, 3, h, w] in 0..1 -> appearance [B, N, C]."""
        image = image.to(self.mean.dtype)
        return self.backbone((image - self.mean) / self.deviation).unflatten(1, (-1, self.features))

    @torch.no_grad()
    def start_apart(self, images: Tensor) -> None:
        """Reinitialise the last layer so that appearances differ between limbs, and between these images [B, 3, h, w].

        A limb's appearance is the sum of a random code, by which a decoder can tell it from other limbs for any person,
        and a smaller part that depends on the image. The pooled features of an untrained network are nearly the same
        for every image, and a decoder learns to ignore an appearance that does not vary. The second part is therefore a
        random mixture of the first principal components of these images' features, each scaled to the same variance,
        after "Data-dependent initializations of convolutional neural networks" (Krähenbühl et al. 2016).
        """
        found: list[Tensor] = []
        head = self.backbone.fc
        hook = head.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
        self(images)
        hook.remove()
        features = found[0].float()
        mean = features.mean(0)
        _, spread, axes = torch.linalg.svd(features - mean, full_matrices=False)
        # Few or repeated images vary in fewer ways, and the other components are rounding errors.
        count = max(1, int((spread[:COMPONENTS] > LEAST_SPREAD * spread[0]).sum()))
        whiten = axes[:count] / (spread[:count, None].clamp(min=1e-6) / len(images) ** 0.5)
        mixture = VARIATION * torch.randn(len(head.weight), count, device=features.device) / count**0.5
        head.weight.copy_(mixture @ whiten)
        head.bias.normal_().sub_(head.weight @ mean)
