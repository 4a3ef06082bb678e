import csv
import io
import json

import pytest
import torch

from hvs.inference.scoresheet import Scoresheet

NAN = float("nan")


def make_sheet(**changes):
    """Two pairs of ann, who was trained on, and three of bob, who was not."""
    where = [("ann/0", 1, "00", "01"), ("ann/0", 2, "00", "01")]
    where += [("bob/0", 7, "02", target) for target in ("00", "01")] + [("bob/0", 8, "02", "00")]
    scores = {
        "psnr_foreground": torch.tensor([20.0, 22.0, 9.0, 10.0, NAN]),
        "mpjpe_mm": torch.tensor([30.0, 40.0, 90.0, 90.0, 50.0]),
    }
    return Scoresheet(**{"where": where, "unseen": [False] * 2 + [True] * 3, "scores": scores} | changes)


def test_means_of_sequences_groups_and_all():
    summary = make_sheet().summary()
    assert summary["known"] == summary["sequences"]["ann/0"] == {"pairs": 2, "psnr_foreground": 21.0, "mpjpe_mm": 35.0}
    assert summary["unknown"] == {"pairs": 3, "psnr_foreground": 9.5, "mpjpe_mm": pytest.approx(230 / 3)}
    assert summary["all"] == {"pairs": 5, "psnr_foreground": 15.25, "mpjpe_mm": 60.0}


def test_what_cannot_be_scored_is_null():
    sheet = make_sheet(scores={"psnr_foreground": torch.full((5,), NAN), "mpjpe_mm": torch.ones(5)})
    text = json.dumps(sheet.summary(), allow_nan=False)
    assert json.loads(text)["all"] == {"pairs": 5, "psnr_foreground": None, "mpjpe_mm": 1.0}
    assert "–" in sheet.table() and "nan" not in sheet.table() + sheet.csv()


def test_csv_has_a_line_for_every_pair():
    rows = list(csv.DictReader(io.StringIO(make_sheet().csv())))
    assert len(rows) == 5
    assert rows[3] == {
        "sequence": "bob/0",
        "frame": "7",
        "source": "02",
        "target": "01",
        "held_out_subject": "1",
        "psnr_foreground": "10",
        "mpjpe_mm": "90",
    }
    assert rows[0]["held_out_subject"] == "0" and rows[4]["psnr_foreground"] == ""


def test_the_worst_come_first():
    sheet = make_sheet()
    assert sheet.worst("psnr_foreground", 3) == [2, 3, 0]
    assert sheet.worst("psnr_foreground", 99) == [2, 3, 0, 1]
    assert sheet.worst("psnr_foreground", 0) == []
    # What a pose is seen from makes it no other pose.
    assert sheet.worst("mpjpe_mm", 3, entries=3) == [2, 4, 1]
    assert sheet.label(2) == "bob/0, frame 7, 02 to 00: person 9.0 dB, MPJPE 90 mm"
    twice = make_sheet(where=[("ann/0", 1, "00", "01")] * 5)
    assert twice.worst("psnr_foreground", 3) == [2]


def test_the_table_marks_who_was_never_trained_on():
    lines = make_sheet().table().splitlines()
    assert "PSNR (dB)" in lines[0] and "SSIM" not in lines[0] and "person   MPJPE" in lines[1]
    assert [line.split() for line in lines[2:4]] == [
        ["ann/0", "2", "21.00", "35.0"],
        ["bob/0", "*", "3", "9.50", "76.7"],
    ]
    assert [line.split()[0] for line in lines[5::2]] == ["known", "held-out", "all"] and not any(lines[4::2])
    alone = make_sheet(unseen=[False] * 5).table()
    assert "*" not in alone and [line.split()[0] for line in alone.splitlines()[5:]] == ["all"]


def test_baselines_stand_below_what_they_are_held_to():
    names = ["psnr", "psnr_foreground", "psnr_foreground_copy_baseline", "psnr_copy_baseline", "mpjpe_mm"]
    scores = {name: torch.full((5,), float(i)) for i, name in enumerate(names)}
    lines = [line.split() for line in make_sheet(scores=scores).table().splitlines()]
    assert lines[-2:] == [
        ["all", "5", "0.00", "1.00", "2.00", "4.0"],
        ["source", "image", "copied", "5", "3.00", "2.00"],
    ]


def test_the_table_fits_a_console():
    names = ["psnr", "psnr_foreground", "psnr_foreground_background_baseline", "psnr_foreground_copy_baseline"]
    names += ["ssim", "ssim_foreground", "lpips", "lpips_foreground", "mpjpe_mm", "n_mpjpe_mm", "p_mpjpe_mm"]
    where = [(f"{'a long name of a person and of ' * 2}sequence {i}", i, "00", "01") for i in range(5)]
    lines = make_sheet(where=where, scores={name: torch.full((5,), 99.999) for name in names}).table().splitlines()
    assert {len(line) for line in lines if line} == {119}
    assert lines[4].startswith("…") and "sequence 2 *" in lines[4] and lines[4].split()[-3:] == ["100.0"] * 3
    # Each column ends where its title does.
    assert lines[1].endswith(" MPJPE N-MPJPE P-MPJPE") and lines[1].split().count("whole") == 3
