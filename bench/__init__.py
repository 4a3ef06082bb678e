"""Benches. Ratios are of times taken in the same run; those of the rasteriser need only torch, triton and numpy."""
