"""The Triton backend: fused kernels for everything that is done per pixel, forward and backward.

Forward, in the order of launch: `survey` (what rays a tile holds), `search` (the deepest response), `extents` (where a
Gaussian matters), `lists` (which Gaussians a tile meets), `blend` (the latent). Backward: `gradient` (sums over
pixels), `ray_gradient` (over Gaussians, if rays want one), `chain` (to the inputs). `launch` allocates and launches,
`ops` makes PyTorch operators of that.
"""
