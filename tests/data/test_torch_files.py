"""What torch writes is read as torch reads it; hostile files: tests/test_hostile.py."""

import numpy as np
import pytest
import torch

from hvs.data.torch_files import is_torch_file, read_torch_file
from hvs.data.unpickling import PLACEHOLDER


@pytest.fixture(params=[False, True], ids=["legacy", "zip"])
def saved(tmp_path, request):
    def save(content):
        torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=request.param)
        return tmp_path / "a.pt"

    return save


DTYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_of_every_type(saved, dtype):
    dtype = getattr(torch, dtype)
    tensor = (torch.randn(3, 4) * 3).to(dtype)
    found = read_torch_file(saved({"a": tensor, "empty": tensor[:0], "scalar": tensor[0, 0]}))
    for name, wanted in {"a": tensor, "empty": tensor[:0], "scalar": tensor[0, 0]}.items():
        assert found[name].dtype == dtype and found[name].shape == wanted.shape and torch.equal(found[name], wanted)


def test_views_share_their_storage(saved):
    whole = torch.arange(24.0).reshape(4, 6)
    content = [whole, whole[1:, ::2], whole.mT, torch.nn.Parameter(whole[2])]
    found = read_torch_file(saved(content))
    assert all(torch.equal(a, b) for a, b in zip(found, content, strict=True))
    found[0].zero_()
    assert not found[1].any()


def test_state_dicts_and_plain_values(saved):
    module = torch.nn.Linear(2, 3)
    content = {"state_dict": module.state_dict(), "epoch": 3, "rates": (1e-3, None), "mean": np.float64(2.5)}
    found = read_torch_file(saved(content), lenient=True)
    assert all(torch.equal(found["state_dict"][name], value) for name, value in module.state_dict().items())
    assert (found["epoch"], found["rates"], found["mean"]) == (3, (1e-3, None), 2.5)


def test_unknown_classes(saved):
    path = saved({"module": torch.nn.Linear(2, 2), "a": torch.ones(1)})
    with pytest.raises(ValueError, match="asks for torch.nn.modules.linear.Linear, which is not allowed"):
        read_torch_file(path)
    found = read_torch_file(path, lenient=True)
    assert found["module"] is PLACEHOLDER and torch.equal(found["a"], torch.ones(1))


def test_copies_of_one_storage_are_bounded(saved):
    tensor = torch.zeros(1000)
    read_torch_file(saved([tensor[i:] for i in range(4)]))
    with pytest.raises(ValueError, match="more data than it holds"):
        read_torch_file(saved([tensor[i:] for i in range(10)]))


def test_a_file_that_cannot_be_opened_is_not_named(tmp_path):
    """The message follows its path."""
    with pytest.raises(ValueError, match=r"^not a readable PyTorch file \(No such file or directory\)$"):
        read_torch_file(tmp_path / "none.pt")


def test_other_files_are_told_apart(saved, tmp_path):
    assert is_torch_file(saved([1]))
    # A safetensors file whose numbers end as a zip does.
    end = b"PK\5\6" + bytes(18)
    (tmp_path / "a.safetensors").write_bytes((10).to_bytes(8, "little") + b'{"a":1}   ' + end)
    assert not is_torch_file(tmp_path / "a.safetensors")
