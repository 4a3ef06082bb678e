"""Pinhole cameras with OpenCV's lens distortion.

Lengths are in metres. In the camera's frame x points right, y down and z forward, and a world point maps to
``X_cam = R · X_world + t``. The pixel in column x and row y has its centre at the integer coordinates (x, y).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .distortion import check_coefficients, distort, to_plane, undistort
from .rotations import rotate, rotation_about_axis

ResizeConvention = Literal["centre", "original"]
# How many axes each tensor of a camera has beside its batch axes.
_TAILS = dict(K=2, R=2, t=1, distortion=1)


@dataclass(frozen=True, eq=False)
class Camera:
    """A camera, or a batch of cameras that share one image size.

    Attributes:
        K: intrinsics in pixels, [..., 3, 3], upper triangular with a last row of (0, 0, 1).
        R: rotation from world to camera, [..., 3, 3].
        t: translation from world to camera in metres, [..., 3].
        distortion: 0, 4, 5, 8 or 12 coefficients in OpenCV's order (k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4), [..., n].
        height, width: size of the image, in pixels.

    Raises:
        ValueError: a tensor has the wrong shape, or the size is not positive.
    """

    K: Tensor
    R: Tensor
    t: Tensor
    distortion: Tensor
    height: int
    width: int

    def __post_init__(self) -> None:
        for name, tail in (("K", (3, 3)), ("R", (3, 3)), ("t", (3,))):
            _check(name, getattr(self, name), tail)
        if not isinstance(self.distortion, Tensor):
            raise ValueError(f"distortion: got {type(self.distortion).__name__}, wanted a tensor [..., n]")
        check_coefficients(self.distortion)
        try:
            _ = self.batch_shape
        except RuntimeError:
            shapes = {name: tuple(getattr(self, name).shape) for name in _TAILS}
            raise ValueError(f"batch axes of the camera do not agree: got {shapes}") from None
        if isinstance(self.height, float) or isinstance(self.width, float) or self.height < 1 or self.width < 1:
            raise ValueError(f"height, width: got {self.height}, {self.width}, wanted whole numbers, at least 1")

    @property
    def batch_shape(self) -> torch.Size:
        """The batch axes of all tensors, broadcast; empty for a single camera."""
        return torch.broadcast_shapes(*map(self._batch_of, _TAILS))

    @property
    def position(self) -> Tensor:
        """Where the camera is in the world, in metres, [..., 3]."""
        return self.to_world(torch.zeros_like(self.t).unsqueeze(-2))[..., 0, :]

    def rays(self) -> Tensor:
        """Unit viewing rays through the pixel centres in the camera's frame, [..., H, W, 3], in float32 or better.

        Lens distortion is undone by five steps of OpenCV's fixed-point scheme. A lens that bends so much that they do
        not converge, such as a fisheye, has rays that :meth:`project` does not lead back to their pixels.
        """
        # Half precision would shift rays by pixels.
        options = dict(dtype=torch.promote_types(self.K.dtype, torch.float32), device=self.K.device)
        x = torch.arange(self.width, **options)
        y = torch.arange(self.height, **options)
        pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2)  # [H·W, 2]
        points = undistort(to_plane(pixels, self.K), self.distortion)
        rays = F.normalize(F.pad(points, (0, 1), value=1.0), dim=-1)
        return rays.unflatten(-2, (self.height, self.width))

    def to_camera(self, points: Tensor) -> Tensor:
        """World points [..., J, 3] in metres, in this camera's frame; batch axes broadcast."""
        self._check_points(points, "R", "t")
        return rotate(self.R, points) + self.t.unsqueeze(-2)

    def to_world(self, points: Tensor) -> Tensor:
        """Points in this camera's frame [..., J, 3] in metres, in the world; batch axes broadcast."""
        self._check_points(points, "R", "t")
        return rotate(self.R.mT, points - self.t.unsqueeze(-2))

    def project(self, points: Tensor) -> Tensor:
        """Pixels [..., J, 2] in which this camera sees world points [..., J, 3], lens distortion included.

        Batch axes broadcast: points [B, 1, J, 3] and cameras [V] give [B, V, J, 2].

        Points on the plane through the camera's centre have no image; they come out infinite or NaN, and points behind
        the camera come out mirrored. The z of :meth:`to_camera` tells them apart.
        """
        self._check_points(points, *_TAILS)
        points = self.to_camera(points)
        x, y = distort(points[..., :2] / points[..., 2:], self.distortion).unbind(-1)
        K = self.K[..., None, :, :]
        return torch.stack((K[..., 0, 0] * x + K[..., 0, 1] * y + K[..., 0, 2], K[..., 1, 1] * y + K[..., 1, 2]), -1)

    def crop(self, left: float | Tensor, top: float | Tensor, height: int, width: int) -> "Camera":
        """The camera of a window of the given size whose top left pixel is (left, top), both rounded first.

        Args:
            left, top: pixels, numbers or tensors [...]; may lie outside the image.
            height, width: size of the window, in pixels.
        """
        # Numbers are rounded before float32 might move them across a half.
        left, top = (v.round() if isinstance(v, Tensor) else round(v) for v in (left, top))
        left, top = (torch.as_tensor(v, dtype=self.K.dtype, device=self.K.device) for v in (left, top))
        left, top = torch.broadcast_tensors(left, top)
        offset = F.pad(torch.stack((left, top), -1)[..., None], (2, 0, 0, 1))  # [..., 3, 3], in the last column
        return replace(self, K=self.K - offset, height=height, width=width)

    def resize(self, height: int, width: int, convention: ResizeConvention = "centre") -> "Camera":
        """The camera of the image scaled to the given size.

        Args:
            height, width: size of the scaled image, in pixels.
            convention: "centre" keeps the corners of the image in place, cx' = (cx + 0.5)·s - 0.5; "original" is what
                the released checkpoints of the method were trained with, cx' = s·cx.

        Raises:
            ValueError: there is no such convention.
        """
        if convention not in ("centre", "original"):
            raise ValueError(f'convention: got {convention!r}, wanted "centre" or "original"')
        x, y, last = self.K.unbind(-2)
        # Filled on K's device: copying numbers there from the host would wait for the GPU.
        axis_z = F.pad(self.K.new_ones(1), (2, 0))
        half = 0.5 if convention == "centre" else 0.0
        scales = width / self.width, height / self.height
        rows = [row * scale + axis_z * (half * (scale - 1)) for row, scale in zip((x, y), scales, strict=True)]
        K = torch.stack((*rows, last), -2)
        return replace(self, K=K, height=height, width=width)

    def to(self, *args: Any, **kwargs: Any) -> "Camera":
        """The camera with its tensors moved by :meth:`torch.Tensor.to` (a device, a dtype, or both)."""
        return self._map(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self) -> "Camera":
        """The camera with its tensors in memory that copies to a GPU without waiting, for data loaders."""
        return self._map(torch.Tensor.pin_memory)

    def __getitem__(self, index: Any) -> "Camera":
        """The cameras at an index of the first batch axis; every tensor must have that axis.

        Raises:
            ValueError: a tensor does not have it.
        """
        for name, tail in _TAILS.items():
            # The index would pick some of its coefficients instead.
            if index is not None and getattr(self, name).ndim == tail:
                raise ValueError(f"{name}: has no batch axis to be indexed; expand(count) gives all tensors one")
        return self._map(lambda tensor: tensor[index])

    def expand(self, count: int) -> "Camera":
        """``count`` cameras along one batch axis; the batch axes of each tensor must be [], [1] or [count].

        Raises:
            ValueError: they are others.
        """
        expanded = {}
        for name in _TAILS:
            tensor, batch = getattr(self, name), self._batch_of(name)
            if batch not in ((), (1,), (count,)):
                raise ValueError(f"camera: got batch axes {list(batch)} of {name}, wanted [{count}], [1] or none")
            expanded[name] = tensor.expand(count, *tensor.shape[len(batch) :])
        return replace(self, **expanded)

    @staticmethod
    def stack(cameras: Sequence["Camera"]) -> "Camera":
        """One batch of cameras, along a new first axis; image sizes and coefficient counts must agree.

        Raises:
            ValueError: they do not agree.
        """
        sizes = {(camera.height, camera.width, camera.distortion.shape[-1]) for camera in cameras}
        if len(sizes) != 1:
            raise ValueError(f"cameras: got (height, width, coefficients) {sorted(sizes)}, wanted one for all")
        for name in _TAILS:
            if len(shapes := {tuple(getattr(camera, name).shape) for camera in cameras}) != 1:
                raise ValueError(f"cameras: got {name} of shapes {sorted(shapes)}, wanted one for all")
        tensors = (torch.stack([getattr(c, name) for c in cameras]) for name in _TAILS)
        return Camera(*tensors, cameras[0].height, cameras[0].width)

    @staticmethod
    def look_at(
        eye: Tensor, target: Tensor, up: Tensor, K: Tensor, height: int, width: int, distortion: Tensor | None = None
    ) -> "Camera":
        """A camera at ``eye`` that sees ``target`` in the direction of its optical axis.

        Args:
            eye, target: world points in metres, [..., 3]; they must differ. All tensors may differ in dtype.
            up: the direction in the world that is up in the image, [..., 3]; need not be a unit vector. Where the
                camera looks along it, this is undefined, and another axis takes its place.
            K: intrinsics, [..., 3, 3].
            height, width: size of the image, in pixels.
            distortion: coefficients [..., n]; by default there is no distortion.

        Raises:
            ValueError: an argument is no tensor of its shape.
        """
        for name, tensor in dict(eye=eye, target=target, up=up).items():
            _check(name, tensor, (3,))
        _check("K", K, (3, 3))
        eye, target, up, K = _in_common_dtype(eye, target, up, K)
        eye, target, up = torch.broadcast_tensors(eye, target, up)
        forward = F.normalize(target - eye, dim=-1)
        right = torch.linalg.cross(forward, F.normalize(up, dim=-1))
        # Any direction across the view will do when up gives none; the axis of the smallest component is never parallel
        # to the view.
        spare = F.one_hot(forward.abs().argmin(-1), 3).to(forward)
        parallel = right.norm(dim=-1, keepdim=True) < 1e-6
        right = F.normalize(torch.where(parallel, torch.linalg.cross(forward, spare), right), dim=-1)
        R = torch.stack((right, torch.linalg.cross(forward, right), forward), -2)
        t = -rotate(R, eye[..., None, :])[..., 0, :]
        if distortion is None:
            distortion = K.new_zeros(*K.shape[:-2], 0)
        return Camera(K, R, t, distortion, height, width)

    @staticmethod
    def orbit(
        target: Tensor,
        up: Tensor,
        distance: float,
        count: int,
        K: Tensor,
        height: int,
        width: int,
        elevation: float = 0.0,
        start: Tensor | None = None,
    ) -> "Camera":
        """A ring of cameras around a point, equally spaced over one turn, all looking at it.

        Args:
            target: the centre, in metres, [3].
            up: the ring's axis, [3].
            distance: distance of every camera from the target, in metres.
            count: number of cameras, the length of the batch axis of the result.
            K: intrinsics of all of them, [3, 3].
            height, width: size of the image, in pixels.
            elevation: angle of the cameras above the target, in radians, less than π/2.
            start: direction from the target to the first camera before it is raised, [3]; need not be a unit vector or
                perpendicular to ``up``. If not given, or parallel to ``up``, any direction is taken.

        Raises:
            ValueError: there are no cameras, or an argument is no tensor of its shape.
        """
        if count < 1:
            raise ValueError(f"count: got {count}, wanted at least 1")
        _check("up", up, (3,), batched=False)
        start = torch.zeros_like(up) if start is None else start
        for name, tensor in dict(target=target, start=start).items():
            _check(name, tensor, (3,), batched=False)
        _check("K", K, (3, 3), batched=False)
        target, up, K, start = _in_common_dtype(target, up, K, start)
        up = F.normalize(up, dim=-1)
        across = F.one_hot(up.abs().argmin(), 3).to(up)
        # A start along the axis does not say where to begin.
        along = (start - (start * up).sum() * up).norm() <= 1e-6 * start.norm()
        start = torch.where(along, across, start)
        outward = F.normalize(start - (start * up).sum() * up, dim=-1)
        angles = torch.arange(count, dtype=up.dtype, device=up.device) * (2 * math.pi / count)
        outward = rotate(rotation_about_axis(up, angles), outward[None])[:, 0]  # [count, 3]
        eye = target + distance * (math.cos(elevation) * outward + math.sin(elevation) * up)
        return Camera.look_at(eye, target, up, K.expand(count, 3, 3), height, width)

    def _batch_of(self, name: str) -> torch.Size:
        """The batch axes of one tensor."""
        tensor = getattr(self, name)
        return tensor.shape[: tensor.ndim - _TAILS[name]]

    def _check_points(self, points: Tensor, *names: str) -> None:
        """Raise a ValueError if these are not points that broadcast against the tensors of these names."""
        if not isinstance(points, Tensor):
            raise ValueError(f"points: got {type(points).__name__}, wanted a tensor [..., J, 3]")
        if points.ndim < 2 or points.shape[-1] != 3:
            raise ValueError(f"points: got shape {tuple(points.shape)}, wanted [..., J, 3]")
        try:
            torch.broadcast_shapes(points.shape[:-2], *map(self._batch_of, names))
        except RuntimeError:
            wanted = f"[..., J, 3] with batch axes that broadcast against the camera's {list(self.batch_shape)}"
            raise ValueError(f"points: got shape {tuple(points.shape)}, wanted {wanted}") from None

    def _map(self, function: Any) -> "Camera":
        return replace(self, **{name: function(getattr(self, name)) for name in _TAILS})


def _check(name: str, tensor: Tensor, tail: tuple[int, ...], batched: bool = True) -> None:
    """Raise a ValueError if this is not a tensor of this shape, after batch axes if it may have some."""
    wanted = f"[{'..., ' if batched else ''}{', '.join(map(str, tail))}]"
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name}: got {type(tensor).__name__}, wanted a tensor {wanted}")
    shape = tuple(tensor.shape)
    if (shape[-len(tail) :] if batched else shape) != tail:
        raise ValueError(f"{name}: got shape {shape}, wanted {wanted}")


def _in_common_dtype(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in the narrowest floating dtype that holds them all, float32 at least."""
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)
    return tuple(tensor.to(dtype) for tensor in tensors)
