import math
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from hvs import HumanViewSynthesis
from hvs.data import PairDataset, collate
from hvs.losses import WEIGHTS
from hvs.presets import PRESETS
from hvs.runtime import UserError
from hvs.training import monitor as module
from hvs.training.history import History
from hvs.training.monitor import MOST_PICTURES, Watch, clear_logs, count_bytes, modulations
from hvs.training.objectives import SynthesisObjective
from hvs.training.stepper import MOST_SKIPPED, Stepper
from tests.quick import narrow_encoders

CPU = torch.device("cpu")


def make_stepper(name="part"):
    layer = nn.Linear(2, 2)
    groups = [dict(params=[layer.weight], name="first", lr=0.5), dict(params=[layer.bias], lr=0.25)]
    return layer, Stepper(name, torch.optim.AdamW(groups, fused=True))


def train(folder, steps, log_every=2, stage="synthesis", fault=(), total=10):
    """Steps whose loss is their number of steps done, but not finite in some."""
    layer, stepper = make_stepper()
    with Watch(folder, stage, range(steps.start, total), log_every, 8, CPU) as watch:
        for step in watch:
            factor = math.nan if step in fault else 1.0
            loss = layer(torch.ones(1, 2)).sum() * 0 + torch.tensor((step + 1) * factor)
            stepper.backward(loss)
            stepper.step(step, {"pixel": loss}, ["a"])
            watch.add({"pixel": loss, "discriminator": loss}, skipped=torch.tensor(0.5))
            if watch.is_due(step):
                watch.log(step, [stepper], faults=3, augmentation=torch.tensor(0.25))
            if step + 1 == steps.stop:
                break


def losses(folder):
    return [(entry["step"], entry["losses"]["pixel"]) for entry in History(folder).read()]


def scalars(folder, stage="synthesis"):
    events = EventAccumulator(str(folder / "tensorboard" / stage)).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_shows_all_steps_though_the_clock_was_set_back(tmp_path, monkeypatch):
    for start, seconds in ((0, 2e9), (4, 1e9), (6, 1e9), (8, 3e9)):
        monkeypatch.setattr(time, "time", lambda now=seconds: now)
        train(tmp_path, range(start, start + 3), 1)
    assert scalars(tmp_path)["losses/pixel"] == losses(tmp_path)


def test_entries_are_means_since_the_last_one(tmp_path):
    # A stage of ten steps has an entry for every one; one of 35 for every third, and one at its end.
    train(tmp_path, range(35), 3, total=35)
    wanted = [(step, step - 1.0) for step in range(3, 34, 3)] + [(35, 34.5)]
    assert losses(tmp_path) == wanted
    entry = next(History(tmp_path).read())
    assert entry["stage"] == "synthesis" and entry["images_per_second"] > 0
    # The discriminator's own loss is no part of the total.
    assert entry["losses"] == {"pixel": 2.0, "discriminator": 2.0, "total": 20.0}
    assert entry["rates"] == {"first": 0.5, "part": 0.25}
    assert (entry["skipped"], entry["faults"], entry["augmentation"], entry["left_out"]) == (0.5, 3, 0.25, 0)
    found = scalars(tmp_path)
    assert found["losses/pixel"] == wanted and found["rates/first"][0] == (3, 0.5)
    assert found["run/faults"][0] == (3, 3.0) and {"run/images_per_second", "losses/total"} <= set(found)


def test_a_stage_of_few_steps_has_entries_all_the_same(tmp_path):
    train(tmp_path, range(10), 50)
    assert [step for step, _ in losses(tmp_path)] == list(range(1, 11))
    train(tmp_path, range(3), 50, stage="short", total=3)
    assert [step for step, _ in losses(tmp_path)][-3:] == [1, 2, 3]


def test_what_is_done_again_is_logged_once(tmp_path):
    train(tmp_path, range(4), 1, stage="lifter", total=4)
    train(tmp_path, range(7), 1)
    train(tmp_path, range(5, 10), 1)
    wanted = [(step, float(step)) for step in range(1, 11)]
    assert losses(tmp_path) == wanted[:4] + wanted
    assert scalars(tmp_path)["losses/pixel"] == wanted
    assert scalars(tmp_path, "lifter")["losses/pixel"] == wanted[:4]


def test_steps_left_out_are_told_and_counted(tmp_path, capsys):
    train(tmp_path, range(10), fault=(3, 4))
    entries = list(History(tmp_path).read())
    assert [entry["left_out"] for entry in entries] == [0, 0, 0, 1, 2, 2, 2, 2, 2, 2]
    assert entries[3]["losses"] == {"pixel": None, "discriminator": None, "total": None}
    assert capsys.readouterr().err.count("note: part: 1 steps were not finite and were skipped") == 2


