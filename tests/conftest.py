import importlib.util
import os

# The tensors of tests are small: a second thread costs them more than it brings, in the programs that they start, too.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

# Without a GPU the Triton kernels are interpreted. Triton asks when it is imported, which happens later.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# Geometry and kernels are tested where there is nothing but torch, triton and numpy, too.
if importlib.util.find_spec("lmdb"):
    pytest_plugins = ["tests.captures"]


# On a GPU all of them share its memory.
MOST_PROCESSES = 8

# Files that take longest are begun first, or at the end one process would have such a one and the others nothing.
LONGEST = ("test_compiled", "test_fused", "test_resources", "test_distribute", "test_progress", "test_killed")
LONGEST += ("test_scoring", "test_train", "test_export", "test_hostile", "test_decoder", "test_infer", "test_guides")
LONGEST += ("test_data_guide", "test_culling")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """The whole suite takes a process for each core, where there is pytest-xdist and nothing else was asked for."""
    options = config.option
    # A process of xdist comes by here, too.
    unasked = not hasattr(config, "workerinput") and getattr(options, "numprocesses", 0) is None
    whole = config.args_source is config.ArgsSource.TESTPATHS and not (options.keyword or options.markexpr)
    if unasked and whole and options.dist == "no" and not (options.usepdb or options.collectonly):
        options.numprocesses = min(max(2, os.cpu_count()), MOST_PROCESSES)
        # What the tests of a file share is made once.
        options.dist = "loadfile"
        options.loadscopereorder = False


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))
