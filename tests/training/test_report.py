import base64
import io
import json
import math
import re
import tracemalloc
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from hvs.presets import PRESETS
from hvs.training.history import History
from hvs.training.report import LARGEST, TIMES, WIDEST, score_table, write_report

SCORES = {
    "psnr": 25.123,
    "psnr_foreground": 21.0,
    "psnr_foreground_background_baseline": 18.5,
    "psnr_foreground_copy_baseline": 16.25,
    "mpjpe_mm": 30.0,
    "seconds": 61.0,
}
VOID = {"meta", "img", "!doctype", "path"}


class Page(HTMLParser):
    """What is in a page: texts, tags with their attributes, rows of tables; its tags must match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts, self.rows = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)
            if self.rows and self.open[-1] in ("td", "th"):
                self.rows[-1].append(data)

    def pictures(self):
        found = []
        for tag, attributes in self.tags:
            if tag == "img":
                kind, _, data = attributes["src"].partition(";base64,")
                found.append((kind, Image.open(io.BytesIO(base64.b64decode(data)))))
        return found

    def titles(self):
        return [attributes["aria-label"] for tag, attributes in self.tags if tag == "svg"]


@pytest.fixture
def settings(tmp_path):
    return replace(PRESETS["tiny"], run=tmp_path / "<run>")


@pytest.fixture
def write(settings):
    settings.run.mkdir()

    def write(*entries, scores=None, device="cpu"):
        for entry in entries:
            History(settings.run).append(entry)
        path = write_report(settings.run, settings, torch.device(device), 61.0, scores)
        assert path == settings.run / "report.html"
        return Page(path.read_text())

    return write


def log(stage, step, **losses):
    return {
        "stage": stage,
        "step": step,
        "losses": losses,
        "rates": {"decoder": 0.01, "encoder": 0.001},
        "images_per_second": 5.0 + step,
        "left_out": 0,
        "faults": 0,
    }


def save(path, size=(70, 60), noise=False):
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8) if noise else 0
    (Image.fromarray(pixels) if noise else Image.new("RGB", size)).save(path)


def test_a_run_that_logged_nothing_has_none(settings):
    settings.run.mkdir()
    assert write_report(settings.run, settings, torch.device("cpu"), 0.0) is None
    assert list(settings.run.iterdir()) == []


def test_the_page_stands_alone(write, settings):
    save(settings.run / "preview.png")
    save(settings.run / "pictures/0000000.png")
    page = write(*(log("synthesis", step, pixel=1 / step) for step in range(1, 9)), scores=SCORES)
    assert not [tag for tag, attributes in page.tags if tag in ("script", "link", "iframe") or "onload" in attributes]
    sources = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert sources and all(source.startswith("data:") for source in sources)
    assert "<run>" in page.texts and "run" not in {tag for tag, _ in page.tags}
    assert [path.name for path in settings.run.iterdir() if path.name.startswith(".")] == []


def test_scores_stand_beside_their_baselines(write):
    unknown = SCORES | {"psnr": math.nan}
    rows = write(log("lifter", 1, pose=1.0), scores=SCORES | {"held_out_subjects": unknown}).rows
    assert rows[:6] == [
        ["held-out frames", "held-out subjects"],
        ["PSNR (dB)", "25.12", "–"],
        ["foreground PSNR (dB)", "21.00", "21.00"],
        ["of the constant background", "18.50", "18.50"],
        ["of the source image", "16.25", "16.25"],
        ["MPJPE (mm)", "30.00", "30.00"],
    ]


def test_a_run_without_others_has_one_column(write):
    assert write(log("lifter", 1, pose=1.0), scores=SCORES).rows[1] == ["PSNR (dB)", "25.12"]
    assert "held-out subjects" not in score_table(SCORES)
    assert score_table(SCORES).splitlines()[3].split() == ["of", "the", "constant", "background", "18.50"]


def test_a_run_that_was_stopped_says_how_far_it_came(write, settings):
    # Of another run, that was in this folder.
    save(settings.run / "preview.png")
    page = write(log("lifter", 1, pose=1.0), log("synthesis", 7, pixel=1.0))
    assert any("7 steps of the stage synthesis" in text for text in page.texts)
    assert "Scores on novel views" not in page.texts and page.pictures() == []


def test_every_value_has_a_chart_in_its_stage(write):
    entries = [log("lifter", step, pose=1 / step, total=1 / step) for step in (1, 2)]
    entries += [log("synthesis", 2, pixel=1.0, r1=2.0, total=3.0), log("synthesis", 4, pixel=0.5, total=0.7)]
    entries[-1] |= {"augmentation": 0.1, "left_out": 2}
    entries.append({"stage": "synthesis", "step": 4, "validation": {k: v for k, v in SCORES.items() if k != "seconds"}})
    page = write(*entries)
    assert page.titles() == [
        *("pose", "total", "learning rates", "images per second"),
        *("pixel", "r1", "total"),
        *("validation: PSNR (dB)", "validation: foreground PSNR (dB)", "validation: MPJPE (mm)"),
        *("learning rates", "images per second", "left out", "augmentation"),
    ]
    assert [text for text in page.texts if text.startswith("Stage")] == ["Stage lifter", "Stage synthesis"]
    assert {"model", "background", "copy", "decoder", "encoder"} <= {text.strip() for text in page.texts}


def test_bad_values_do_not_break_it(write, settings):
    entries = [log("synthesis", step, pixel=math.nan if step % 2 else 1.0, pose=math.nan) for step in range(1, 9)]
    entries.append({"stage": "synthesis", "step": 9, "losses": None, "rates": {"decoder": "x"}, "left_out": [1]})
    # Half of a character, which JSON can spell and no page hold.
    entries.append({"stage": "\ud800", "step": 10, "losses": {"pixel": 1.0}})
    entries.append({"stage": "<i>", "step": 10, "losses": {"<b>": 1.0}})
    with open(settings.run / "history.jsonl", "w") as file:
        file.write('{"stage": "synthesis", "step": 0, "losses": {"pixel": NaN, "total": -Infinity}}\n{"stage": "syn')
        file.write("\n")
    page = write(*entries, scores=dict.fromkeys(SCORES, math.nan))
    assert page.titles() == ["pixel", "learning rates", "images per second", "pixel", "<b>"]
    text = (settings.run / "report.html").read_text()
    assert not re.search(r"\b(nan|inf|NaN|Infinity)\b", text)


def test_a_long_log_takes_no_more_memory_than_its_text(settings):
    """A run at full size logs hundreds of thousands of entries."""
    settings.run.mkdir()
    file = settings.run / "history.jsonl"
    with open(file, "w") as lines:
        for step in range(20_000):
            lines.write(json.dumps(log("synthesis", step, pixel=math.sin(step), lpips=0.1, total=1.0 + step)) + "\n")
    tracemalloc.start()
    try:
        write_report(settings.run, settings, torch.device("cpu"), 61.0)
        assert tracemalloc.get_traced_memory()[1] < file.stat().st_size
        tracemalloc.reset_peak()
        History(settings.run).cut("synthesis", 19_000)
        assert tracemalloc.get_traced_memory()[1] < file.stat().st_size / 10
    finally:
        tracemalloc.stop()
    assert sum(1 for _ in History(settings.run).read()) == 19_001


def test_pictures_over_time_are_a_few(write, settings):
    for step in range(0, 1000, 10):
        save(settings.run / f"pictures/{step:07d}.png", (step + 1, 10))
    save(settings.run / "pictures/other.png")
    (settings.run / "pictures/0000020.png").write_bytes(b"no picture")
    page = write(log("synthesis", 900, pixel=1.0))
    widths = [picture.width for _, picture in page.pictures()]
    # None of later steps than are logged: a resumed run will do them again.
    assert len(widths) == TIMES and widths[0] == 1 and widths[-1] == 901 and widths == sorted(widths)
    assert "before the training" in page.texts and "after 900 steps" in page.texts


def test_pictures_that_cannot_be_read_are_left_out(write, settings):
    (settings.run / "pictures").mkdir()
    (settings.run / "pictures/0000000.png").write_bytes(b"no picture")
    (settings.run / "pictures/0000001.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (settings.run / "preview.png").touch()
    assert write(log("synthesis", 9, pixel=1.0), scores=SCORES).pictures() == []


def test_large_pictures_are_made_smaller(write, settings):
    save(settings.run / "preview.png", (3 * WIDEST, 30))
    save(settings.run / "pictures/0000000.png", (800, 600), noise=True)
    save(settings.run / "pictures/0000001.png", (100, 60), noise=True)
    assert (settings.run / "pictures/0000000.png").stat().st_size > LARGEST
    page = write(log("synthesis", 9, pixel=1.0), scores=SCORES)
    assert [(kind, picture.size) for kind, picture in page.pictures()] == [
        ("data:image/jpeg", (WIDEST, 10)),
        ("data:image/jpeg", (800, 600)),
        ("data:image/png", (100, 60)),
    ]


def test_settings_that_were_changed_come_first(write, settings):
    page = write(log("lifter", 1, pose=1.0))
    names = [row[0] for row in page.rows]
    changed = dict(page.rows[: names.index("stages")])
    assert changed["synthesis.batch-size"] == "2" and changed["run"] == str(settings.run)
    rest = dict(page.rows[names.index("stages") :])
    assert rest["stages"] == "lifter synthesis" and rest["start-from"] == "–"
    assert rest["torch"] == torch.__version__ and rest["precision"] == "float32"


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (("synthesis", dict(pixel=1.0)), True),
        (("synthesis", dict(lpips=1.0)), False),
        (("lifter", dict(pose=1)), False),
    ],
    ids=str,
)
def test_a_loss_without_its_weights_is_told(write, settings, entry, told):
    assert settings.synthesis.image_loss == "lpips"
    stage, losses = entry
    page = write(log(stage, 1, **losses))
    assert any("the image loss was that of pixels alone" in text for text in page.texts) == told