def test_the_speed_is_that_of_the_steps(tmp_path, monkeypatch, capsys):
    """In the log and on the console; the time left includes what is done aside."""
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    _, stepper = make_stepper()
    with Watch(tmp_path, "synthesis", range(10), 1, 8, CPU) as watch:
        watch.add({"pixel": torch.ones(())})
        clock[0] += 2
        with watch.aside():
            clock[0] += 100
        watch.log(0, [stepper])
        clock[0] += 1
        watch.add({"pixel": torch.ones(())})
        watch.log(1, [stepper])
    assert [entry["images_per_second"] for entry in History(tmp_path).read()] == [4, 8]
    lines = [line.split()[-2:] for line in capsys.readouterr().out.splitlines()[1:]]
    assert lines == [["4.0", "15:18"], ["8.0", "0:08"]]


@pytest.mark.parametrize(("waits", "told"), [([9, 4, 2, 9], 1), ([9, 2, 2, 2], 0)])
def test_steps_that_wait_for_their_pictures_are_told_once(tmp_path, monkeypatch, capsys, waits, told):
    """Of ten seconds each. In the first steps, the processes that read ahead have only begun."""
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    _, stepper = make_stepper()

    def read():
        for step, seconds in enumerate(waits):
            clock[0] += seconds
            yield {"step": step}

    batches = read()
    with Watch(tmp_path, "synthesis", range(len(waits)), 1, 8, CPU) as watch:
        for step, seconds in enumerate(waits):
            assert watch.wait_for(batches) == {"step": step}
            clock[0] += 10 - seconds
            with watch.aside():
                clock[0] += 90
            watch.add({"pixel": torch.ones(())})
            watch.log(step, [stepper])
    shares = [entry["waiting_for_data"] for entry in History(tmp_path).read()]
    assert shares == pytest.approx([seconds / 10 for seconds in waits])
    assert scalars(tmp_path)["run/waiting_for_data"][1] == (2, pytest.approx(waits[1] / 10))
    assert capsys.readouterr().err.count("note: steps wait for pictures 40% of the time; more --data.workers") == told


def test_too_many_steps_left_out_end_the_training(tmp_path):
    most = MOST_SKIPPED + 2
    with pytest.raises(UserError, match=f"part: {most} of the last {most} steps were not finite"):
        train(tmp_path, range(10 * most), most, fault=range(10 * most), total=10 * most)


def test_lines_on_the_console_are_tenths_of_a_stage(tmp_path, capsys):
    train(tmp_path, range(200), 3, total=200)
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["synthesis", "step", "pixel", "critic", "total", "images/s", "left"]
    # At the first entry that reaches a tenth; the losses are means since the line before.
    assert [int(line.split()[0]) for line in lines] == [21, 42, 60, 81, 102, 120, 141, 162, 180, 200]
    assert [float(line.split()[1]) for line in lines[:2]] == [11.0, 32.0]
    assert lines[-1].split()[-1] == "0:00"


