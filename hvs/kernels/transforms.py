"""PyTorch's transforms under which the rasteriser has no derivatives; each is refused with one line."""

from torch import Tensor
from torch._C._functorch import is_batchedtensor, is_functorch_wrapped_tensor, is_legacy_batchedtensor
from torch.autograd import forward_ad


def refuse_transforms(name: str, tensor: Tensor) -> None:
    """Raise a ValueError if an argument is transformed by torch.func, or differentiated in forward mode."""
    if is_batchedtensor(tensor):
        raise ValueError(f"{name}: is batched by torch.func.vmap; give leading batch axes instead")
    # The backends have no forward-mode derivatives; PyTorch would silently take them to be zero.
    if is_functorch_wrapped_tensor(tensor) or forward_ad.unpack_dual(tensor).tangent is not None:
        wanted = "torch.autograd.grad, or backward()"
        raise ValueError(f"{name}: is to be differentiated by torch.func or in forward mode; wanted {wanted}")


def refuse_batches(gradient: Tensor) -> None:
    """Raise a RuntimeError if several gradients of one latent are asked for at once, as by ``is_grads_batched``."""
    if is_batchedtensor(gradient) or is_legacy_batchedtensor(gradient):
        raise RuntimeError('hvs.rasterize: got batched gradients, wanted one at a time, or the backend "torch"')
