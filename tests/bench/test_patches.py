"""How many groups of pixels the kernels look at."""

from bench.patches import table


def test_fewer_groups_the_closer_the_look():
    _, *rows = table(bodies=1, sampled=20, gaussians=500, side=64)
    assert [row[:12] for row in rows] == ["gradient 4×8"] * 2 + ["blend 8×8   "] * 2
    counts = [list(map(float, row[-41:].split()[-3:])) for row in rows]
    # Everything that counts is met, and little else.
    assert all(0 < needed <= met < of_tiles and met < 1.5 * needed for of_tiles, met, needed in counts)