@pytest.mark.parametrize("terminal", [True, False])
def test_only_a_terminal_gets_a_bar_besides_the_table(tmp_path, capsys, monkeypatch, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    train(tmp_path, range(20), 3, total=20)
    out, err = capsys.readouterr()
    assert len(out.splitlines()) > 5
    assert ("synthesis:   0%" in err) is terminal and bool(err) is terminal


def test_scores_are_logged(tmp_path):
    with Watch(tmp_path, "synthesis", range(10), 2, 8, CPU) as watch:
        watch.log_scores(4, {})
        watch.log_scores(4, {"psnr": 20.0, "lpips": math.nan})
    (entry,) = History(tmp_path).read()
    assert entry == {"stage": "synthesis", "step": 4, "validation": {"psnr": 20.0, "lpips": None}}
    assert scalars(tmp_path)["validation/psnr"] == [(4, 20.0)]


@pytest.fixture
def model():
    torch.manual_seed(0)
    with narrow_encoders():
        return HumanViewSynthesis(PRESETS["tiny"].model)


@pytest.fixture
def pairs(capture):
    dataset = PairDataset(capture.root, "train", "known", 32, 32, same_view=False)
    return collate([dataset[0], dataset[5]])


def test_pictures_and_histograms_come_now_and_then(tmp_path, model, pairs):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    with Watch(tmp_path, "synthesis", range(45), 1, 8, CPU) as watch:
        for done in range(46):
            watch.show(done, model, pairs)
    wanted = [0, 10, 20, 30, 40, 45]
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [f"{step:07d}.png" for step in wanted]
    with Image.open(tmp_path / "pictures" / "0000045.png") as picture:
        assert picture.width > 7 * 96 and np.asarray(picture).std() > 10
    events = EventAccumulator(str(tmp_path / "tensorboard/synthesis"), {"images": 0, "histograms": 0}).Reload()
    assert [event.step for event in events.Images("pictures")] == wanted
    layers = [name for name, layer in model.decoder.named_modules() if hasattr(layer, "style")]
    assert set(events.Tags()["histograms"]) == {f"modulation/{name}" for name in layers} and len(layers) > 20
    # The training does not notice.
    assert model.training and torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_long_stages_do_not_have_more_pictures(tmp_path, model, pairs, monkeypatch):
    drawn = []
    monkeypatch.setattr(Watch, "_draw", lambda self, done, *_: drawn.append(done))
    for steps, log_every in ((819_200, 50), (1_000_001, 7), (50_000, 50)):
        with Watch(tmp_path, "synthesis", range(steps), log_every, 8, CPU) as watch:
            for done in range(0, steps + 1, log_every):
                watch.show(done, model, pairs)
            if steps % log_every:
                watch.show(steps, model, pairs)
        # The first and the last one come in any case.
        assert MOST_PICTURES / 2 <= len(drawn) <= MOST_PICTURES + 2 and drawn[0] == 0 and drawn[-1] == steps
        drawn.clear()


def test_a_model_gone_wrong_is_shown(tmp_path, model, pairs):
    for parameter in model.parameters():
        parameter.data.fill_(math.nan)
    with Watch(tmp_path, "synthesis", range(10), 1, 8, CPU) as watch:
        watch.show(0, model, pairs)
    assert (tmp_path / "pictures/0000000.png").exists()


def test_modulations_are_the_factors_of_the_decoder(model, pairs):
    seen = {}
    handles = [
        layer.style.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out.flatten()}))
        for name, layer in model.decoder.named_modules()
        if hasattr(layer, "style")
    ]
    model.train()
    model.lifter.eval()
    found = modulations(model, pairs)
    assert model.training and not model.lifter.training
    for handle in handles:
        handle.remove()
    assert found.keys() == seen.keys() and all(torch.equal(found[name], seen[name]) for name in found)


def test_nothing_is_compiled_for_a_picture(tmp_path, model, pairs):
    torch._dynamo.reset()
    # As the training does it.
    objective = SynthesisObjective(model, weigh_parts=False)
    objective.compile(backend="eager")
    # What would be compiled is refused, which takes no time.
    with torch.compiler.set_stance("fail_on_recompile"):
        with Watch(tmp_path, "synthesis", range(10), 1, 8, CPU) as watch:
            watch.show(0, model, pairs)
        with pytest.raises(RuntimeError, match="fail_on_recompile"):
            objective(pairs)


def test_a_single_loss_is_its_own_total(tmp_path):
    _, stepper = make_stepper()
    with Watch(tmp_path, "lifter", range(1), 1, 8, CPU) as watch:
        for step in watch:
            watch.add({"pose": torch.tensor(3.0)})
            watch.log(step, [stepper])
    assert next(History(tmp_path).read())["losses"] == {"pose": 3.0}


def test_what_it_writes_is_foreseen(tmp_path, model, pairs):
    """Of pictures that are much smaller than the largest, and a report to come, far less is used."""
    _, stepper = make_stepper()
    with Watch(tmp_path, "synthesis", range(40), 1, 8, CPU) as watch:
        watch.show(0, model, pairs)
        for step in watch:
            watch.add({name: torch.tensor(1.0) for name in WEIGHTS})
            watch.log(step, [stepper])
            watch.show(step + 1, model, pairs)
    used = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert used < count_bytes(40, 1) < 100 * used
    # However long it is.
    assert count_bytes(10**6, 50) < 2**29 and count_bytes(1, 50) >= 2**22


def test_pictures_that_a_killed_run_left_half_written_are_gone(tmp_path):
    left = tmp_path / "pictures/.1234.0000003.png"
    left.mkdir(parents=True)
    (left / "0000003.png").write_bytes(b"half")
    (tmp_path / "pictures/0000000.png").touch()
    with Watch(tmp_path, "synthesis", range(3), 1, 8, CPU):
        assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["0000000.png"]


def test_logs_that_nothing_continues_are_removed(tmp_path):
    """But nobody else's files."""
    kept = [tmp_path / name for name in ("pictures/0000001.png", "pictures/me.png", "tensorboard/mine.txt")]
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    clear_logs(tmp_path)
    assert all(path.exists() for path in kept)
    train(tmp_path, range(10))
    train(tmp_path, range(10), stage="lifter")
    clear_logs(tmp_path)
    assert [path for path in sorted(tmp_path.rglob("*")) if path.is_file()] == kept[1:]
