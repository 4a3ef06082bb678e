"""Trainings in less time, for tests to which it matters that all parts are there and not what they learn.

python -m tests.quick train.py ...      such a training
python -m tests.quick infer.py ...      with a model that was made in one
"""

import runpy
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from unittest.mock import patch

from torch import nn
from torchvision.models import resnet

from hvs.training import finishing

# How many times as narrow, but for the 32 channels that are the fewest to be normalised. The last layers of a tiny
# model see a single pixel, in which every group needs several channels: of one alone it would leave nothing.
FACTOR, FEWEST = 4, 32


class NarrowResNet(resnet.ResNet):
    """A ResNet-18 of fewer channels; the usual one has four fifths of a tiny model's numbers."""

    def __init__(self, norm_layer, num_classes):
        super().__init__(resnet.BasicBlock, [2, 2, 2, 2], num_classes, norm_layer=norm_layer)
        self.fc = nn.Linear(self.inplanes, num_classes)

    def _make_layer(self, block, planes, *others, **options):
        return super()._make_layer(block, max(FEWEST, planes // FACTOR), *others, **options)


def narrow_encoders() -> AbstractContextManager[object]:
    """A context in which encoders of depth 18 are narrow, those of files too."""
    return patch.object(resnet, "resnet18", NarrowResNet)


@contextmanager
def quick_trainings() -> Iterator[None]:
    """A context, or a test's decorator, in which encoders are narrow and the people of a preview hardly refined."""
    with narrow_encoders(), patch.object(finishing, "REFINE_STEPS", 1):
        yield


if __name__ == "__main__":
    del sys.argv[0]
    with quick_trainings():
        runpy.run_path(sys.argv[0], run_name="__main__")
