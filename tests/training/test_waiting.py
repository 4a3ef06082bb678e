"""A step never waits for the device.

Without a GPU: what the forward pass does to tensors that have a GPU's device and no data, and what a whole step does on
the CPU. On a GPU both kinds of fault stop the host until all that was launched is done.
"""

from contextlib import ExitStack
from unittest.mock import patch

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.pairs import make_pairs
from hvs.data.recolouring import draw_colours, recolour
from hvs.geometry import Camera
from hvs.geometry.skeletons import PANOPTIC
from hvs.kernels import backends
from hvs.losses import AdaptiveAugmentation
from hvs.models import Discriminator, HumanViewSynthesis, ModelSettings, synthesis
from hvs.training.objectives import Critic, SynthesisObjective, total
from hvs.training.stepper import Stepper

SETTINGS = ModelSettings(
    d_embedding=128,
    input_resolution=32,
    rendering_resolution=32,
    target_resolution=64,
    base_channels=8,
    encoder_depth=18,
)
READERS = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "unique")
COPIES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}


class NeverWait(TorchDispatchMode):
    """Raises where the host would read a value of the device, or wait until one of its own is there."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        flags = [leaf for leaf in tree_leaves(args[1:]) if isinstance(leaf, torch.Tensor) and leaf.dtype is torch.bool]
        by_flags = function._schema.name in ("aten::index", "aten::index_put", "aten::index_put_") and flags
        if by_flags or any(name in function._schema.name for name in READERS):
            raise AssertionError(f"{function} waits")
        result = function(*args, **kwargs)
        if function in COPIES and not kwargs.get("non_blocking"):
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
            assert len({tensor.device for tensor in tensors}) == 1, f"{function} between devices waits"
        return result


@pytest.fixture
def batch():
    return make_pairs(2, 32, 64)


@pytest.fixture
def gpu():
    """Tensors of a GPU that is not there: they have shapes and no data."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(backends, "_find_obstacle", lambda device: ""))
        yield stack.enter_context(FakeTensorMode())


def test_detector(gpu):
    tensor = torch.ones(3, device="cuda")
    for wait in (
        lambda: torch.tensor([1.0, 2.0], device="cuda"),
        lambda: tensor.new_tensor([1.0]),
        lambda: tensor.sum().item(),
        lambda: bool(tensor.any()),
        lambda: tensor.nonzero(),
        lambda: tensor[tensor > 0],
        lambda: tensor.cpu(),
    ):
        with pytest.raises(AssertionError, match="waits"), NeverWait():
            wait()
    with NeverWait():
        torch.ones(3).to("cuda", non_blocking=True)
        torch.where(tensor > 0, tensor, 0) + 1


def to_gpu(batch, gpu):
    def move(value):
        if isinstance(value, Camera):
            return value._map(move)
        return gpu.from_tensor(value).to("cuda")

    return {name: move(value) for name, value in batch.items()}


def test_other_colours(batch, gpu):
    batch = to_gpu(batch, gpu)
    batch |= {f"mask_{side}": torch.ones_like(batch[f"image_{side}"][:, :1]) for side in ("a", "b")}
    maps = draw_colours(2, 0.5, seed=0, step=0)
    # What is copied once is kept.
    recolour(batch, maps, PANOPTIC)
    with NeverWait():
        recolour(batch, maps, PANOPTIC)
    assert batch["image_a"].device.type == batch["image_b"].device.type == "cuda"


def test_forward_passes(batch, gpu):
    with torch.device("cuda"):
        critic = Critic(Discriminator(), AdaptiveAugmentation())
        objective = SynthesisObjective(HumanViewSynthesis(SETTINGS), True, critic=critic)
    batch = to_gpu(batch, gpu)
    # What is copied once is kept.
    objective(batch)
    with NeverWait():
        losses, found = objective(batch)
        judged = critic(found["image"], batch["image_b"], penalise=False)
    assert all(value.device.type == "cuda" for value in (*losses.values(), *judged.values(), found["latent"]))


@pytest.mark.parametrize("scaled", [False, True])
def test_steps(batch, scaled):
    torch.manual_seed(0)
    critic = Critic(Discriminator(), AdaptiveAugmentation())
    model = HumanViewSynthesis(SETTINGS)
    objective = SynthesisObjective(model, True, critic=critic)
    steppers = [
        Stepper(
            name, torch.optim.AdamW(part.parameters(), 1e-3, amsgrad=True, fused=True), clip_norm=1.0, scaled=scaled
        )
        for name, part in (("synthesis", model), ("discriminator", critic))
    ]

    def mean_feature(means, rotations, scales, features, background, rays, **_):
        """In place of the rasteriser, which looks at values on the CPU, and has a test of its own on a GPU."""
        latent = (features.mean(1) + means.mean((1, 2))[:, None])[..., None, None]
        return latent.expand(-1, -1, *rays.shape[1:3]) * rays.mean(-1)[:, None]

    with patch.object(synthesis, "rasterize", mean_feature), NeverWait():
        for step in range(2):
            losses, found = objective(batch)
            steppers[0].backward(total(losses))
            steppers[0].step(step, losses)
            judged = critic(found["image"], batch["image_b"], penalise=True)
            steppers[1].backward(total(judged))
            steppers[1].step(step, judged)
    assert [stepper.check() for stepper in steppers] == [0, 0]
