import torch

from bench.gsplat_baseline import _quaternions


def test_quaternions_are_those_of_the_rotations():
    q = torch.nn.functional.normalize(torch.randn(100, 4, generator=torch.Generator().manual_seed(0)).double(), dim=-1)
    w, x, y, z = q.unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    rotations = torch.stack([torch.stack(row) for row in rows]).movedim(-1, 0)
    for given in (rotations, -rotations):  # a reflection has the covariance of the opposite rotation
        assert torch.allclose((_quaternions(given) * q).sum(-1).abs(), torch.ones(100).double())
