"""What is known of a tile."""

from unittest import mock

import torch

from hvs.kernels.fused import launch, programs
from hvs.kernels.pyramid import build_pyramid, pad_to_tiles
from tests.kernels.fused.watched import Watched


def surveyed(inputs, device):
    """Tiles, which only large scenes keep, and patches, which must be the same in small ones."""
    inputs = {name: value.to(device) for name, value in inputs.items()}
    options = dict(alpha=0.025, beta=2.0, eps=1e-8, near=1e-2, tolerance=1e-6)
    patches = launch.forward(*inputs.values(), **options).patches
    with (
        mock.patch.object(programs, "SMALL_PAIRS", 0),
        mock.patch.object(launch.survey, "survey", Watched(launch.survey.survey)) as survey,
    ):
        found = launch.forward(*inputs.values(), **options)
    assert torch.equal(found.patches, patches)
    return survey.named["tiles"].cpu(), patches.cpu()


def test_tiles_are_those_of_the_pyramid(scene, device):
    inputs = scene(5, 37, 50, batch=(2,), dtype=torch.float32)
    tiles, _ = surveyed(inputs, device)
    cells = build_pyramid(pad_to_tiles(inputs["rays"].movedim(-1, 1)))[0]
    torch.testing.assert_close(tiles[:, :2].mT, cells.low)
    torch.testing.assert_close(tiles[:, 2:4].mT, cells.high)
    torch.testing.assert_close(tiles[:, 4:].mT, cells.centre)


def test_patches_are_boxes_of_their_rays(scene, device):
    """Those outside of the image, of the nearest rays."""
    inputs = scene(5, 37, 50, batch=(2,), dtype=torch.float32)
    _, patches = surveyed(inputs, device)
    plane = inputs["rays"][..., :2] / inputs["rays"][..., 2:]
    found = patches.view(2, 3, 4, 4, 2, 4)  # rows and columns of tiles, values, columns and rows of patches
    for row in range(12):
        for column in range(8):
            rays = plane[:, min(4 * row, 36) : 4 * row + 4, min(8 * column, 49) : 8 * column + 8].flatten(1, 2)
            box = found[:, row // 4, column // 2, :, column % 2, row % 4]
            torch.testing.assert_close(box, torch.cat((rays.amin(1), rays.amax(1)), 1))


def test_a_tile_with_flat_rays_is_the_whole_plane(scene, device):
    inputs = scene(5, 20, 40, dtype=torch.float32)
    inputs["rays"] = inputs["rays"].clone()
    inputs["rays"][0, 3, 3] = torch.tensor([1.0, 0.0, 0.0])
    tiles, patches = surveyed(inputs, device)
    assert tiles[0, :4, 0].tolist() == [-torch.inf, -torch.inf, torch.inf, torch.inf]
    assert tiles[0, :, 1:].isfinite().all()
    assert patches[0, 0, :, 0].tolist() == [-torch.inf, -torch.inf, torch.inf, torch.inf]
    assert patches[0, 0, :, 1:].isfinite().all()
