import importlib.util
import os

import pytest
import torch

# Without a GPU the Triton kernels are interpreted. Triton asks when it is imported, which happens later.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# The tensors of tests are small: a second thread costs them more than it brings.
torch.set_num_threads(1)

# Geometry and kernels are tested where there is nothing but torch, triton and numpy, too.
if importlib.util.find_spec("lmdb"):
    pytest_plugins = ["tests.captures"]


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))
