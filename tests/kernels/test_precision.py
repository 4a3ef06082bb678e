import torch

from hvs.kernels.precision import without_autocast


def test_products_keep_their_precision():
    a = torch.rand(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16
        with without_autocast(a.device):
            assert (a @ a).dtype == torch.float32


def test_devices_that_have_no_autocast():
    a = torch.rand(4, 4, device="meta")
    with without_autocast(a.device):
        assert (a @ a).dtype == torch.float32
