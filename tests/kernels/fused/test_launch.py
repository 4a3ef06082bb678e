"""What launches have in common."""

import ast
import inspect

import torch

from hvs.kernels.fused import launch


def test_a_broadcast_batch_is_not_copied():
    rays = torch.randn(5, 7, 3)
    expanded = rays.expand(4, 5, 7, 3)
    assert launch._inner_contiguous(expanded).data_ptr() == rays.data_ptr()
    strided = torch.randn(4, 3, 5).mT
    assert launch._inner_contiguous(strided).is_contiguous()


def test_every_launch_asks_for_fused_products():
    """Triton will not fuse them of itself in every version."""
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(launch))) if isinstance(node, ast.Call)]
    launches = [ast.unparse(call) for call in calls if isinstance(call.func, ast.Subscript)]
    assert len(launches) == 12
    assert all("**FUSED" in call for call in launches)
    assert launch.FUSED["enable_fp_fusion"] is True
