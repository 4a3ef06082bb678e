"""Checkpoints of this project: complete, or not there; versions; and faults by name."""

import copy
import json
from dataclasses import asdict, replace

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from hvs import checkpoint
from hvs.checkpoint import CheckpointError, load, load_discriminator, read_extra, save_model
from hvs.models import Discriminator, HumanViewSynthesis
from tests.originals import SETTINGS


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = HumanViewSynthesis(SETTINGS)
    model.decoder(torch.randn(1, 4, 16, 16), torch.randn(1, 16, 4))
    return model.to(memory_format=torch.channels_last)


@pytest.fixture
def saved(model, tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, model, extra={"epoch": 3})
    return path


def refused(path, message):
    with pytest.raises(CheckpointError, match=message) as error:
        load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


class TestOwnFormat:
    def test_round_trip(self, model, saved):
        loaded = load(saved)
        assert loaded.settings == SETTINGS and not loaded.training
        wanted = model.state_dict()
        for name, value in loaded.state_dict().items():
            torch.testing.assert_close(value, wanted[name], rtol=0, atol=0)
        assert loaded.decoder.stem[0].moment.initialised
        assert read_extra(saved) == {"epoch": 3}

    def test_nothing_is_left_beside_the_file(self, saved):
        assert [file.name for file in saved.parent.iterdir()] == ["model.safetensors"]

    def test_a_failed_write_keeps_the_old_file(self, model, saved, monkeypatch):
        before = saved.read_bytes()

        def fail(state, path, metadata):
            path.write_bytes(b"half")
            raise OSError("disk full")

        monkeypatch.setattr(checkpoint, "save_file", fail)
        with pytest.raises(OSError, match="disk full"):
            save_model(saved, model)
        assert saved.read_bytes() == before
        assert [file.name for file in saved.parent.iterdir()] == ["model.safetensors"]

    def test_a_full_disk_is_told_with_the_file_named_once(self, model, saved, monkeypatch):
        def fail(state, path, metadata):
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

        monkeypatch.setattr(checkpoint, "save_file", fail)
        with pytest.raises(OSError, match="No space left on device") as caught:
            save_model(saved, model)
        assert str(caught.value).count(str(saved)) == 1

    def test_a_file_that_may_not_be_read_is_named_once(self, saved, monkeypatch):
        def refuse(path):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(checkpoint, "is_torch_file", refuse)
        refused(saved, f"^{saved}: Permission denied$")

    def test_faulty_entries_are_listed_by_name(self, saved):
        state = load_file(saved)
        state["decoder.stem.9.weight"] = state.pop("decoder.stem.0.weight")
        state["lifter.head.bias"] = torch.zeros(3)
        rewrite(saved, state)
        refused(
            saved,
            r"missing decoder\.stem\.0\.weight; unexpected decoder\.stem\.9\.weight; "
            r"wrong shape lifter\.head\.bias: got \(3,\), wanted \(51,\)",
        )

    def test_unknown_versions_and_strangers_are_refused(self, saved):
        state = load_file(saved)
        rewrite(saved, state, version="3")
        refused(saved, "version: got 3, wanted 1 or 2")
        save_file(state, saved)
        refused(saved, "not a checkpoint of this project")

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ("{", "Expecting property name"),
            ("[1]", "must be a mapping"),
            ('{"colour": 1}', "unexpected keyword argument 'colour'"),
            ('{"skeleton": "coco"}', "skeleton: got 'coco'"),
            ('{"skeleton": []}', "unhashable"),
            (json.dumps(asdict(SETTINGS) | {"d_embedding": 96.0}), "d_embedding: got 96.0, wanted a whole number"),
            (json.dumps(asdict(SETTINGS) | {"d_embedding": 32 * 10**9}), "wrong shape|invalid settings"),
            (json.dumps(asdict(SETTINGS) | {"base_channels": 8 * 10**5}), "wrong shape|invalid settings"),
            ("[" * 100000, "recursion"),
        ],
        ids=["cut", "list", "unknown", "value", "unhashable", "float", "huge", "wide", "deep"],
    )
    def test_bad_settings_are_refused_without_building_them(self, saved, settings, message):
        rewrite(saved, load_file(saved), settings=settings)
        refused(saved, message)

    def test_no_settings(self, saved):
        save_file(load_file(saved), saved, {"format": "hvs", "version": "1"})
        refused(saved, "its header has no 'settings'")

    def test_extra_of_another_kind(self, saved):
        rewrite(saved, load_file(saved), extra="[]")
        refused(saved, "its extra is not a JSON object")

    @pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, 5000, 0.5, -1], ids=str)
    def test_truncated_files(self, saved, keep):
        data = saved.read_bytes()
        saved.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
        refused(saved, "not a readable checkpoint")

    def test_missing_files_and_folders(self, tmp_path):
        refused(tmp_path / "none.safetensors", "no such file")
        refused(tmp_path, "a folder, wanted a file")


