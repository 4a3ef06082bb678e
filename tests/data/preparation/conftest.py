"""Tiny samples, raw as the public downloads are and prepared, and what becomes of the raw ones."""

import shutil

import pytest

from hvs.data.preparation import prepare_human36m, prepare_panoptic
from tests.data.sample.conftest import SMALL

PREPARE = {"panoptic": prepare_panoptic, "human36m": prepare_human36m}


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    """layout -> root of the tiny sample in it; nobody may change it."""
    pytest.importorskip("anny", reason="the sample capture's bodies come from anny (pip install hvs[sample])")
    from hvs.data.sample import SampleSettings, make_sample

    folder, settings = tmp_path_factory.mktemp("samples"), SampleSettings(**SMALL)
    return lambda layout: make_sample(folder / layout, settings, layout)


@pytest.fixture(scope="session")
def prepared(sample, tmp_path_factory):
    """Raw layout -> root of the prepared sample; nobody may change it."""
    folder = tmp_path_factory.mktemp("prepared")

    def get(layout):
        if not (folder / layout).exists():
            raw = sample(layout)
            PREPARE[layout.partition("-")[0]](raw, folder / layout, masks=raw / "masks", workers=1)
        return folder / layout

    return get


@pytest.fixture
def raw_copy(sample, tmp_path):
    """Raw layout -> a copy of the first person's recording alone, to be changed."""

    def copy(layout):
        root = tmp_path / "raw"
        others = ("subject2_pose1", "S5", "splits.json", "sample.json")
        shutil.copytree(sample(layout), root, ignore=shutil.ignore_patterns(*others))
        return root

    return copy
