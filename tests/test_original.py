"""The original's checkpoints: all of them comes through that is a number or a plain value, and nothing runs."""

import json
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest
import torch

import hvs
from hvs import skeletons
from hvs.checkpoint import CheckpointError, load, load_discriminator, read_contents, read_extra
from hvs.models import Discriminator
from hvs.original import map_discriminator
from tests.originals import lightning_content, original_model, replace_pickle


@pytest.fixture(scope="module")
def lightning():
    """A model of the original's shape, and its checkpoint."""
    model = original_model()
    return model, lightning_content(model)


def refused(path, message, read=load):
    with pytest.raises(CheckpointError, match=message) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def weightless(content):
    """The checkpoint with one entry, for what is seen before any."""
    return content | {"state_dict": {"model.x": torch.zeros(1)}}


def save_with(path, content, **hyper):
    """The checkpoint with other hyper-parameters."""
    torch.save(content | {"hyper_parameters": content["hyper_parameters"] | hyper}, path)
    return path


def test_a_training_state_is_no_checkpoint(tmp_path):
    path = tmp_path / "synthesis-0000003.pt"
    torch.save(dict(stage="synthesis", step=3, seconds=1.0, settings="{}", parts={}, random=[]), path)
    refused(path, "a training state, which --resume reads; wanted the run's model.safetensors or best.safetensors")


def test_weights_and_settings_come_from_the_file(lightning, tmp_path, monkeypatch):
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


def test_another_default_device_is_not_where_it_is_loaded(lightning, tmp_path):
    torch.save(lightning[1], tmp_path / "model.ckpt")
    with torch.device("meta"):
        loaded = load(tmp_path / "model.ckpt")
    assert {value.device.type for value in loaded.state_dict().values()} == {"cpu"}


def test_entries_that_do_not_fit_are_named(lightning, tmp_path):
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
def test_other_files_are_refused(lightning, tmp_path, change, message):
    torch.save(lightning[1] | change, tmp_path / "model.ckpt")
    refused(tmp_path / "model.ckpt", message)


@pytest.mark.parametrize(
    "change",
    [dict(joints={"a": 0}), dict(d_embedding="64"), dict(target_resolution=17)],
    ids=lambda c: next(iter(c)),
)
def test_bad_settings_are_refused(lightning, tmp_path, change):
    refused(
        save_with(tmp_path / "model.ckpt", weightless(lightning[1]), **change), f"{next(iter(change))}: got|wrong type"
    )


@pytest.mark.parametrize(
    "function", ["os.system", "posix.system", "builtins.exec", "builtins.eval", "subprocess.Popen", "torch.load"]
)
def test_nothing_in_the_file_is_called(tmp_path, function):
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
def test_truncated_files(lightning, tmp_path, keep):
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": {"model.x": torch.zeros(1000)}, "hyper_parameters": {}}, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    refused(path, "not a readable")


def test_a_zip_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.ckpt", "w") as file:
        file.writestr("readme.txt", "hello")
    refused(tmp_path / "model.ckpt", "not a readable PyTorch file")


def test_a_plain_pickle(tmp_path):
    (tmp_path / "model.ckpt").write_bytes(pickle.dumps({"state_dict": {}}))
    refused(tmp_path / "model.ckpt", "not a readable checkpoint")


def test_the_published_skeleton_is_known_by_its_name(lightning, tmp_path):
    torch.save(lightning[1], tmp_path / "model.ckpt")
    settings = load(tmp_path / "model.ckpt").settings
    assert (settings.skeleton, settings.joints, settings.limbs) == ("human36m", None, None)


