"""Render a person of a capture for another of its cameras, with a trained model.

python examples/novel_view.py [runs/sample/model.safetensors [view.png]]
"""

import sys
from pathlib import Path

import torch

import hvs
from hvs.checkpoint import read_extra
from hvs.data import PairDataset, collate
from hvs.pictures import latent_to_rgb, mosaic, save_picture
from hvs.runtime import UserError, run_command


def main() -> None:
    checkpoint = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/sample/model.safetensors")
    out = Path(sys.argv[2] if len(sys.argv) > 2 else "view.png")
    model = hvs.load(checkpoint)
    root = read_extra(checkpoint).get("root")
    if not isinstance(root, str) or not root:
        raise UserError(f"{checkpoint}: does not say which capture it was trained on")
    settings = model.settings

    # Test frames of people who were never trained on, as one camera and another see them.
    sizes = settings.input_resolution, settings.target_resolution
    pairs = PairDataset(root, "test", "unknown", *sizes, settings.resize, same_view=False)
    pair = collate([pairs[len(pairs) // 2]])
    print(f"pair     {pair['name'][0]}")

    with torch.inference_mode():
        # The lifted pose is relative to its root joint, in the first camera's frame; the root's position is known.
        root = pair["camera_a"].to_camera(pair["points"])[:, model.skeleton.root, None]
        pose = root + model.lift(pair["keypoints_a"], pair["confidence_a"], pair["resolution_a"])  # [1, J, 3]
        appearance = model.encode(pair["image_a"])  # [1, N, C]
        # The encoder takes a stranger for somebody it knows; a few steps of gradient descent make up for it.
        appearance = model.refine(appearance, pair["image_a"], pose, pair["camera_a"])
        # Any other hvs.Camera will do as well.
        camera = pair["camera_b"]
        latent, image = model.render(camera.to_camera(pair["camera_a"].to_world(pose)), appearance, camera)
    print(f"error    {(image.clamp(0, 1) - pair['image_b']).abs().mean():.3f} of 1, mean over the picture")

    row = [pair["image_a"][0], latent_to_rgb(latent)[0], image[0], pair["image_b"][0]]
    save_picture(mosaic([row], ["input", "latent", "output", "truth"]), out)
    print(f"picture  {out}")


if __name__ == "__main__":
    run_command(main)
