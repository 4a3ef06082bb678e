"""Export for other programs: Gaussians as a .ply for viewers, and a model as programs of ``torch.export``.

python -m hvs.export model.safetensors deployed    write lift.pt2, encode.pt2 and render.pt2 into a folder
"""

import io
import math
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor, nn

from .geometry import Camera, quaternion_from_rotation
from .kernels.precision import without_autocast
from .models import HumanViewSynthesis
from .runtime import make_folder, refuse_folders, run_command, write_atomically

# The constant spherical harmonic, 1 / (2 √π): the files hold (colour - 0.5) / HARMONIC.
HARMONIC = 0.28209479177387814
# An opacity is stored as its logit, which is infinite for 0 and 1.
OPACITY_MARGIN = 1e-6
# How far ρρᵀ may be from the identity, in its worst component.
ORTHONORMAL = 1e-3
PROPERTIES = ("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity")
PROPERTIES += ("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3")
# Weight in the middle of a limb over the background's, about the median; python -m bench.accuracy measures it.
CONTRAST = 500.0
# Distortion coefficients in render.pt2; those of a camera with fewer are padded with zeros.
COEFFICIENTS = 12


def save_ply(
    path: str | Path, means: Tensor, rotations: Tensor, scales: Tensor, colours: Tensor, opacity: float | Tensor = 1.0
) -> None:
    """Write Gaussians as a .ply of 3D Gaussian splatting; the file is written whole or not at all.

    The properties are those of Kerbl et al. 2023 without view dependence, which the common viewers read: x y z, normals
    (zero), ``f_dc_0..2``, ``opacity`` (its logit), ``scale_0..2`` (logarithms), ``rot_0..3`` (a quaternion, w first),
    all float32, binary, little endian.

    The scales are written as they are given. A viewer draws ``exp(-D/2)``, where D is the squared Mahalanobis distance,
    and :func:`hvs.rasterize` weighs by ``exp(-D/alpha)``: pass :func:`visible_scales` for what the rasteriser shows.
    One difference remains: a viewer composites by depth, the rasteriser takes the weighted mean.

    Args:
        path: by convention ends in .ply.
        means: centres in metres, [N, 3]; viewers take y as down, as in a camera's frame.
        rotations: orthonormal matrices whose columns are the Gaussians' axes, [N, 3, 3].
        scales: standard deviations along those axes in metres, positive, [N, 3].
        colours: RGB in 0..1, [N, 3]; :func:`feature_colours` makes them from features of any length.
        opacity: opacity of the centres in 0..1, a number or [N].

    Raises:
        ValueError: an argument has the wrong shape or values.
        OSError: the file cannot be written; an earlier one is kept.
    """
    path = Path(path)
    opacity = torch.as_tensor(opacity)
    count = _check_gaussians(means, rotations, scales, colours, opacity)
    means, rotations, scales, colours, opacity = (
        value.detach().to("cpu", torch.float64) for value in (means, rotations, scales, colours, opacity)
    )
    values = (
        means,
        torch.zeros_like(means),
        (colours - 0.5) / HARMONIC,
        opacity.logit(OPACITY_MARGIN).expand(count)[:, None],
        scales.log(),
        quaternion_from_rotation(rotations),
    )
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
    header += [*(f"property float {name}" for name in PROPERTIES), "end_header", ""]
    content = "\n".join(header).encode() + torch.cat(values, -1).numpy().astype("<f4").tobytes()
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def visible_scales(scales: Tensor, alpha: float = 0.025, contrast: float = CONTRAST) -> Tensor:
    """Scales with which a viewer shows Gaussians as wide as the rasteriser does, [..., 3] in metres.

    The rasteriser's ``exp(-D/alpha)`` is a viewer's ``exp(-D/2)`` with scales ``√(alpha/2)`` times as large. But
    weights are normalised: a limb fills half of a pixel out to where its weight has fallen to the background's, at
    ``D = alpha ln(contrast)``. A viewer's opacity is one half there with ``scales · √(alpha ln(contrast) / (2 ln 2))``,
    0.33 times the given ones for the paper's alpha. A contrast of 2 gives the density itself.

    Args:
        scales: as :func:`hvs.limb_gaussians` gives them, [..., 3].
        alpha: as :func:`hvs.rasterize` takes it; a model's is ``model.settings.alpha``.
        contrast: weight of a limb in its middle as a multiple of the background's, more than 1. In a dense cloud the
            other Gaussians' weight takes the place of the background's, and about 5 is suitable.

    Raises:
        ValueError: alpha is not more than 0, or the contrast not more than 1.
    """
    for name, value, least in (("alpha", alpha, 0), ("contrast", contrast, 1)):
        if not least < value < math.inf:
            raise ValueError(f"{name}: got {value}, wanted more than {least}")
    return scales * math.sqrt(alpha * math.log(contrast) / (2 * math.log(2)))


