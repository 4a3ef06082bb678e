"""python -m hvs.checkpoint, in this process and once each as a user runs it."""

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hvs.checkpoint import load, load_discriminator, read_contents, read_extra, save_model
from hvs.checkpoint_commands import convert, describe, main
from hvs.models import Discriminator, HumanViewSynthesis
from tests.originals import SETTINGS, lightning_content, original_model
from tests.test_original import adversarial, prefixed


def start(*arguments):
    command = [sys.executable, "-W", "error::RuntimeWarning", "-m", "hvs.checkpoint", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def run(monkeypatch, capsys):
    """The same without the seconds in which a process starts."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["checkpoint.py", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        said = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=said.out, stderr=said.err)

    return call


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A file of the original's adversarial training, with a skeleton of its own."""
    torch.manual_seed(0)
    limbs = ((0, 1, 0.25), (1, 2, 0.5), (2, 3, 0.125))
    content = lightning_content(original_model(limbs=limbs))
    content["state_dict"] |= prefixed(adversarial(Discriminator())) | {"lpips_metric.x": torch.zeros(1)}
    path = tmp_path_factory.mktemp("original") / "a.ckpt"
    torch.save(content, path)
    return path


def test_a_started_program_says_the_same(run, original, tmp_path):
    path = tmp_path / "a.ckpt"
    path.write_bytes(b"no checkpoint")
    for code, arguments in ((0, ("inspect", original)), (2, ("convert", path, tmp_path / "b"))):
        done, wanted = start(*arguments), run(*arguments)
        assert done.returncode == wanted.returncode == code
        assert (done.stdout, done.stderr) == (wanted.stdout, wanted.stderr)


def test_names_are_shown_in_any_language_and_without_control_characters(run, original, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("Müller \x1b[31m 人.ckpt")
    path.symlink_to(original)
    assert " Müller ?[31m 人.ckpt\n" in run("inspect", path).stdout


def test_convert_keeps_all_that_is_used(run, original, tmp_path):
    target = tmp_path / "b.safetensors"
    done = run("convert", original, target)
    assert (done.returncode, done.stderr) == (0, "") and str(target) in done.stdout
    a, b = load(original), load(target)
    assert a.settings == b.settings and a.skeleton == b.skeleton and a.settings.limbs[0] == (0, 1, 0.25)
    assert all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())
    a, b = load_discriminator(original).state_dict(), load_discriminator(target).state_dict()
    assert all(torch.equal(value, b[name]) for name, value in a.items())
    assert read_extra(original) == read_extra(target)
    # No file is written twice.
    before = target.read_bytes()
    again = run("convert", original, target)
    said = f"error: {target}: already exists; convert overwrites no file\n"
    assert (again.returncode, again.stderr) == (2, said)
    assert target.read_bytes() == before and list(tmp_path.iterdir()) == [target]


def test_convert_says_what_it_leaves_out(original, tmp_path, capsys):
    content = torch.load(original, weights_only=True)
    content["state_dict"]["discriminator.strange"] = torch.zeros(1)
    torch.save(content, tmp_path / "a.ckpt")
    convert(tmp_path / "a.ckpt", tmp_path / "b.safetensors")
    assert "note: the discriminator is left out: " in capsys.readouterr().err
    assert load_discriminator(tmp_path / "b.safetensors") is None


def test_inspect_of_the_original(run, original):
    done = run("inspect", original)
    assert (done.returncode, done.stderr) == (0, "")
    rows = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert rows["format"] == "of the original (Lightning)"
    assert rows["skeleton"] == "human36m, 17 joints, 3 limbs, limbs of its own"
    assert (rows["target_resolution"], rows["lr"], rows["epoch"], rows["global_step"]) == ("32", "0.002", "3", "8192")
    assert rows["discriminator"].startswith("28 entries, ")
    entries = sum(int(rows[part].split()[0]) for part in ("lifter", "encoder", "decoder"))
    assert entries == len(read_contents(original).state)
    assert "1 entries of lpips_metric" in done.stdout


def test_inspect_of_own_files(run, tmp_path):
    path = tmp_path / "a.safetensors"
    save_model(path, HumanViewSynthesis(SETTINGS), {"epoch": 7, "say": "a\x1b[2J\nb" + "c" * 1000})
    rows = dict(describe(path))
    assert rows["format"] == "hvs, version 1" and rows["discriminator"] == "none" and rows["epoch"] == 7
    done = run("inspect", path)
    assert done.returncode == 0 and "\x1b" not in done.stdout and max(map(len, done.stdout.splitlines())) <= 120
    save_model(path, HumanViewSynthesis(replace(SETTINGS, limbs=((0, 1, 0.1),))))
    assert dict(describe(path))["format"] == "hvs, version 2"


def test_inspect_of_a_lifter(original, tmp_path):
    content = torch.load(original, weights_only=True)
    state = {name.replace(".p2p", ""): value for name, value in content["state_dict"].items() if ".p2p." in name}
    hyper = {"joints": content["hyper_parameters"]["joints"], "d_embedding": 96, "lr": 1e-4}
    torch.save({"epoch": 5, "state_dict": state, "hyper_parameters": hyper}, tmp_path / "a.ckpt")
    rows = dict(describe(tmp_path / "a.ckpt"))
    assert rows["format"] == "of the original (Lightning), only a lifter"
    assert (rows["joints"], rows["d_embedding"], rows["lr"], rows["epoch"]) == (17, 96, 1e-4, 5)
    assert rows["lifter"].startswith("17 entries, ")


def deep():
    """A Lightning file whose hyper-parameters are nested more deeply than anybody's are."""
    hyper = []
    for _ in range(40):
        hyper = [hyper]
    file = io.BytesIO()
    torch.save({"state_dict": {}, "hyper_parameters": {"a": hyper}}, file)
    return file.getvalue()


@pytest.mark.parametrize("command", ["inspect", "convert"])
@pytest.mark.parametrize("content", [None, b"", b"no checkpoint", deep()], ids=["none", "empty", "text", "deep"])
def test_faults_are_one_line_and_exit_code_2(run, tmp_path, command, content):
    path = tmp_path / "a.ckpt"
    if content is not None:
        path.write_bytes(content)
    done = run(command, path, *([tmp_path / "b"] if command == "convert" else []))
    assert done.returncode == 2 and done.stderr.startswith(f"error: {path}: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "b").exists()
