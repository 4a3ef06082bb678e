import torch
from torch import nn

from bench.kept import count, kept_mib


def test_what_is_kept_is_counted_once_and_weights_not_at_all():
    layer = nn.Linear(1024, 1024)
    x = torch.randn(512, 1024, requires_grad=True)
    # Both products need x, and the second one what came before it.
    assert kept_mib(lambda: layer(x) + layer(x), layer) == 2
    assert kept_mib(lambda: layer(layer(x)), layer) == 4
    with torch.no_grad():
        assert kept_mib(lambda: layer(x), layer) == 0


def test_sparing_keeps_less():
    found = {way: count(256, way)[1] for way in ("baseline, fp32", "bf16", "bf16, sparing")}
    assert found["bf16, sparing"] < 0.8 * found["bf16"] < 0.8 * found["baseline, fp32"]