def feature_colours(features: Tensor, latent: Tensor | None = None) -> Tensor:
    """The three principal components of features [N, C] as colours in 0..1, [N, 3].

    Args:
        features: features of the Gaussians, [N, C].
        latent: images [B, C, h, w] whose components are taken instead: a colour then means the same as in a picture of
            them.

    Raises:
        ValueError: an argument has the wrong shape.
    """
    from .pictures import LatentColours

    if not isinstance(features, Tensor) or features.ndim != 2:
        raise _shape_error("features", features, "[N, C]")
    channels = features.shape[1]
    if latent is not None and (not isinstance(latent, Tensor) or latent.ndim != 4 or latent.shape[1] != channels):
        raise _shape_error("latent", latent, f"[B, {channels}, h, w]")
    features = features.mT[None, ..., None]
    return LatentColours(features if latent is None else latent)(features)[0, ..., 0].mT


def export_model(
    model: HumanViewSynthesis, folder: str | Path, tell: Callable[[str, Path], None] | None = None
) -> dict[str, Path]:
    """Write a model as three programs of :func:`torch.export.export`, for any batch size.

    ``torch.export.load(file).module()`` gives a function back, without this package's classes:

        lift.pt2    keypoints [B, J, 2], confidence [B, J] bool, resolution [B, 2] -> points [B, J, 3]
        encode.pt2  image [B, 3, S, S] -> appearance [B, N, C]
        render.pt2  points [B, J, 3], appearance [B, N, C], K [B, 3, 3], distortion [B, 12]
                    -> latent [B, C, h, w], image [B, 3, H, W]

    They take float32 on the CPU and do what :class:`hvs.HumanViewSynthesis` documents for its methods. K and distortion
    are those of a camera of the picture at its full size, ``model.settings.target_resolution``; distortion is padded
    with zeros to twelve coefficients. S must be ``model.settings.input_resolution``.

    The first two need only torch. In the third, the rasteriser's PyTorch backend is an operator of this package, as it
    has lists whose length depends on the picture: ``import hvs`` before loading the file. The operator is written in
    Python, so runtimes without Python (AOTInductor, ExecuTorch) can take only the first two programs.

    Args:
        model: on any device and in any mode, left unchanged; it is exported in evaluation mode.
        folder: made if needed.
        tell: called with the name and the file of each program as soon as it is written.

    Returns:
        The files by the names of their programs. Each is written whole or not at all.

    Raises:
        UserError: the folder cannot be written to, or has a folder in the place of a program.
        ValueError: the model's weights are not in float32.
    """
    kinds = {value.dtype for value in model.decoder.parameters()}
    if kinds != {torch.float32}:
        raise ValueError(f"model: got weights of {', '.join(map(str, kinds))}, wanted torch.float32")
    folder = make_folder(Path(folder))
    model = deepcopy(model).cpu().eval().requires_grad_(False)
    settings, skeleton = model.settings, model.skeleton
    # Two of each, as a size of one would be taken for a constant.
    zeros = partial(torch.zeros, 2, dtype=torch.float32)
    points = zeros(len(skeleton.joints), 3)
    appearance = zeros(len(skeleton.edges), settings.appearance_features)
    image = zeros(3, settings.input_resolution, settings.input_resolution)
    camera = zeros(3, 3) + torch.eye(3, dtype=torch.float32), zeros(COEFFICIENTS)
    inputs = {
        "lift": (model.lifter, points[..., :2], points[..., 2] > 0, zeros(2) + 1),
        "encode": (model.encoder, image),
        "render": (_Render(model), points, appearance, *camera),
    }
    files = {name: folder / f"{name}.pt2" for name in inputs}
    refuse_folders(*files.values())
    for name, (module, *values) in inputs.items():
        program = _export(module, *values)
        write_atomically(files[name], partial(_save, program))
        if tell:
            tell(name, files[name])
    return files


