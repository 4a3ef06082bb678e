"""A model prepared to draw many pictures."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hvs.evaluation import lift_poses
from hvs.geometry import Camera
from hvs.models import HumanViewSynthesis
from hvs.pictures import to_uint8
from hvs.runtime import UserError, autocast, choose_precision, make_folder, select_device

from .settings import Compiling, Computing, WithModel

RUNS = Path("runs")
# Images encoded at once.
ENCODED = 8


class Studio:
    """Lifts poses, encodes appearances and draws people; every mode of inference combines these three.

    Args:
        settings: which model, and how it computes.
        model: replaces that of the settings; there is no folder then.

    Attributes:
        model: on its device, in evaluation mode.
        device: the one that everything is to be on.
        checkpoint: the file of the model; there is none for a given one.
        folder: for the results, known to be writable; there is none if the settings have none.
        precision: of the networks.
        batch_size: how many frames the networks process at once.
        refine_steps: how many steps refine an appearance.

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
        # All pictures have one size, so the search for the fastest convolution is soon done.
        torch.backends.cudnn.benchmark = True
        self.model.decoder.to(memory_format=torch.channels_last)
        self._compiled = isinstance(settings, Compiling) and settings.compile
        self.refine_steps = settings.refine_steps
        # The kernels of a single frame take less time than launching them one by one.
        mode = "reduce-overhead" if self.device.type == "cuda" else None
        render = self.model.render
        self._render = torch.compile(render, dynamic=False, mode=mode) if self._compiled else render

    def root(self, given: Path | None) -> Path:
        """The given capture, or the one that the model was trained on."""
        from hvs.checkpoint import read_extra

        if given:
            return given
        root = read_extra(self.checkpoint).get("root")
        # The file may be of anybody.
        if not isinstance(root, str) or not root:
            raise UserError(f"{self.checkpoint}: does not say which capture it was trained on; give --root")
        if not Path(root).is_dir():
            raise UserError(f"{self.checkpoint}: was trained on {root}, which is no folder here; give --root")
        return Path(root)

    @torch.inference_mode()
    def lift(self, batch: dict[str, Any]) -> Tensor:
        """Lifted poses of a batch of frames in the world, with their roots at the known places, [B, J, 3] in metres."""
        lifted, _, root = lift_poses(self.model, batch)
        return batch["camera_a"].to_world(root + lifted)

    def encode(self, images: Tensor, points: Tensor, camera: Camera) -> Tensor:
        """The appearance of one person in images, [1, N, C]: the encoder's mean, refined as the settings say.

        Args:
            images: [F, 3, h, w] in 0..1.
            points: poses in the world, [F, J, 3] in metres.
            camera: camera of the images, with the batch axis [F].
        """
        from tqdm import tqdm

        with torch.no_grad(), autocast(self.device, self.precision):
            encoded = [self.model.encode(part).float() for part in images.split(ENCODED)]
            appearance = torch.cat(encoded).mean(0, keepdim=True)
            points = camera.to_camera(points)
            # Only a large model on a CPU takes long enough for the bar to appear.
            with tqdm(total=self.refine_steps, desc="refine", unit="step", leave=False, delay=1) as bar:
                return self.model.refine(appearance, images, points, camera, self.refine_steps, bar.update)

    def encode_batch(self, batch: dict[str, Any]) -> Tensor:
        """The same, of the person in the frames of a batch."""
        return self.encode(batch["image_a"], self.lift(batch), batch["camera_a"])

    @torch.inference_mode()
    def draw(self, points: Tensor, appearance: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
        """Latent images [B, C, h, w] and pictures [B, 3, H, W] in 0..1 of people; the next call overwrites them.

        Args:
            points: poses in the world, [B, J, 3] in metres.
            appearance: of one person, [1, N, C].
            camera: with the batch axis [B].
        """
        count = len(points)
        points = camera.to_camera(points)
        if self._compiled and count < self.batch_size:
            # A batch of another size would be compiled again.
            fill = torch.arange(self.batch_size, device=points.device).clamp(max=count - 1)
            points, camera = points[fill], camera[fill]
        with autocast(self.device, self.precision):
            latent, image = self._render(points, appearance.expand(len(points), -1, -1), camera)
        return latent[:count].float(), image[:count].float().clamp(0, 1)

    def fetch(self, batches: Iterable[Tensor]) -> Iterator[np.ndarray]:
        """Frames [H, W, 3] uint8 of batches of pictures [B, 3, H, W]; meanwhile the device draws the next ones."""
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
