import json
import pickle
import re
import sys
import types
import zipfile
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from hvs import checkpoint, skeletons
from hvs.checkpoint import CheckpointError, load, read_extra, save_model
from hvs.models import HumanViewSynthesis, ModelSettings

SETTINGS = ModelSettings(
    skeleton="human36m",
    d_embedding=96,
    input_resolution=32,
    rendering_resolution=16,
    target_resolution=32,
    appearance_features=4,
    base_channels=8,
    encoder_depth=18,
)


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
        rewrite(saved, state, version="2")
        refused(saved, "version: got 2, wanted 1")
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
            (json.dumps(asdict(SETTINGS) | {"d_embedding": 96.0}), "settings that make no model"),
            (json.dumps(asdict(SETTINGS) | {"d_embedding": 32 * 10**9}), "wrong shape|settings that make no model"),
            (json.dumps(asdict(SETTINGS) | {"base_channels": 8 * 10**5}), "wrong shape|settings that make no model"),
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

    @pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, 5000, 0.5, -1], ids=str)
    def test_truncated_files(self, saved, keep):
        data = saved.read_bytes()
        saved.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
        refused(saved, "not a readable checkpoint")

    def test_missing_files_and_folders(self, tmp_path):
        refused(tmp_path / "none.safetensors", "no such file")
        refused(tmp_path, "no such file")


def rewrite(path, state, **changes):
    metadata = {"format": "hvs", "version": "1", "settings": json.dumps(asdict(SETTINGS)), "extra": "{}"}
    save_file(state, path, metadata | changes)


# From the names here to those of the original, written down the other way round than in the package.
BACK = [
    (r"^lifter\.stem\.0\.", "p2p.layers.0.linear."),
    (r"^lifter\.stem\.1\.", "p2p.layers.0.norm."),
    (r"^lifter\.head\.", "p2p.layers.3."),
    (r"^encoder\.backbone\.conv1\.", "i2a.layers.0."),
    (r"^encoder\.backbone\.bn1\.", "i2a.layers.1."),
    (r"^encoder\.backbone\.fc\.", "i2a.layers.10."),
    (r"^decoder\.stem\.", "r2i.in_block."),
    (r"^decoder\.down\.", "r2i.down_blocks."),
    (r"^decoder\.middle\.", "r2i.mid_blocks."),
    (r"^decoder\.up\.(\d)\.", r"r2i.up_blocks.\1.0."),
    (r"^decoder\.merge\.(\d)\.", r"r2i.merge_blocks.\1.0."),
    (r"^decoder\.outer\.", "r2i.outer_blocks."),
    (r"^decoder\.to_rgb\.", "r2i.out_block.0."),
]


def original_name(name):
    name = re.sub(
        r"^lifter\.blocks\.(\d)\.(\d)\.(\d)\.",
        lambda m: f"p2p.layers.{int(m[1]) + 1}.layers.{m[2]}.{'linear' if m[3] == '0' else 'norm'}.",
        name,
    )
    name = re.sub(r"^encoder\.backbone\.layer(\d)\.", lambda m: f"i2a.layers.{int(m[1]) + 3}.", name)
    for pattern, replacement in BACK:
        name = re.sub(pattern, replacement, name)
    if name.startswith("r2i."):
        stem, _, last = name.rpartition(".")
        if stem.endswith(".style"):
            stem = stem.removesuffix("style") + "c.linear"
        elif stem.endswith(".moment"):
            stem = stem.removesuffix("moment") + "n.ema"
            last = {"mean_square": "average"}.get(last, last)
        else:
            stem += ".c"
        name = f"{stem}.{last}"
    return f"model.{name}"


@pytest.fixture(scope="module")
def lightning():
    """A model of the original's shape, and its checkpoint as Lightning 1.5 lays it out."""
    torch.manual_seed(0)
    model = HumanViewSynthesis(replace(SETTINGS, encoder_depth=50, resize="original"))
    state = {original_name(name): value for name, value in model.state_dict().items()}
    hyper = {name: getattr(SETTINGS, name) for name in asdict(SETTINGS) if name not in ("skeleton", "encoder_depth")}
    del hyper["resize"]
    hyper["joints"] = {name: index for index, name in enumerate(skeletons.HUMAN36M.joints)}
    hyper["widths"] = torch.tensor(skeletons.HUMAN36M.widths)
    content = {"epoch": 3, "state_dict": state, "hyper_parameters": hyper}
    return model, content


