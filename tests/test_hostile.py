"""Hundreds of hostile and broken files: none runs anything, hangs or takes a GiB, and each is one clear error."""

import json
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
from tests.hostile.pickles import flipped
from tests.hostile.reading import GIB
from tests.originals import SETTINGS, hyper_parameters

ROOT = Path(__file__).parents[1]
FLIPS = 300


def good_label(folder):
    (folder / "label").write_bytes(pack_label(torch.ones(17, 2, 1)))


def good_archive(folder):
    poses = {"S1": {"Walking 1": [np.ones((3, 17, 2), np.float32)] * 4}}
    np.savez_compressed(folder / "poses.npz", positions_2d=poses, metadata={"layout": "h36m"}, plain=np.ones(3))


def good_checkpoint(folder):
    save_model(folder / "own.safetensors", HumanViewSynthesis(SETTINGS))


# What is flipped: small files, in which every byte counts.
def small_checkpoint(folder):
    content = {"state_dict": {"model.x": torch.ones(3)}, "hyper_parameters": hyper_parameters()}
    torch.save(content, folder / "small.ckpt")


KINDS = {
    "labels": (hostile.labels, good_label, good_label),
    "archives": (hostile.archives, good_archive, good_archive),
    "checkpoints": (hostile.checkpoints, good_checkpoint, small_checkpoint),
}


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_files_are_refused_without_harm(kind, tmp_path):
    generate, good, small = KINDS[kind]
    for name in ("good", "broken", "files", "small", "here"):
        (tmp_path / name).mkdir()
    good(tmp_path / "good")
    small(tmp_path / "small")
    names = {}

    def write(pairs):
        for name, data in pairs:
            file = f"{len(names):05d}"
            names[file] = name
            (tmp_path / "files" / file).write_bytes(data)

    write(generate())
    hostile_files = len(names)
    (small_file,) = (tmp_path / "small").iterdir()
    write(flipped(small_file.read_bytes(), FLIPS))
    (tmp_path / "broken" / "text").write_bytes(b"no such thing")
    small_file.rename(tmp_path / "broken" / small_file.name)
    command = [sys.executable, "-m", "tests.hostile.reading", kind, str(tmp_path)]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path / "here", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found["results"]) == len(names)
    bad = {}
    for file, outcome in found["results"].items():
        allowed = [["refused"]] if int(file) < hostile_files else [["refused"], ["read"]]
        if outcome not in allowed:
            bad[names[file]] = outcome
    assert not bad, "\n".join(f"{n}: {o}" for n, o in bad.items())
    refused = sum(outcome == ["refused"] for outcome in list(found["results"].values())[:hostile_files])
    assert refused == hostile_files >= 200
    assert found["grown"] < GIB
    assert not any((tmp_path / "here").iterdir())
