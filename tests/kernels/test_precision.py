import subprocess
import sys

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
    matmul, other = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        was = matmul.fp32_precision, other.fp32_precision
        assert was == ("tf32", "tf32")
        with pytest.raises(KeyError), with_all_digits():
            assert (matmul.fp32_precision, other.fp32_precision) == ("ieee", "ieee")
            raise KeyError
        assert (matmul.fp32_precision, other.fp32_precision) == was
        # The older names work as they did.
        assert matmul.allow_tf32 and torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


def test_threads_may_overlap():
    """The first to come must not take away what the second one needs, nor leave it behind."""
    matmul = torch.backends.cuda.matmul
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        first, second = with_all_digits(), with_all_digits()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert matmul.fp32_precision == "ieee"
        second.__exit__(None, None, None)
        assert matmul.fp32_precision == "tf32"
    finally:
        torch.set_float32_matmul_precision(before)


def test_what_nobody_has_set_stays_so():
    code = """
import torch
from hvs.kernels.precision import with_all_digits
settings = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
with with_all_digits():
    pass
torch.backends.fp32_precision = "tf32"
print(*(setting.fp32_precision for setting in settings))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["tf32", "tf32"]