def rewrite(path, state, **changes):
    metadata = {"format": "hvs", "version": "1", "settings": json.dumps(asdict(SETTINGS)), "extra": "{}"}
    save_file(state, path, metadata | changes)


class TestVersions:
    """What an older reader would misread has a higher version; all else stays readable for it."""

    def version(self, path):
        with safe_open(path, "pt") as file:
            return file.metadata()["version"], json.loads(file.metadata()["settings"])

    def test_a_plain_model_is_written_as_before(self, saved):
        version, settings = self.version(saved)
        assert version == "1" and not {"joints", "limbs"} & set(settings)

    def test_a_skeleton_of_its_own(self, tmp_path):
        model = HumanViewSynthesis(replace(SETTINGS, limbs=((0, 1, 0.1), (1, 2, 0.2))))
        save_model(tmp_path / "a.safetensors", model)
        assert self.version(tmp_path / "a.safetensors")[0] == "2"
        loaded = load(tmp_path / "a.safetensors")
        assert loaded.settings == model.settings and loaded.skeleton == model.skeleton
        assert loaded.skeleton.widths == (0.1, 0.2)

    def test_a_discriminator(self, model, tmp_path):
        torch.manual_seed(2)
        wanted = Discriminator()
        save_model(tmp_path / "a.safetensors", model, discriminator=wanted)
        assert self.version(tmp_path / "a.safetensors")[0] == "2"
        assert load(tmp_path / "a.safetensors").settings == SETTINGS
        found = load_discriminator(tmp_path / "a.safetensors").state_dict()
        assert all(torch.equal(value, found[name]) for name, value in wanted.state_dict().items())

    def test_all_is_on_the_cpu_whatever_is_the_default(self, model, tmp_path):
        save_model(tmp_path / "a.safetensors", model, discriminator=Discriminator())
        with torch.device("meta"):
            found = load(tmp_path / "a.safetensors"), load_discriminator(tmp_path / "a.safetensors")
        assert {value.device.type for module in found for value in module.state_dict().values()} == {"cpu"}

    def test_no_discriminator(self, saved):
        assert load_discriminator(saved) is None

    def test_a_faulty_discriminator_is_no_fault_of_the_model(self, saved):
        rewrite(saved, load_file(saved) | {"discriminator.stem.bias": torch.zeros(2)}, version="2")
        load(saved)
        with pytest.raises(CheckpointError, match=r"missing discriminator\.stem\.weight, .*got \(2,\), wanted \(32,\)"):
            load_discriminator(saved)


def test_settings_that_hold_themselves(tmp_path):
    endless = {}
    endless["self"] = endless
    torch.save(dict(state_dict={}, hyper_parameters=endless), tmp_path / "endless.ckpt")
    refused(tmp_path / "endless.ckpt", "nested")


def test_entries_of_another_kind_are_named(saved):
    state = load_file(saved)
    state["lifter.head.bias"] = state["lifter.head.bias"].long()
    rewrite(saved, state)
    refused(saved, r"wrong type lifter\.head\.bias: got torch\.int64, wanted torch\.float32")


def test_an_error_is_one_line_whatever_the_file_says(saved):
    rewrite(saved, load_file(saved) | {"a\nb\x1b[31m": torch.zeros(1)})
    refused(saved, r"unexpected a b\?\[31m$")


def test_a_wrapped_model_is_refused_before_its_file_is_written(model, tmp_path):
    """Its entries have other names, and nobody could load them."""
    path = tmp_path / "model.safetensors"
    part, other = copy.deepcopy(model), copy.deepcopy(model)
    part.decoder = torch.compile(part.decoder)
    other.lifter.head = torch.nn.Linear(64, 30)
    faults = {
        torch.compile(model): "got OptimizedModule, wanted HumanViewSynthesis",
        torch.nn.DataParallel(model): "got DataParallel, wanted HumanViewSynthesis",
        part: "got other entries .*_orig_mod",
        other: "got other entries .*lifter.head.weight",
    }
    for wrapped, fault in faults.items():
        with pytest.raises(ValueError, match=f"^model: {fault}.* neither compiled nor distributed"):
            save_model(path, wrapped)
    with pytest.raises(ValueError, match="^discriminator: got DataParallel, wanted Discriminator"):
        save_model(path, model, discriminator=torch.nn.DataParallel(Discriminator()))
    with pytest.raises(ValueError, match="^extra: got list, wanted a dict"):
        save_model(path, model, extra=[1])
    assert not list(tmp_path.iterdir())


def test_weights_may_share_memory(model, tmp_path):
    path = tmp_path / "model.safetensors"
    first, second = (block[0][0] for block in list(model.lifter.blocks)[:2])
    second.weight = first.weight
    save_model(path, model)
    found = load(path).state_dict()
    assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())
