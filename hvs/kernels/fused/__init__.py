"""The Triton backend: fused kernels for everything that is done per pixel, forward and backward.

Forward, in the order of launch: `prepare` (values of each Gaussian), `survey` (bounds of each tile's rays, and the
deepest response), `search` (the deepest response in large scenes), `extents` (where each Gaussian matters), `lists`
(the Gaussians that each tile meets), `blend` (the latent). Backward: `gradient` (sums over pixels), `ray_gradient`
(sums over Gaussians, if the rays need a gradient), `chain` (gradients of the inputs). `launch` allocates memory and
launches the kernels, `ops` registers the PyTorch operators.
"""
