"""The Triton backend: fused kernels for everything that is done per pixel, forward and backward.

Forward, in the order of launch: `prepare` (values of each Gaussian, and where it may matter); `small` (bounds of each
tile's rays, the Gaussians that it meets, and the deepest response) or, in large scenes, `survey` and `search` (bounds
and deepest response), `extents` (where each Gaussian matters with the background's weight) and `lists` (the Gaussians
that each tile meets); `blend` (the latent). Backward: `gradient` (sums over pixels), `ray_gradient` (sums over
Gaussians, if the rays need a gradient), `chain` (gradients of the inputs). `launch` allocates memory and launches the
kernels, `ops` registers the PyTorch operators.
"""
