import json
import sys
import warnings

import pytest

from bench import report


def row(name, **values):
    return dict(name=name, ms=1.0, floor_ms=0.5, ratio_to_floor=2.0, peak_mib=3.0, error=1e-6) | values


def test_there_is_a_line_per_row_that_says_what_was_not_run():
    rows = [row("both/b1/8x8/n1/c1/float32"), row("forward/b1/8x8/n1/c1/float32", dense_ms=7.0)]
    first, second = report.lines(rows).split("\n")
    assert len(report.header()) == len(first) == len(second)
    assert " - " in first and " 7 " in second


def test_series_vary_in_one_thing_only():
    names = ["b1/8x8/n1/c1", "b2/8x8/n1/c1", "b4/8x8/n1/c1", "b4/16x16/n1/c1", "b2/8x8/n9/c1"]
    rows = [report._parse(row(f"both/{name}/float32")) for name in names]
    assert [r["batch"] for r in report._along(rows, lambda r: r["batch"])["both"]] == [1, 2, 4]
    assert [r["height"] for r in report._along(rows, lambda r: r["height"])["both"]] == [8, 16]
    assert [r["count"] for r in report._along(rows, lambda r: r["count"])["both"]] == [1, 9]


def test_plots_of_what_was_written(tmp_path, monkeypatch):
    """Also when it holds no cloud, so that the first column of panels is empty."""
    results, plots = tmp_path / "rows.json", tmp_path / "plots.png"
    machine = dict(device="GPU", torch="2.11", date="2026-11-28", commit="0123456789abcdef")
    rows = [
        row(f"{operation}/b{batch}/8x8/n108/c1/float32")
        for operation in ("forward", "backward", "both")
        for batch in (1, 2)
    ]
    monkeypatch.setattr(sys, "argv", ["report", str(results), str(plots)])
    results.write_text(json.dumps(dict(machine=machine, rows=rows, failed={})))
    with warnings.catch_warnings():
        # Such as that of a legend without lines.
        warnings.simplefilter("error")
        report.main()
    assert plots.stat().st_size > 10_000
    results.write_text(json.dumps(dict(machine=machine, rows=[], failed={})))
    with pytest.raises(SystemExit, match=r"rows\.json: has no rows to plot"):
        report.main()
