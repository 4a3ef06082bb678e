import csv
import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from hvs import HumanViewSynthesis, metrics
from hvs.checkpoint import CheckpointError, save_model
from hvs.data import DataError, PairDataset, collate, even_subset
from hvs.data.stores import Store, write_store
from hvs.evaluation import evaluate as evaluate_model
from hvs.inference import scoring
from hvs.inference.scoring import Evaluate, evaluate
from hvs.presets import PRESETS
from hvs.runtime import UserError
from tests.captures import Capture
from tests.training.test_distribute import launch

pytestmark = pytest.mark.usefixtures("quick")

FILES = {"evaluation.csv", "evaluation.json", "worst.png", "worst_poses.png"}


@pytest.fixture
def settings(tmp_path, capture):
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    save_model(path, HumanViewSynthesis(PRESETS["tiny"].model), dict(root=str(capture.root)))
    return Evaluate(checkpoint=path, out=tmp_path / "out", device="cpu", pairs=10, worst=2)


def read(settings):
    with open(settings.out / "evaluation.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return rows, json.loads((settings.out / "evaluation.json").read_text())


def spoil(capture, view, frames):
    store = capture.databases() / f"Images/{view}.lmdb"
    items = [(frame, Store(store)[frame]) for frame in capture.frames]
    write_store(store, [(frame, data[: len(data) // 2] if frame in frames else data) for frame, data in items])


def test_scores_are_those_at_the_end_of_a_training(settings, capture, capsys):
    with pytest.warns(UserWarning, match="LPIPS needs alexnet"):
        evaluate(settings)
    printed = capsys.readouterr()
    rows, found = read(settings)
    model = scoring.Studio(settings).model
    for subjects in ("known", "unknown"):
        dataset = PairDataset(capture.root, "test", subjects, 32, 32, same_view=False)
        chosen = even_subset(dataset, settings.pairs)
        wanted = evaluate_model(model, DataLoader(chosen, settings.batch_size, collate_fn=collate))
        assert found[subjects] == {"pairs": 10} | wanted
        names = [f"{row['sequence']}/{row['frame']}/{row['source']}-{row['target']}" for row in rows]
        assert {item["name"] for item in chosen} <= set(names)
    assert len(rows) == found["all"]["pairs"] == 20 and found["faults"] == [] and found["skipped"] == 0
    assert set(found["sequences"]) == set(capture.names) and found["split"] == "test"
    assert found["checkpoint"] == str(settings.checkpoint) and found["root"] == str(capture.root)
    mean = sum(float(row["psnr"]) for row in rows) / 20
    assert found["all"]["psnr"] == pytest.approx(mean, rel=1e-5)
    assert {path.name for path in settings.out.iterdir()} == FILES
    assert f"{capture.names[1]} *" in printed.out and "worst_poses.png" in printed.out
    assert "20/20" in printed.err


def test_the_worst_are_drawn_in_rows_with_a_label(settings):
    evaluate(settings)
    with Image.open(settings.out / "worst.png") as two:
        assert 7 * 96 < two.width < 8 * 96 and two.height > 2 * 96 + 3 * 18
    evaluate(replace(settings, worst=0, out=settings.out / "none"))
    assert {path.name for path in (settings.out / "none").iterdir()} == {"evaluation.csv", "evaluation.json"}


def test_pictures_of_an_earlier_evaluation_do_not_stay(settings, monkeypatch):
    """Not even if the new ones cannot be drawn."""
    evaluate(settings)
    (settings.out / "notes.txt").touch()
    evaluate(replace(settings, worst=0, pairs=1))
    assert {path.name for path in settings.out.iterdir()} == {"evaluation.csv", "evaluation.json", "notes.txt"}
    evaluate(settings)
    monkeypatch.setattr(scoring, "draw_worst", lambda *_: None)
    evaluate(replace(settings, pairs=1))
    assert {path.name for path in settings.out.iterdir()} == {"evaluation.csv", "evaluation.json", "notes.txt"}


def test_appearances_are_refined_when_asked_for(settings):
    evaluate(settings)
    before = read(settings)[1]
    evaluate(replace(settings, refine_steps=2))
    after = read(settings)[1]
    assert (before["refine_steps"], after["refine_steps"]) == (0, 2)
    assert after["all"]["mpjpe_mm"] == before["all"]["mpjpe_mm"] and after["all"]["psnr"] != before["all"]["psnr"]


@pytest.mark.parametrize(("subjects", "counts"), [("known", {"known": 12}), ("all", {"known": 12, "unknown": 48})])
def test_every_pair_is_scored_once(settings, subjects, counts):
    evaluate(replace(settings, pairs=0, subjects=subjects, worst=0, batch_size=7))
    rows, found = read(settings)
    assert {name: found[name]["pairs"] for name in ("known", "unknown") if name in found} == counts
    pairs = {(row["sequence"], row["frame"], row["source"], row["target"]) for row in rows}
    assert len(pairs) == len(rows) == sum(counts.values()) and all(source != target for *_, source, target in pairs)


def test_nobody_of_a_group_in_a_split_is_no_fault(settings, capsys):
    evaluate(replace(settings, split="val", worst=0))
    assert "note: left out unknown subjects: " in (told := capsys.readouterr().err) and "split 'val' is in all" in told
    _, found = read(settings)
    assert found["all"] == found["known"] and "unknown" not in found
    with pytest.raises(DataError, match="no frame of split 'val' is in all of"):
        evaluate(replace(settings, split="val", subjects="unknown"))


def test_what_cannot_be_read_is_passed_over_and_counted(settings, capture, capsys):
    spoil(capture, "01", [6])
    capture.write_keypoints(capture.names[0], 2, lambda view, frame: capture.keypoint_label(view, frame) - 1e4)
    evaluate(replace(settings, pairs=0, subjects="known"))
    rows, found = read(settings)
    # Of frame 6 nothing is left, of frame 7 the pair of the two views that see somebody. Nothing is counted twice.
    assert [(row["frame"], row["source"], row["target"]) for row in rows] == [("7", "00", "01"), ("7", "01", "00")]
    assert found["known"]["pairs"] == 2
    assert (found["skipped"], found["unreadable"], len(found["faults"])) == (6, 4, 1)
    assert "Images/01.lmdb: frame 6: a damaged picture" in found["faults"][0]
    told = capsys.readouterr().err
    assert "skipped 6 pairs without a person in both images" in told and "skipped 4 pairs with broken files" in told


def test_scores_are_written_before_the_worst_are_drawn(settings, capsys, monkeypatch):
    asked = []

    def fail(model, batch, widest, labels, *how):
        asked.append(how)
        raise MemoryError

    monkeypatch.setattr(scoring, "draw_pairs", fail)
    with pytest.raises(MemoryError):
        evaluate(replace(settings, batch_size=3, precision="bf16", refine_steps=1))
    assert len(read(settings)[0]) == 20 and "means over pairs" in capsys.readouterr().out
    assert asked == [(1, torch.bfloat16, 3)]


def test_scores_are_written_though_nobody_reads_the_table(settings, monkeypatch):
    def nobody_reads(*_, file=None):
        if file is None:
            raise BrokenPipeError

    monkeypatch.setattr("builtins.print", nobody_reads)
    with pytest.raises(BrokenPipeError):
        evaluate(replace(settings, pairs=2))
    assert len(read(settings)[0]) == 4


def test_a_folder_in_the_place_of_a_file_is_told_before_the_work(settings, monkeypatch):
    monkeypatch.setattr(scoring, "score_pairs", lambda *_: pytest.fail("began to score"))
    (settings.out / "worst.png").mkdir(parents=True)
    with pytest.raises(UserError, match="worst.png: is a folder"):
        evaluate(settings)
    monkeypatch.undo()
    evaluate(replace(settings, worst=0, pairs=1))


def test_a_group_without_pairs_of_views_is_left_out(settings, capture, capsys):
    for view in (1, 2):
        capture.write_view(capture.names[1], view, frames=[])
    evaluate(replace(settings, worst=0))
    assert set(read(settings)[1]) & {"known", "unknown"} == {"known"}
    assert "note: left out unknown subjects: " in (told := capsys.readouterr().err) and "has two views in" in told
    with pytest.raises(DataError, match="has two views in"):
        evaluate(replace(settings, subjects="unknown"))
    for view in (1, 2):
        capture.write_view(capture.names[0], view, frames=[])
    with pytest.raises(UserError, match="no pairs of views in split 'test' of any subjects"):
        evaluate(settings)


def test_lpips_is_among_the_scores_where_its_weights_are(settings, monkeypatch, capsys):
    class Distance(torch.nn.Module):
        def forward(self, one, two):
            return (one - two).abs().mean((1, 2, 3))

    monkeypatch.setattr(metrics, "lpips_alex", Distance)
    evaluate(settings)
    assert read(settings)[1]["all"]["lpips"] > 0 and " LPIPS " in capsys.readouterr().out

    def broken():
        raise ValueError("alexnet.pth: not torchvision's")

    monkeypatch.setattr(metrics, "lpips_alex", broken)
    with pytest.raises(UserError, match="not torchvision's"):
        evaluate(settings)


def test_half_precision_is_near_the_full_one(settings):
    evaluate(settings)
    full = read(settings)[1]
    evaluate(replace(settings, precision="bf16"))
    half = read(settings)[1]
    assert half["precision"] == "bfloat16"
    full, half = full["all"], half["all"]
    assert half["mpjpe_mm"] == full["mpjpe_mm"]
    assert half["psnr"] != full["psnr"] and half["psnr"] == pytest.approx(full["psnr"], rel=0.02)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pairs": -1}, "pairs: got -1, wanted 0 or more"),
        ({"worst": -1}, "worst: got -1, wanted 0 or more"),
        ({"batch_size": 0}, "batch_size: got 0, wanted 1 or more"),
        ({"refine_steps": -1}, "refine_steps: got -1, wanted 0 or more"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_numbers_are_refused_at_once(wrong, message):
    with pytest.raises(UserError) as caught:
        Evaluate(**wrong)
    assert str(caught.value) == message


def test_what_is_missing_or_does_not_fit_is_named(settings, tmp_path, capture):
    (tmp_path / "file").touch()
    other = Capture(tmp_path / "other", "human36m", size=(50, 51)).write()
    for wrong, message in (
        ({"root": tmp_path / "nowhere"}, "nowhere: no such folder"),
        ({"root": other.root}, "is a human36m capture, but the model's skeleton is panoptic"),
        ({"checkpoint": tmp_path / "no.safetensors"}, "no.safetensors: no such file"),
        ({"out": tmp_path / "file"}, "file: not a folder that can be written to"),
        ({"device": "warp9"}, "device: got 'warp9'"),
    ):
        with pytest.raises((UserError, DataError, CheckpointError), match=message):
            evaluate(replace(settings, **wrong))
    for view in capture.views:
        spoil(capture, view, capture.frames)
    with pytest.raises(DataError, match="no pair of views can be read"):
        evaluate(replace(settings, subjects="known"))
    assert not list(settings.out.iterdir())


def test_two_processes_find_what_one_does(settings, capture):
    """The batches of either group are of eight pairs and of one."""
    options = ("evaluate", "--checkpoint", settings.checkpoint, "--device", "cpu", "--pairs", 9)
    done = launch("-m", "--", "tests.quick", "infer.py", *options, "--out", settings.out / "two")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("means over pairs") == 1 and done.stderr.count("note: LPIPS") == 1
    evaluate(replace(settings, pairs=9, worst=8, out=settings.out / "one"))
    for name in FILES:
        one, two = ((settings.out / folder / name).read_bytes() for folder in ("one", "two"))
        assert one == two, name


def test_an_error_is_told_once(settings, capture):
    for view in capture.views:
        store = capture.databases(capture.names[1]) / f"Images/{view}.lmdb"
        write_store(store, [(frame, b"broken") for frame in capture.frames])
    options = ("--checkpoint", settings.checkpoint, "--out", settings.out, "--subjects", "unknown")
    done = launch("-m", "--", "tests.quick", "infer.py", "evaluate", *options)
    assert done.returncode != 0 and done.stderr.count("error: ") == 1
    assert "error: no pair of views can be read" in done.stderr
    assert "exitcode  : 2" in done.stderr and not list(settings.out.iterdir())
