"""Benches. They need torch, triton and numpy, and report ratios of things timed in the same run."""
