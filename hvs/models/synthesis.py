"""The model: lift a pose, encode an appearance, render both for any camera."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..geometry import Camera, limb_gaussians, skeletons
from ..geometry.cameras import ResizeConvention
from ..geometry.skeletons import Skeleton
from ..kernels import rasterize
from ..kernels.precision import without_autocast
from .decoder import LEVELS, WIDEST, Decoder
from .encoder import DEPTHS, AppearanceEncoder
from .lifter import GROUPS, Lifter

# Defaults of `HumanViewSynthesis.refine`; the rate is a fraction of the appearance's root mean square. More or longer
# steps improve strangers further, at the expense of people whom the encoder knows.
REFINE_STEPS, REFINE_RATE = 20, 0.025
# Images whose gradient is taken at once: everything that the decoder computes for them is kept until then.
REFINE_IMAGES = 4


@dataclass(frozen=True)
class ModelSettings:
    """All that determines the shape of the model, and how it reads cameras. Stored in checkpoints.

    Attributes:
        skeleton: "panoptic" or "human36m".
        joints: names of the joints, if they are not the published ones.
        limbs: edges and widths, (joint, joint, metres), if they are not the published ones.
        d_embedding: width of the lifter's hidden layers.
        dropout: dropout probability of the lifter.
        input_resolution: side of the encoder's input images, in pixels.
        rendering_resolution: side of the latent image.
        target_resolution: side of the picture; 2^n times the rendering resolution.
        appearance_features: channels C of a limb's appearance and of the latent image.
        alpha: softness of the limbs, as in `hvs.rasterize`. In a latent image of few pixels the paper's limbs are
            thinner than a pixel.
        base_channels: channels of the decoder's first level.
        encoder_depth: depth of the encoder's ResNet: 18, 34 or 50.
        resize: how a camera shrinks from the target to the rendering resolution; the released checkpoints of the
            original need "original".

    Raises:
        ValueError: a setting has an invalid value.
    """

    skeleton: str = "panoptic"
    joints: tuple[str, ...] | None = None
    limbs: tuple[tuple[int, int, float], ...] | None = None
    d_embedding: int = 2048
    dropout: float = 0.1
    input_resolution: int = 256
    rendering_resolution: int = 256
    target_resolution: int = 256
    appearance_features: int = 16
    alpha: float = 0.025
    base_channels: int = 64
    encoder_depth: int = 50
    resize: ResizeConvention = "centre"

    def __post_init__(self) -> None:
        def require(name: str, holds: bool, wanted: str) -> None:
            if not holds:
                raise ValueError(f"{name}: got {getattr(self, name)!r}, wanted {wanted}")

        for field in fields(self):
            if type(field.default) in (int, float):
                _check_number(field.name, getattr(self, field.name), type(field.default))
        require("skeleton", self.skeleton in skeletons.BY_NAME, f"one of {', '.join(skeletons.BY_NAME)}")
        require("encoder_depth", self.encoder_depth in DEPTHS, f"one of {DEPTHS}")
        require("resize", self.resize in ("centre", "original"), '"centre" or "original"')
        require("dropout", 0 <= self.dropout < 1, "0 or more and less than 1")
        for name in ("appearance_features", "alpha"):
            require(name, getattr(self, name) > 0, "a positive number")
        require("input_resolution", self.input_resolution >= 32, "32 or more")
        # A group of one value is normalised to zero, whatever it was.
        multiples = {"d_embedding": (GROUPS, 2 * GROUPS), "rendering_resolution": (2**LEVELS, 2**LEVELS)}
        for name, (unit, least) in multiples.items():
            value = getattr(self, name)
            require(name, value >= least and value % unit == 0, f"a multiple of {unit}, at least {least}")
        sizes = [self.rendering_resolution * 2**i for i in range(8)]
        require("target_resolution", self.target_resolution in sizes, f"one of {', '.join(map(str, sizes))}")
        unit = 2 ** min(self.doublings, WIDEST)
        wanted = f"a positive multiple of {unit}" if unit > 1 else "a positive number"
        require("base_channels", self.base_channels > 0 and self.base_channels % unit == 0, wanted)
        # JSON has lists where settings have tuples.
        if self.joints is not None:
            object.__setattr__(self, "joints", tuple(self.joints))
        if self.limbs is not None:
            object.__setattr__(self, "limbs", tuple(tuple(limb) for limb in self.limbs))
        self.make_skeleton()

    def to_json(self) -> str:
        """JSON for a checkpoint; what is not customised is left out, so that older versions can read it."""
        return json.dumps({name: value for name, value in asdict(self).items() if value is not None})

    def make_skeleton(self) -> Skeleton:
        """The published skeleton of that name, with the joints and limbs of these settings."""
        return skeletons.customise(skeletons.BY_NAME[self.skeleton], self.joints, self.limbs)

    @property
    def doublings(self) -> int:
        """How often the picture is doubled in size beyond the latent image."""
        return (self.target_resolution // self.rendering_resolution).bit_length() - 1


class HumanViewSynthesis(nn.Module):
    """Human pose manipulation and novel view synthesis (Rochette et al. 2021, arXiv 2111.12731).

    Every mode of inference combines lift, encode and render: novel view (pose and image of A, camera B), virtual view
    (any camera), motion transfer (pose of A, appearance of C). In between, refine adapts the appearance to a
    person unlike those seen in training.

    Args:
        settings: all that determines its shape; by default the paper's for Panoptic at 256×256. Weights are random.
    """

    def __init__(self, settings: ModelSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or ModelSettings()
        self.skeleton = settings.make_skeleton()
        limbs, features = len(self.skeleton.edges), settings.appearance_features
        self.lifter = Lifter(len(self.skeleton.joints), settings.d_embedding, settings.dropout)
        self.encoder = AppearanceEncoder(limbs, features, settings.encoder_depth)
        self.decoder = Decoder(features, limbs * features, settings.base_channels, settings.doublings)

    def lift(self, keypoints: Tensor, confidence: Tensor, resolution: Tensor) -> Tensor:
        """Pose in the frame of the camera that took the image, relative to its root joint, [B, J, 3] in metres.

        Args:
            keypoints: pixels of the full, uncropped frame, [B, J, 2]; those of joints that were not found may be NaN.
            confidence: which joints were found, [B, J] bool.
            resolution: width and height of the full frame, [B, 2].

        Raises:
            ValueError: a shape is wrong.
        """
        joints = len(self.skeleton.joints)
        _check("keypoints", keypoints, (joints, 2))
        _check("confidence", confidence, (joints,))
        _check("resolution", resolution, (2,))
        count = len(keypoints)
        if len(confidence) != count:
            raise ValueError(f"confidence: got {len(confidence)} of them, wanted {count}, one for each pose")
        if len(resolution) not in (1, count):
            raise ValueError(f"resolution: got {len(resolution)} of them, wanted {count}, one for each pose")
        # Half precision would move joints by millimetres.
        with without_autocast(keypoints.device):
            return self.lifter(keypoints, confidence, resolution)

    def encode(self, image: Tensor) -> Tensor:
        """Appearance of the person in images [B, 3, h, w] in 0..1: one vector per limb, [B, N, C].

        Both sides of the images are ``settings.input_resolution``.

        Raises:
            ValueError: a shape is wrong.
        """
        side = self.settings.input_resolution
        _check("image", image, (3, side, side))
        if not image.is_floating_point():
            raise ValueError(f"image: got {image.dtype}, wanted a floating dtype, in 0..1")
        return self.encoder(image)

    def refine(
        self,
        appearance: Tensor,
        image: Tensor,
        points: Tensor,
        camera: Camera,
        steps: int = REFINE_STEPS,
        after_step: Callable[[], object] | None = None,
    ) -> Tensor:
        """Appearances refined to look more like images of the people, in float32, without gradient.

        The encoder gives strangers the looks of people it has learned from, but the decoder can draw others. A few
        steps of gradient descent on the appearance alone, through decoder and rasteriser, find them, as images are
        inverted for generative models (Abdal et al. 2019, arXiv 1904.03189). What one camera has seen carries over to
        all others through the Gaussians, and limbs change along with their counterparts on the other side of the body,
        which may be hidden. Autocast is respected.

        Args:
            appearance: where to begin, from :meth:`encode`: that of the one person in all images, [1, N, C], or one for
                each image, [F, N, C].
            image: images of the people, [F, 3, h, h] in 0..1, at any resolution.
            points: joints in the camera's frame, in metres, [F, J, 3].
            camera: camera of the images, at any resolution; its batch axes broadcast against [F].
            steps: how many; with 0 the appearance is returned as it is.
            after_step: called after each step, for a progress bar.

        Returns:
            As many appearances as were given.

        Raises:
            ValueError: a shape is wrong.
            RuntimeError: the model is in training mode, in which every picture would change its statistics.
        """
        if any(part.training for part in self.modules()):
            raise RuntimeError("refine: got a model (or a part) in training mode, wanted evaluation mode; call eval()")
        count = len(points)
        _check("points", points, (len(self.skeleton.joints), 3))
        _check("appearance", appearance, (len(self.skeleton.edges), self.settings.appearance_features))
        if len(appearance) not in (1, count):
            raise ValueError(f"appearance: got {len(appearance)} of them, wanted one, or one for each of {count} poses")
        if image.shape != (count, 3, *image.shape[-1:] * 2) or not image.is_floating_point():
            got = f"{tuple(image.shape)} of {image.dtype}"
            raise ValueError(f"image: got {got}, wanted square floating images for {count} poses, [{count}, 3, h, h]")
        if steps < 0:
            raise ValueError(f"steps: got {steps}, wanted 0 or more")
        with torch.inference_mode(False), torch.enable_grad():
            # Tensors made in inference mode cannot be saved for a gradient, but their copies can.
            image, points, appearance = image.clone(), points.clone(), appearance.detach().float().clone()
            size = appearance.square().mean((1, 2), keepdim=True).sqrt()
            cameras = camera.expand(count)
            # Most people's two sides look alike, so what differs between them is learned half as fast.
            common, own = (torch.zeros_like(appearance, requires_grad=True) for _ in range(2))
            optimizer = torch.optim.Adam([dict(params=[common]), dict(params=[own], lr=REFINE_RATE / 2)], REFINE_RATE)

            def refined() -> Tensor:
                return appearance + size * (own + (common + common[:, self.skeleton.mirror]) / 2)

            for _ in range(steps):
                optimizer.zero_grad()
                for part in torch.arange(count).split(REFINE_IMAGES):
                    looks = refined().expand(count, -1, -1)[part]
                    picture = self.render(points[part], looks, cameras[part])[1]
                    if picture.shape != image[part].shape:
                        picture = F.interpolate(picture.float(), image.shape[-2:], mode="bilinear", antialias=True)
                    (picture.float() - image[part]).square().sum().backward(inputs=[common, own])
                optimizer.step()
                if after_step:
                    after_step()
            return refined().detach()

    def render(self, points: Tensor, appearance: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
        """The latent image [B, C, h, w] of a person and their picture [B, 3, H, W], as a camera sees them.

        The picture is near 0..1 but not clamped. Geometry and rasteriser compute in float32 or better, autocast or not.

        Args:
            points: joints in the camera's frame, in metres, [B, J, 3].
            appearance: one vector per limb, [B, N, C].
            camera: camera of the picture, at any resolution; its batch axes broadcast against [B].

        Raises:
            ValueError: a shape is wrong.
        """
        latent = self.rasterize(points, appearance, camera)
        # The latent has the geometry's precision, and an appearance the precision of its encoding.
        dtype = self.decoder.to_rgb.weight.dtype
        return latent, self.decoder(latent.to(dtype), appearance.to(dtype))

    def rasterize(self, points: Tensor, appearance: Tensor, camera: Camera) -> Tensor:
        """The latent image [B, C, h, w] alone; arguments and errors are those of :meth:`render`."""
        _check("points", points, (len(self.skeleton.joints), 3))
        _check("appearance", appearance, (len(self.skeleton.edges), self.settings.appearance_features))
        side = self.settings.rendering_resolution
        dtype = torch.promote_types(points.dtype, torch.float32)
        with without_autocast(points.device):
            rays = camera.to(points.device, dtype).resize(side, side, convention=self.settings.resize).rays()
            if rays.shape[:-3] not in ((), (1,), (len(points),)):
                wanted = f"[{len(points)}] as in points, [1] or none"
                raise ValueError(f"camera: got batch axes {list(rays.shape[:-3])}, wanted {wanted}")
            rays = rays.expand(len(points), side, side, 3)
            features = appearance.to(dtype)
            # Where no limb reaches, the latent is zero: painting the data set's background is up to the decoder.
            background = features.new_zeros(len(points), features.shape[-1])
            gaussians = limb_gaussians(points.to(dtype), self.skeleton)
            return rasterize(*gaussians, features, background, rays, alpha=self.settings.alpha)


def _check(name: str, tensor: Tensor, tail: tuple[int, ...]) -> None:
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name}: got {type(tensor).__name__}, wanted a tensor [B, {', '.join(map(str, tail))}]")
    if tensor.ndim != len(tail) + 1 or tensor.shape[1:] != tail:
        raise ValueError(f"{name}: got shape {tuple(tensor.shape)}, wanted [B, {', '.join(map(str, tail))}]")


def _check_number(name: str, value: object, kind: type) -> None:
    whole = type(value) is int
    if not (whole or (kind is float and type(value) is float and math.isfinite(value))):
        shown = repr(value) if type(value) in (int, float, str) else f"a {type(value).__name__}"
        raise ValueError(f"{name}: got {shown:.40}, wanted a {'whole' if kind is int else 'finite'} number")
