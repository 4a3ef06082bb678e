import re
from pathlib import Path

import torch

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    found: dict = {}
    exec(example, found)
    assert found["latent"].shape == (1, 16, 256, 256)
    assert found["latent"].isfinite().all() and found["latent"].abs().sum() > 0
    assert found["latent"].dtype == torch.float32


def test_the_tree_names_what_is_there():
    (tree,) = re.findall(r"## What is where\n\n(.*?)\n\n", README, flags=re.DOTALL)
    root = Path(__file__).parents[1]
    names = re.findall(r"(\w+\.py|\w+/)(?= )", tree)
    assert len(names) > 15
    for name in names:
        assert any(
            (root / folder / name).exists()
            for folder in ("", "hvs", "hvs/data", "hvs/kernels", "hvs/inference", "docs")
        ), name
