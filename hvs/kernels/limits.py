"""Where the inputs of the rasteriser are clamped, the same in every backend."""

# Standard deviations in metres; s² is floored at 1e-8.
SMALLEST_SCALE = 1e-4
# Nothing is so far or so wide that float32 would overflow on the way (metres).
LARGEST = 1e9
# Components of a ray or a rotation, which are 1 at most where they are what they should be.
LARGEST_COMPONENT = 2.0
# Columns that span less than this part of what they would at right angles are no axes, and have no gradient: float32
# leaves a few 1e-7 where there is nothing.
SMALLEST_VOLUME = 1e-6
# exp(-60) is far below any tolerance. Without the limit denormal numbers appear, which CPUs multiply very slowly.
LARGEST_EXPONENT = 60.0
# κ never falls below this.
SMALLEST_VARIANCE = 1e-6
# A variance that is a power of ten but for its rounding to float32 is one: scales of 0.1 give κ = 0.01. In log10.
KAPPA_SLACK = 1e-6
