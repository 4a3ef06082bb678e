"""What is known of a tile."""

import torch

from hvs.kernels.fused import launch, survey
from hvs.kernels.pyramid import build_pyramid, pad_to_tiles


def surveyed(inputs, device):
    means, rotations, scales, *_, rays = (value.to(device).contiguous() for value in inputs.values())
    (batch, count, _), (height, width) = means.shape, rays.shape[1:3]
    rows, columns = launch.tile_grid(height, width)
    tiles = rays.new_full((batch, 7, rows * columns), torch.nan)
    keys = torch.zeros(batch, 2, dtype=torch.int32, device=device)
    geometry = means, rotations, scales, rays
    strides = [value.stride(0) for value in geometry]
    survey.survey[rows * columns, batch](
        tiles, keys, *geometry, *strides, count, height, width, 0.01, 1, BLOCK=launch.BLOCK
    )
    return tiles.cpu(), keys.cpu()


def test_tiles_are_those_of_the_pyramid(scene, device):
    inputs = scene(5, 37, 50, batch=(2,), dtype=torch.float32)
    tiles, _ = surveyed(inputs, device)
    cells = build_pyramid(pad_to_tiles(inputs["rays"].movedim(-1, 1)))[0]
    torch.testing.assert_close(tiles[:, :2].mT, cells.low)
    torch.testing.assert_close(tiles[:, 2:4].mT, cells.high)
    torch.testing.assert_close(tiles[:, 4:].mT, cells.centre)


def test_a_tile_with_flat_rays_is_the_whole_plane(scene, device):
    inputs = scene(5, 20, 40, dtype=torch.float32)
    inputs["rays"] = inputs["rays"].clone()
    inputs["rays"][0, 3, 3] = torch.tensor([1.0, 0.0, 0.0])
    tiles, _ = surveyed(inputs, device)
    assert tiles[0, :4, 0].tolist() == [-torch.inf, -torch.inf, torch.inf, torch.inf]
    assert tiles[0, :, 1:].isfinite().all()


def test_keys_are_a_depth_and_the_smallest_variance(scene, device):
    inputs = scene(300, 40, 40, dtype=torch.float32)
    _, keys = surveyed(inputs, device)
    depth = keys[0, :1].view(torch.float32).item()
    assert 0 < depth <= 1.001 * (inputs["means"].norm(dim=-1) / inputs["scales"].amin(-1)).max() * 3
    variance = (0x7F800000 - keys[0, 1:]).view(torch.float32)
    torch.testing.assert_close(variance, inputs["scales"].square().amin().reshape(1))
