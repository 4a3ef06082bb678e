"""Weights of parts: lifters under every prefix, and ImageNet's encoder."""

import pickle
from dataclasses import replace

import pytest
import torch

from hvs import skeletons
from hvs.checkpoint import CheckpointError, save_model
from hvs.models import AppearanceEncoder, HumanViewSynthesis
from hvs.transfer import load_imagenet, load_lifter
from tests.originals import SETTINGS, original_name


def model(seed=0, **changes):
    torch.manual_seed(seed)
    return HumanViewSynthesis(replace(SETTINGS, **changes))


def lifter_state(source, prefix):
    names = {name: original_name(f"lifter.{name}").removeprefix("model.p2p.") for name in source.lifter.state_dict()}
    return {prefix + names[name]: value for name, value in source.lifter.state_dict().items()}


def same(a, b):
    return all(torch.equal(value, b[name]) for name, value in a.items())


def refused(load, target, path, message):
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(CheckpointError, match=message) as error:
        load(target, path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    assert same(target.state_dict(), before)


class TestLifter:
    def test_from_an_own_checkpoint(self, tmp_path):
        source, target = model(0), model(1)
        decoder = {name: value.clone() for name, value in target.decoder.state_dict().items()}
        save_model(tmp_path / "a.safetensors", source)
        load_lifter(target, tmp_path / "a.safetensors")
        assert same(target.lifter.state_dict(), source.lifter.state_dict())
        assert same(target.decoder.state_dict(), decoder)

    @pytest.mark.parametrize("prefix", ["model.p2p.", "model.", "p2p.", "", "a.b.layers.1."])
    @pytest.mark.parametrize("wrapped", [True, False], ids=["lightning", "bare"])
    def test_from_the_original_under_any_prefix(self, tmp_path, prefix, wrapped):
        source, target = model(0), model(1)
        state = lifter_state(source, prefix) | {"metric.layers.0.weight": torch.zeros(1)}
        hyper = {"joints": {name: index for index, name in enumerate(skeletons.HUMAN36M.joints)}}
        torch.save({"state_dict": state, "hyper_parameters": hyper} if wrapped else state, tmp_path / "a.ckpt")
        load_lifter(target, tmp_path / "a.ckpt")
        assert same(target.lifter.state_dict(), source.lifter.state_dict())

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                dict(skeleton="panoptic"),
                "a lifter of 117 joints and width 96, but the model's is of 17 joints",
            ),
            (dict(d_embedding=128), r"of 17 joints and width 128, .* see --model.skeleton and --model.d-embedding"),
            (dict(joints=skeletons.HUMAN36M.joints[::-1]), "other joints than the model's, or in another order"),
        ],
        ids=["skeleton", "width", "order"],
    )
    def test_another_lifter_is_refused(self, tmp_path, changes, message):
        save_model(tmp_path / "a.safetensors", model(0, **changes))
        refused(load_lifter, model(1), tmp_path / "a.safetensors", message)

    def test_faults_are_named(self, tmp_path):
        path, target = tmp_path / "a.ckpt", model(1)
        torch.save({"weight": torch.zeros(3)}, path)
        refused(load_lifter, target, path, "has no lifter, wanted the entries of one")
        torch.save(lifter_state(target, "a.") | lifter_state(target, "b."), path)
        refused(load_lifter, target, path, r"has several lifters \(a\., b\.\)")
        state = lifter_state(target, "")
        state["layers.0.norm.shift"] = state.pop("layers.0.norm.bias")
        torch.save(state, path)
        refused(load_lifter, target, path, r"missing stem\.1\.bias; unexpected stem\.1\.shift")
        torch.save([1, 2], path)
        refused(load_lifter, target, path, "holds a list, wanted a dict of weights")
        path.write_bytes(b"no weights")
        refused(load_lifter, target, path, "not a readable checkpoint")
        refused(load_lifter, target, tmp_path / "none.ckpt", "no such file")


class TestImagenet:
    @pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "wrapped"])
    @pytest.mark.parametrize("zipped", [False, True], ids=["legacy", "zip"])
    def test_everything_but_the_last_layer_is_taken(self, tmp_path, wrapped, zipped):
        source, target = AppearanceEncoder(2, 500, depth=18), AppearanceEncoder(3, 4, depth=18)
        state = source.backbone.state_dict()
        if wrapped:
            state = {"epoch": 1, "state_dict": {f"module.{name}": value for name, value in state.items()}}
        torch.save(state, tmp_path / "weights.pth", _use_new_zipfile_serialization=zipped)
        head = target.backbone.fc.weight.clone()
        load_imagenet(target, tmp_path / "weights.pth")
        for name, value in target.backbone.state_dict().items():
            if not name.startswith("fc."):
                torch.testing.assert_close(value, source.backbone.state_dict()[name], rtol=0, atol=0)
        torch.testing.assert_close(target.backbone.fc.weight, head, rtol=0, atol=0)

    def test_faults_are_named(self, tmp_path):
        path, target = tmp_path / "weights.pth", AppearanceEncoder(2, 2, depth=18)
        torch.save(AppearanceEncoder(2, 2, depth=34).backbone.state_dict(), path)
        refused(load_imagenet, target, path, r"unexpected layer1\.2\.conv1\.weight, ")
        state = dict(target.backbone.state_dict())
        state["conv1.weight"] = torch.zeros(3)
        state["bn1.weight"] = "text"
        state["bn1.bias"] = torch.zeros(64, dtype=torch.int64)
        state[7] = torch.zeros(1)
        torch.save(state, path)
        message = (
            r"unexpected 7; not a tensor bn1\.weight; wrong shape conv1\.weight: got \(3,\), wanted \(64, 3, 7, 7\); "
            r"wrong type bn1\.bias: got torch\.int64, wanted torch\.float32"
        )
        refused(load_imagenet, target, path, message)

    @pytest.mark.parametrize("content", [b"", b"not a file of torch", pickle.dumps({}), None], ids=str)
    def test_unreadable_files_are_named(self, tmp_path, content):
        path = tmp_path / "weights.pth"
        if content is not None:
            path.write_bytes(content)
        refused(load_imagenet, AppearanceEncoder(2, 2, depth=18), path, "no such file|not a readable PyTorch file")