def test_widths_edges_and_names_come_from_the_file(lightning, tmp_path):
    published = skeletons.HUMAN36M
    widths = torch.tensor(published.widths).reshape(-1, 1, 1)
    widths[2] = 0.25
    edges = (published.edges[0][::-1], *published.edges[1:])
    joints = {f"{name}'": index for index, name in reversed(list(enumerate(published.joints)))}
    model = load(save_with(tmp_path / "a.ckpt", lightning[1], widths=widths, edges=edges, joints=joints))
    found = model.skeleton
    assert found.edges == edges and found.joints == tuple(f"{name}'" for name in published.joints)
    # The same decimals as the published ones, not what float32 makes of them.
    assert found.widths == (*published.widths[:2], 0.25, *published.widths[3:])
    assert (found.name, found.root, found.background) == ("human36m", published.root, published.background)
    points = torch.randn(1, 17, 3) + torch.tensor([0.0, 0.0, 3.0])
    camera = hvs.Camera(
        torch.tensor([[20.0, 0, 8], [0, 20.0, 8], [0, 0, 1]]), torch.eye(3), torch.zeros(3), torch.zeros(0), 32, 32
    )
    appearance = torch.randn(1, 16, 4)
    latent = model.rasterize(points, appearance, camera)
    thinner = load(save_with(tmp_path / "b.ckpt", lightning[1])).rasterize(points, appearance, camera)
    assert not torch.allclose(latent, thinner, rtol=1e-2)


def test_a_file_with_fewer_limbs_is_a_smaller_model(tmp_path):
    published = skeletons.HUMAN36M
    limbs = tuple((i, j, w) for (i, j), w in zip(published.edges[:9], published.widths, strict=False))
    model = original_model(limbs=limbs)
    torch.save(lightning_content(model), tmp_path / "a.ckpt")
    loaded = load(tmp_path / "a.ckpt")
    assert loaded.settings == model.settings and loaded.encode(torch.rand(1, 3, 32, 32)).shape == (1, 9, 4)
    joints = (*published.joints[1:], published.joints[0], "Hat")
    model = original_model(joints=joints, limbs=limbs)
    torch.save(lightning_content(model), tmp_path / "b.ckpt")
    loaded = load(tmp_path / "b.ckpt")
    assert loaded.settings == model.settings and loaded.skeleton.root == 16
    assert loaded.skeleton.parts == {"body": (0, 18)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(widths=torch.zeros(16, 1, 1)), "limbs: got .* wanted a positive width"),
        (dict(widths=torch.full((16,), float("nan"))), "limbs: got .* wanted a positive width"),
        (dict(widths=torch.ones(3)), "widths: got 3, wanted one for each of 16 edges"),
        (dict(widths="wide"), "a.ckpt: "),
        (dict(edges=((0, 17),) * 16), r"limbs: got \(0, 17, .* wanted two joints below 17"),
        (dict(edges=((0, -1),) * 16), r"limbs: got \(0, -1, "),
        (dict(edges=5), "wrong type"),
        (dict(joints={"a": 0, "b": 2}), "joints: got 2 names, but not the indices 0 to 1"),
        (dict(joints={"a": "b", "b": 2}), "wrong type"),
        (dict(joints={f"joint {i}": i for i in range(20)}), "joints: got 20 of them, wanted most of those of panoptic"),
        (dict(joints={7: 0}), r"joints: got \[7\], wanted a dict of names and indices"),
    ],
    ids=str,
)
def test_skeletons_that_are_none_are_refused(lightning, tmp_path, change, message):
    refused(save_with(tmp_path / "a.ckpt", weightless(lightning[1]), **change), message)


def test_what_shapes_no_model_is_extra(lightning, tmp_path):
    strange = {
        "hash": "0" * 40,
        "lr": 2e-3,
        "betas": (0.0, 0.99),
        "weights": torch.tensor([1.0, 2.0]),
        "nested": {"a": [1, None, True], 3: types.SimpleNamespace()},
        "big": torch.zeros(100, 101),
        "numpy": np.float64(0.5),
        "array": np.arange(3),
        "unknown": types.SimpleNamespace(a=1),
    }
    extra = read_extra(save_with(tmp_path / "a.ckpt", weightless(lightning[1]), **strange))
    assert json.loads(json.dumps(extra)) == extra
    assert extra == {
        "image_loss": "lpips",
        "lr": 0.002,
        "hash": "0" * 40,
        "betas": [0.0, 0.99],
        "weights": [1.0, 2.0],
        "nested": {"a": [1, None, True]},
        "numpy": 0.5,
        "array": [0, 1, 2],
        "epoch": 3,
        "global_step": 8192,
    }


