"""Hundreds of hostile and broken files: none runs anything, hangs or takes a GiB, and each is one clear error."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hvs.checkpoint import save_model
from hvs.data.stores import pack_label
from hvs.models import HumanViewSynthesis
from tests import hostile
from tests.hostile.pickles import CALLS, call, flipped, whole
from tests.hostile.reading import GIB
from tests.originals import SETTINGS, hyper_parameters

ROOT = Path(__file__).parents[1]
FLIPS = 150


def good_label(folder):
    (folder / "label").write_bytes(pack_label(torch.ones(17, 2, 1)))


def good_archive(folder):
    poses = {"S1": {"Walking 1": [np.ones((3, 17, 2), np.float32)] * 4}}
    np.savez_compressed(folder / "poses.npz", positions_2d=poses, metadata={"layout": "h36m"}, plain=np.ones(3))


def good_checkpoint(folder):
    save_model(folder / "own.safetensors", HumanViewSynthesis(SETTINGS))


def small_checkpoint(folder):
    content = {"state_dict": {"model.x": torch.ones(3)}, "hyper_parameters": hyper_parameters()}
    torch.save(content, folder / "small.ckpt")


# What writes the files to be refused, one to be read, and one so small that every byte counts.
KINDS = {
    "labels": (hostile.labels, good_label, good_label),
    "archives": (hostile.archives, good_archive, good_archive),
    "checkpoints": (hostile.checkpoints, good_checkpoint, small_checkpoint),
}


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_files_are_refused_without_harm(kind, tmp_path):
    generate, good, small = KINDS[kind]
    for name in ("good", "broken"):
        (tmp_path / name).mkdir()
    good(tmp_path / "good")
    small(tmp_path / "broken")
    (small_file,) = (tmp_path / "broken").iterdir()
    (tmp_path / "broken" / "text").write_bytes(b"no such thing")
    files = list(generate())
    flips = list(flipped(small_file.read_bytes(), FLIPS))
    outcomes, grown = read_apart(kind, tmp_path, files + flips)
    bad = {name: found for name, found in outcomes.items() if found != ["refused"]}
    # A changed byte may be one of a number.
    bad = {name: found for name, found in bad.items() if found != ["read"] or not name.startswith("flip")}
    assert not bad, "\n".join(f"{name}: {found}" for name, found in bad.items())
    assert len({name for name, _ in files}) == len(files) >= 200
    assert grown < GIB
    assert not any((tmp_path / "here").iterdir())


def read_apart(kind, folder, files):
    """What became of each file in a process of its own, and by how many bytes that grew."""
    for name in ("good", "broken", "files", "here"):
        (folder / name).mkdir(exist_ok=True)
    for number, (_, data) in enumerate(files):
        (folder / "files" / f"{number:05d}").write_bytes(data)
    command = [sys.executable, "-m", "tests.hostile.reading", kind, str(folder)]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"]}
    done = subprocess.run(command, cwd=folder / "here", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    return dict(zip([name for name, _ in files], found["results"].values(), strict=True)), found["grown"]


def test_a_careless_reader_would_be_caught(tmp_path):
    names = ["os.mkdir", "os.system", "builtins.open", "builtins.exec", "builtins.bytearray", "importlib.import_module"]
    files = [(name, whole(call(name, *CALLS[name]))) for name in names]
    outcomes, _ = read_apart("careless", tmp_path, files)
    assert all(found not in (["refused"], ["read"]) for found in outcomes.values()), outcomes
    assert outcomes["builtins.bytearray"][0].startswith("MemoryError")
    assert [file.name for file in (tmp_path / "here").iterdir()] == ["witness"]
