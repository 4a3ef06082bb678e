"""A model made ready to draw many pictures."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hvs.geometry import Camera
from hvs.models import HumanViewSynthesis
from hvs.pictures import to_uint8
from hvs.runtime import UserError, autocast, choose_precision, make_folder, select_device

from .settings import Computing, WithModel

RUNS = Path("runs")
# Images that are encoded at once.
ENCODED = 8


class Studio:
    """Lifts poses, encodes appearances and draws people; every mode of inference composes these three.

    Args:
        settings: which model, and how it computes.
        model: in place of that of the settings; there is no folder then.

    Attributes:
        model: on its device, in evaluation mode.
        device: that everything is to be on.
        folder: of what is written, known to be writable; none where the settings have none.
        refine_steps: of an appearance.

    Raises:
        UserError: no model, no such device, or a folder that cannot be written to.
        CheckpointError: the model cannot be read.
    """

    def __init__(self, settings: Computing, model: HumanViewSynthesis | None = None) -> None:
        self.device = select_device(settings.device)
        if model is None:
            from hvs.checkpoint import load

            self.checkpoint = settings.checkpoint or newest_checkpoint()
            model = load(self.checkpoint)
            if isinstance(settings, WithModel):
                self.folder = make_folder(settings.out or self.checkpoint.parent)
        self.model = model.to(self.device).eval()
        self.precision = choose_precision(settings.precision, self.device)
        self.batch_size = settings.batch_size if isinstance(settings, WithModel) else 1
        # Pictures are all of one size: the search for the fastest convolution is soon done.
        torch.backends.cudnn.benchmark = True
        self.model.decoder.to(memory_format=torch.channels_last)
        self._compiled = settings.compile
        self.refine_steps = settings.refine_steps
        # The kernels of a single frame take less time than to launch them one by one.
        mode = "reduce-overhead" if self.device.type == "cuda" else None
        render = self.model.render
        self._render = torch.compile(render, dynamic=False, mode=mode) if self._compiled else render

    def root(self, given: Path | None) -> Path:
        """The capture that was asked for, or that the model was trained on."""
        from hvs.checkpoint import read_extra

        root = given or read_extra(self.checkpoint).get("root")
        if not root:
            raise UserError(f"{self.checkpoint}: does not say which capture it was trained on; give --root")
        return Path(root)

    @torch.inference_mode()
    def lift(self, batch: dict[str, Any]) -> Tensor:
        """Poses of a batch of frames in the world, around the known places of their roots, [B, J, 3] in metres."""
        camera = batch["camera_a"]
        root = camera.to_camera(batch["points"])[:, self.model.skeleton.root, None]
        lifted = self.model.lift(batch["keypoints_a"], batch["confidence_a"], batch["resolution_a"])
        return camera.to_world(root + lifted)

    def encode(self, images: Tensor, points: Tensor, camera: Camera) -> Tensor:
        """The appearance of one person in images, [1, N, C]: the encoder's mean, refined as the settings say.

        Args:
            images: [F, 3, h, w] in 0..1.
            points: poses in the world, [F, J, 3] in metres.
            camera: of the images, with the batch axis [F].
        """
        from tqdm import tqdm

        with torch.no_grad(), autocast(self.device, self.precision):
            encoded = [self.model.encode(part).float() for part in images.split(ENCODED)]
            appearance = torch.cat(encoded).mean(0, keepdim=True)
            points = camera.to_camera(points)
            # Only a large model on a CPU takes so long that the bar is seen.
            with tqdm(total=self.refine_steps, desc="refine", unit="step", leave=False, delay=1) as bar:
                return self.model.refine(appearance, images, points, camera, self.refine_steps, bar.update)

    def encode_batch(self, batch: dict[str, Any]) -> Tensor:
        """The same of the frames of a batch."""
        return self.encode(batch["image_a"], self.lift(batch), batch["camera_a"])

    @torch.inference_mode()
    def draw(self, points: Tensor, appearance: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
        """Latent images [B, C, h, w] and pictures [B, 3, H, W] in 0..1 of people, overwritten by the next call.

        Args:
            points: poses in the world, [B, J, 3] in metres.
            appearance: of one person, [1, N, C].
            camera: with the batch axis [B].
        """
        count = len(points)
        points = camera.to_camera(points)
        if self._compiled and count < self.batch_size:
            # Another size would be compiled anew.
            fill = torch.arange(self.batch_size, device=points.device).clamp(max=count - 1)
            points, camera = points[fill], camera[fill]
        with autocast(self.device, self.precision):
            latent, image = self._render(points, appearance.expand(len(points), -1, -1), camera)
        return latent[:count].float(), image[:count].float().clamp(0, 1)

    def fetch(self, batches: Iterable[Tensor]) -> Iterator[np.ndarray]:
        """Frames [H, W, 3] uint8 of batches of pictures [B, 3, H, W]; the device draws the next ones meanwhile."""
        waiting: tuple[Tensor, torch.cuda.Event] | None = None
        for images in batches:
            if self.device.type != "cuda":
                yield from to_uint8(images)
                continue
            pixels = (images * 255).round().byte().movedim(-3, -1)
            host = torch.empty(pixels.shape, dtype=pixels.dtype, pin_memory=True)
            host.copy_(pixels, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
            if waiting:
                yield from _wait(*waiting)
            waiting = host, copied
        if waiting:
            yield from _wait(*waiting)


def newest_checkpoint() -> Path:
    """The model of the latest run that has one."""
    found = sorted(RUNS.glob("*/model.safetensors"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError(f"{RUNS}/*/model.safetensors: no trained model yet; run python train.py, or give --checkpoint")
    return found[-1]


def _wait(host: Tensor, copied: "torch.cuda.Event") -> np.ndarray:
    copied.synchronize()
    return host.numpy()
