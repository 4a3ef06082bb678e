import pytest
import torch

from hvs.kernels.pyramid import TILE, build_pyramid, gather_tiles, pad_to_tiles, scatter_tiles


@pytest.mark.parametrize(("height", "width"), [(1, 1), (16, 16), (17, 40), (70, 300)], ids=str)
def test_bounds_hold_on_every_level(scene, height, width):
    rays = scene(1, height, width, batch=(2,))["rays"].movedim(-1, 1)
    padded = pad_to_tiles(rays).contiguous()
    levels = build_pyramid(padded)
    assert (levels[-1].height, levels[-1].width) == (1, 1)
    size = TILE
    for cells in levels:
        assert cells.centre.shape == (2, cells.height * cells.width, 3)
        for cell in range(cells.height * cells.width):
            row, column = cell // cells.width * size, cell % cells.width * size
            part = padded[:, :, row : row + size, column : column + size].flatten(2)  # [2, 3, P]
            plane = part[:, :2] / part[:, 2:]
            centre = cells.centre[:, cell, :, None]
            assert ((part - centre).norm(dim=1) <= cells.radius[:, cell, None] + 1e-12).all()
            assert (part == centre).all(1).any(1).all()
            assert (plane >= cells.low[:, cell, :, None]).all() and (plane <= cells.high[:, cell, :, None]).all()
        size *= 4


def test_children_cover_the_finer_level_once(scene):
    levels = build_pyramid(pad_to_tiles(scene(1, 70, 300)["rays"].movedim(-1, 1)))
    for fine, coarse in zip(levels, levels[1:], strict=False):
        cells, exists = coarse.children(torch.arange(coarse.height * coarse.width), fine)
        assert cells[exists].sort().values.tolist() == list(range(fine.height * fine.width))


def test_rays_that_look_sideways_give_no_bound():
    rays = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(1, 3, 16, 16)
    (cells,) = build_pyramid(rays)
    assert cells.low.tolist() == [[[-torch.inf] * 2]] and cells.high.tolist() == [[[torch.inf] * 2]]
    assert cells.radius.item() == 2.0


def test_scatter_inverts_gather():
    image = torch.randn(2, 3, 32, 48)
    tiles = tuple(torch.tensor(v) for v in ([0, 1, 1], [1, 0, 1], [2, 1, 0]))
    values = gather_tiles(image, tiles)
    assert torch.equal(values[0].view(3, 16, 16), image[0, :, 16:, 32:])
    assert torch.equal(values[1].view(3, 16, 16), image[1, :, :16, 16:32])
    target = torch.zeros_like(image)
    scatter_tiles(target, tiles, values)
    assert torch.equal(gather_tiles(target, tiles), values)
    assert (target != 0).sum() == values.numel()