# Names that a network of this shape might well have: by their shapes alone, only two layers are alike.
LAYERS = {
    "stem": "in_block.0.c",
    "head": "out_block.0.c",
    "first": "main.0.c",
    "second": "main.1.c",
    "shortcut": "skip.0.c",
}


def adversarial(discriminator, rename=LAYERS):
    entries = {}
    for name, value in discriminator.state_dict().items():
        *block, layer, part = name.split(".")
        entries[".".join([*block, rename[layer], part])] = value
    return entries


def prefixed(entries):
    return {f"discriminator.{name}": value for name, value in entries.items()}


class TestDiscriminator:
    @pytest.mark.parametrize("swap", [False, True])
    def test_it_is_kept_and_no_part_of_the_model(self, lightning, tmp_path, swap):
        torch.manual_seed(1)
        wanted = Discriminator()
        entries = adversarial(wanted)
        entries = dict(reversed(entries.items())) if swap else entries
        state = lightning[1]["state_dict"] | prefixed(entries) | {"metric.weight": torch.zeros(1)}
        torch.save(lightning[1] | {"state_dict": state}, tmp_path / "a.ckpt")
        assert load(tmp_path / "a.ckpt").settings == lightning[0].settings
        found = load_discriminator(tmp_path / "a.ckpt").state_dict()
        for name, value in wanted.state_dict().items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=0)
        assert read_contents(tmp_path / "a.ckpt").left_out == ["metric.weight"]

    def test_there_may_be_none(self, lightning, tmp_path):
        torch.save(lightning[1], tmp_path / "a.ckpt")
        assert load_discriminator(tmp_path / "a.ckpt") is None

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda e: e.pop("blocks.0.main.0.c.bias"), r"missing discriminator\.blocks\.0\.first\.bias"),
            (lambda e: e.pop("blocks.0.main.0.c.weight"), r"0 layers of shape \(32, 32, 3, 3\), wanted 1"),
            (lambda e: e.update({"ema": torch.zeros(1)}), "discriminator: unexpected ema"),
            (lambda e: e.update({"x.weight": torch.zeros(32, 3, 1, 1)}), r"2 layers \(in_block.0.c., x.\)"),
        ],
        ids=["bias", "weight", "stranger", "twice"],
    )
    def test_faults_are_named(self, lightning, tmp_path, change, message):
        entries = adversarial(Discriminator())
        change(entries)
        torch.save(lightning[1] | {"state_dict": prefixed(entries)}, tmp_path / "a.ckpt")
        refused(tmp_path / "a.ckpt", message, load_discriminator)

    def test_what_is_unknown_of_it_is_no_fault_of_the_model(self, lightning, tmp_path):
        state = lightning[1]["state_dict"] | {"discriminator.weight": torch.zeros(1)}
        torch.save(lightning[1] | {"state_dict": state}, tmp_path / "a.ckpt")
        load(tmp_path / "a.ckpt")

    def test_layers_that_cannot_be_told_apart_are_not_guessed(self):
        state = adversarial(Discriminator(), LAYERS | {"first": "upper", "second": "lower"})
        with pytest.raises(ValueError, match=r"cannot be told apart: blocks\.3\.upper\., blocks\.3\.lower\."):
            map_discriminator(state)


def test_a_lifter_alone_is_said_to_be_one(lightning, tmp_path):
    state = {name.replace(".p2p", ""): value for name, value in lightning[1]["state_dict"].items() if ".p2p." in name}
    hyper = {"d_embedding": 96, "joints": lightning[1]["hyper_parameters"]["joints"]}
    torch.save({"state_dict": state, "hyper_parameters": hyper}, tmp_path / "a.ckpt")
    refused(tmp_path / "a.ckpt", "only a lifter; train.py takes it as --synthesis.lifter-weights")
