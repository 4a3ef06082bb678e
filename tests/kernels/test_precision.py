import pytest
import torch

from hvs.kernels.precision import with_all_digits, without_autocast


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


def test_products_take_all_digits_for_a_while():
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        was = matmul.fp32_precision, conv.fp32_precision
        assert was == ("tf32", "tf32")
        with pytest.raises(KeyError), with_all_digits():
            assert (matmul.fp32_precision, conv.fp32_precision) == ("ieee", "ieee")
            raise KeyError
        assert (matmul.fp32_precision, conv.fp32_precision) == was
        # The older names work as they did.
        assert matmul.allow_tf32 and torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
