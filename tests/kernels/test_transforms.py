import pytest
import torch
from torch.autograd import forward_ad

from hvs.kernels.transforms import refuse_batches, refuse_transforms


def test_plain_tensors_pass():
    for tensor in (torch.ones(2), torch.ones(2, requires_grad=True)):
        refuse_transforms("means", tensor)
        refuse_batches(tensor)


def test_transforms_are_refused():
    for transform in (torch.func.vmap, torch.func.grad, torch.func.jacfwd):
        with pytest.raises(ValueError, match="means: is "):
            transform(lambda means: (refuse_transforms("means", means), means.sum())[1])(torch.ones(2))
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(torch.ones(2), torch.ones(2))
        with pytest.raises(ValueError, match="means: is to be differentiated .* in forward mode"):
            refuse_transforms("means", dual)


def test_batches_of_gradients_are_refused():
    with pytest.raises(RuntimeError, match="got batched gradients"):
        torch.func.vmap(lambda gradient: (refuse_batches(gradient), gradient)[1])(torch.ones(2, 3))
