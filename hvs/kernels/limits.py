"""Limits that every backend applies to its inputs and intermediates."""

# Standard deviations in metres; s² is floored at 1e-8.
SMALLEST_SCALE = 1e-4
# Largest position, depth or standard deviation in metres; keeps intermediate results from overflowing float32.
LARGEST = 1e9
# Largest component of a ray or a rotation; in valid ones, components are at most 1.
LARGEST_COMPONENT = 2.0
# A matrix whose columns span less than this fraction of the volume that they would span at right angles counts as
# singular, and gets no gradient. In float32, linearly dependent columns still span a few 1e-7 of it.
SMALLEST_VOLUME = 1e-6
# exp(-60) is far below any tolerance. Without the limit, denormal numbers would appear, which slow CPUs down greatly.
LARGEST_EXPONENT = 60.0
# κ never falls below this.
SMALLEST_VARIANCE = 1e-6
# A variance above a power of ten by no more than this, in log10, is rounded down to it, because the difference may be
# float32 rounding: scales of 0.1 give κ = 0.01.
KAPPA_SLACK = 1e-6
