"""Ours against the plain method, on the sample's poses and cameras."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def scene():
    pytest.importorskip("anny", reason="the sample capture's bodies come from anny (pip install hvs[sample])")
    from bench.triangulation import sample_scene

    return sample_scene(people=2, frames=2, views=8)


@pytest.mark.parametrize("noise", [0.0, 2.0, 5.0])
def test_not_worse_without_outliers(scene, noise):
    from bench.triangulation import METHODS, measure

    ours, plain = (measure(METHODS[name], *scene, noise, 0.0) for name in ("ours", "plain"))
    for key in ("mean", "median", "p95"):
        assert ours[key] <= plain[key]


@pytest.mark.parametrize("noise", [0.0, 2.0, 5.0])
def test_better_with_outliers(scene, noise):
    from bench.triangulation import METHODS, measure

    ours, plain = (measure(METHODS[name], *scene, noise, 0.1) for name in ("ours", "plain"))
    assert ours["median"] < plain["median"]
    for key in ("mean", "p95"):
        assert ours[key] < 0.5 * plain[key]
    # Where half of the views are wrong, what is right cannot be told.
    assert ours["p95"] < 1.2 * measure(METHODS["ours"], *scene, noise, 0.0)["p95"] + 0.1


def test_too_few_views_are_zero_in_the_plain_method_too(scene):
    from bench.triangulation import detect, plain

    keypoints, confidence = detect(*scene, 0.0, 0.0)
    confidence[3:, ::2] = 0
    found = plain(keypoints, confidence, scene[1])
    assert not found[::2].any() and (found[1::2] - scene[0][1::2]).norm(dim=-1).max() < 1e-3


def test_the_command_prints_the_table(scene):
    command = [sys.executable, "-m", "bench.triangulation", "--people", "1", "--frames", "1"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("| ours |") == found.stdout.count("| plain |") == 8