class _Render(nn.Module):
    """:meth:`HumanViewSynthesis.render` with tensors as its only arguments."""

    def __init__(self, model: HumanViewSynthesis) -> None:
        super().__init__()
        # A program keeps all weights of its module, unused ones included.
        model.lifter = model.encoder = None
        self.model = model

    def forward(self, points: Tensor, appearance: Tensor, K: Tensor, distortion: Tensor) -> tuple[Tensor, Tensor]:
        side = self.model.settings.target_resolution
        camera = Camera(K, torch.eye(3, dtype=K.dtype, device=K.device), K.new_zeros(3), distortion, side, side)
        return self.model.render(points, appearance, camera)


def _export(module: nn.Module, *inputs: Tensor) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1)
    shapes = tuple({0: batch} for _ in inputs)
    with without_autocast(inputs[0].device):
        # Strict, because otherwise the rasteriser does not know that it must not look at values.
        program = torch.export.export(module, tuple(v.contiguous() for v in inputs), dynamic_shapes=shapes, strict=True)
    for name, value in program.constants.items():
        # Columns of the skeleton's tables; what is stored needs memory of its own.
        program.constants[name] = value.clone() if isinstance(value, Tensor) else value
    return program


def _save(program: torch.export.ExportedProgram, file: Path) -> None:
    # In memory first: on a full disk, torch's own writer of files aborts the process.
    content = io.BytesIO()
    torch.export.save(program, content)
    file.write_bytes(content.getbuffer())


def _check_gaussians(means: Tensor, rotations: Tensor, scales: Tensor, colours: Tensor, opacity: Tensor) -> int:
    values = dict(means=means, rotations=rotations, scales=scales, colours=colours)
    tails = dict(means=(3,), rotations=(3, 3), scales=(3,), colours=(3,))
    count = None
    for name, tail in tails.items():
        value = values[name]
        fits = isinstance(value, Tensor) and value.shape[1:] == tail and count in (None, len(value))
        if not fits or not len(value):
            axes = ", ".join(map(str, (count or "N", *tail)))
            raise _shape_error(name, value, f"[{axes}]{'' if count else ' with N at least 1'}")
        count = len(value)
    if opacity.shape not in ((), (count,)):
        raise ValueError(f"opacity: got shape {tuple(opacity.shape)}, wanted a number or [{count}]")
    for name, value in (values | dict(opacity=opacity)).items():
        # The type that files hold.
        if not value.float().isfinite().all():
            raise ValueError(f"{name}: is not finite everywhere in float32")
    for name, value in (("colours", colours), ("opacity", opacity)):
        if value.min() < 0 or value.max() > 1:
            raise ValueError(f"{name}: got {value.min():g} to {value.max():g}, wanted 0 to 1")
    if scales.min() <= 0:
        raise ValueError(f"scales: got {scales.min():g}, wanted all positive")
    # In float64, which autocast leaves alone.
    rotations = rotations.double()
    off = (rotations @ rotations.mT - torch.eye(3).to(rotations)).abs().max()
    if off > ORTHONORMAL:
        raise ValueError(f"rotations: are not orthonormal, off by {off:g}")
    return count


def _shape_error(name: str, value: object, wanted: str) -> ValueError:
    if isinstance(value, Tensor):
        return ValueError(f"{name}: got shape {tuple(value.shape)}, wanted {wanted}")
    return ValueError(f"{name}: got {type(value).__name__}, wanted a tensor {wanted}")


def main() -> None:
    import tyro
    from tyro.conf import Positional, arg

    from .checkpoint import load

    def export(
        checkpoint: Annotated[Positional[Path], arg(metavar="FILE")],
        folder: Annotated[Positional[Path], arg(metavar="FOLDER")],
    ) -> None:
        """Write a model as programs of torch.export: lift.pt2, encode.pt2 and render.pt2.

        Args:
            checkpoint: a checkpoint of this project or of the original.
            folder: where to write them; made if needed.
        """
        export_model(load(checkpoint), folder, lambda name, file: print(f"{name:8s}{file}", flush=True))

    run_command(lambda: tyro.cli(export, prog="python -m hvs.export"))


if __name__ == "__main__":
    main()
