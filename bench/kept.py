"""`python -m bench.kept`: memory that the full-size networks keep for their backward pass. Needs no GPU.

Counted on tensors that have shapes but no data, so any size runs anywhere. Nothing is compiled; what a compiled step
keeps depends on the compiler.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from hvs.models import HumanViewSynthesis

from .baseline import as_the_original_is_built
from .timing import MIB
from .train_step import model_settings

BATCH = 8
WAYS = ("baseline, fp32", "fp32", "bf16", "bf16, sparing")


def kept_mib(call: Callable[[], Tensor], module: nn.Module) -> float:
    """MiB that a call keeps for its backward pass, except for the module's own weights and buffers."""
    # Storages are kept alive while they are counted, or a new one could take the id of one that is gone.
    own = [tensor.untyped_storage() for tensor in (*module.parameters(), *module.buffers())]
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[id(storage)] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        call()
    for storage in own:
        kept.pop(id(storage), None)
    return sum(storage.nbytes() for storage in kept.values()) / MIB


def count(resolution: int, way: str) -> tuple[float, float]:
    """MiB that the encoder and the decoder keep."""
    with FakeTensorMode():
        settings = model_settings(resolution)
        model = HumanViewSynthesis(settings)
        if "sparing" in way:
            model.decoder.save_memory()
        side = settings.rendering_resolution
        image = torch.empty(BATCH, 3, side, side)
        latent = torch.empty(BATCH, settings.appearance_features, side, side, requires_grad=True)
        appearance = torch.empty(BATCH, len(model.skeleton.edges), settings.appearance_features, requires_grad=True)
        built = as_the_original_is_built() if "baseline" in way else nullcontext()
        with built, torch.autocast("cpu", torch.bfloat16, enabled="bf16" in way):
            encoder = kept_mib(lambda: model.encode(image), model)
            return encoder, kept_mib(lambda: model.decoder(latent, appearance), model)


def rows() -> Iterator[str]:
    yield f"{'batch 8':10s}{'':20s}{'encoder MiB':>14s}{'decoder MiB':>14s}"
    for resolution in (256, 512):
        for way in WAYS:
            encoder, decoder = count(resolution, way)
            yield f"{resolution:<10d}{way:20s}{encoder:14.0f}{decoder:14.0f}"


def main() -> None:
    # There is nothing to set; an option is an error instead of being ignored.
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for row in rows():
        print(row, flush=True)


if __name__ == "__main__":
    main()