class TestLightning:
    def test_weights_and_settings_come_from_the_file(self, lightning, tmp_path, monkeypatch):
        model, content = lightning
        foreign = types.ModuleType("foreign")
        foreign.Callback = type("Callback", (), {"__module__": "foreign"})
        callback = foreign.Callback()
        callback.best_score = 1
        monkeypatch.setitem(sys.modules, "foreign", foreign)
        strangers = {"lpips_metric.lin.weight": torch.zeros(1), "discriminator.weight": torch.zeros(1)}
        content = content | {
            "state_dict": content["state_dict"] | strangers,
            "callbacks": {foreign.Callback: {"score": 1}, "extra": callback},
        }
        torch.save(content, tmp_path / "model.ckpt")
        monkeypatch.delitem(sys.modules, "foreign")
        allowed = torch.serialization.get_safe_globals()
        loaded = load(tmp_path / "model.ckpt")
        assert loaded.settings == model.settings
        for name, value in model.state_dict().items():
            torch.testing.assert_close(loaded.state_dict()[name], value, rtol=0, atol=0)
        assert "foreign" not in sys.modules
        assert torch.serialization.get_safe_globals() == allowed

    def test_entries_that_do_not_fit_are_named(self, lightning, tmp_path):
        _, content = lightning
        state = dict(content["state_dict"])
        state["model.r2i.attic.weight"] = state.pop("model.r2i.in_block.0.c.bias")
        state["model.p2p.layers.3.bias"] = torch.zeros(2)
        torch.save(content | {"state_dict": state}, tmp_path / "model.ckpt")
        refused(
            tmp_path / "model.ckpt",
            r"missing decoder\.stem\.0\.bias; unexpected r2i\.attic\.weight; "
            r"wrong shape lifter\.head\.bias: got \(2,\), wanted \(51,\)",
        )

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (dict(state_dict=None), "it has no state_dict"),
            (dict(hyper_parameters=[]), "it has no hyper_parameters"),
            (dict(hyper_parameters={"joints": {}}), "have no d_embedding, dropout"),
        ],
        ids=["no-state", "no-settings", "lifter"],
    )
    def test_other_files_are_refused(self, lightning, tmp_path, change, message):
        torch.save(lightning[1] | change, tmp_path / "model.ckpt")
        refused(tmp_path / "model.ckpt", message)

    @pytest.mark.parametrize(
        "change",
        [dict(joints={"a": 0}), dict(d_embedding="64"), dict(target_resolution=17)],
        ids=lambda c: next(iter(c)),
    )
    def test_bad_settings_are_refused(self, lightning, tmp_path, change):
        content = lightning[1] | {"hyper_parameters": lightning[1]["hyper_parameters"] | change}
        torch.save(content, tmp_path / "model.ckpt")
        refused(tmp_path / "model.ckpt", f"{next(iter(change))}: got|wrong type")

    @pytest.mark.parametrize(
        "function", ["os.system", "posix.system", "builtins.exec", "builtins.eval", "subprocess.Popen", "torch.load"]
    )
    def test_nothing_in_the_file_is_called(self, tmp_path, function):
        path, witness = tmp_path / "model.ckpt", tmp_path / "witness"
        module, _, name = function.rpartition(".")
        argument = f"open({str(witness)!r}, 'w')" if module == "builtins" else f"touch {witness}"
        call = b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(X" + len(argument).to_bytes(4, "little")
        call += argument.encode() + b"tR."
        torch.save({"state_dict": {}}, path)
        replace_pickle(path, call)
        refused(path, "not a")
        assert not witness.exists()

    @pytest.mark.parametrize("keep", [10, 1000, 0.5, -1], ids=str)
    def test_truncated_files(self, lightning, tmp_path, keep):
        path = tmp_path / "model.ckpt"
        torch.save({"state_dict": {"model.x": torch.zeros(1000)}, "hyper_parameters": {}}, path)
        data = path.read_bytes()
        path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
        refused(path, "not a readable")

    def test_a_zip_of_something_else(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "model.ckpt", "w") as file:
            file.writestr("readme.txt", "hello")
        refused(tmp_path / "model.ckpt", "not a readable PyTorch file")

    def test_a_plain_pickle(self, tmp_path):
        (tmp_path / "model.ckpt").write_bytes(pickle.dumps({"state_dict": {}}))
        refused(tmp_path / "model.ckpt", "not a readable checkpoint")


def replace_pickle(path, data):
    with zipfile.ZipFile(path) as file:
        entries = {entry.filename: file.read(entry) for entry in file.infolist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            file.writestr(name, data if name.endswith("data.pkl") else content)
