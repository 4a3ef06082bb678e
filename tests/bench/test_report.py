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
