"""How the frames of a capture without splits are divided."""

from ..layouts import Split

VALIDATION, TEST, AFTER = 0.10, 0.15, 0.15


def blocks(frames: list[int]) -> dict[Split, list[tuple[int, int]]]:
    """Intervals of frames, in blocks, as neighbours in time look alike: training, validation, test, training.

    A single frame is used for training, a second one for the test, a third one for validation.

    Args:
        frames: all frames, ascending.
    """
    n = len(frames)
    test = max(round(TEST * n), int(n > 1))
    validation = max(round(VALIDATION * n), int(n > 2))
    c = n - round(AFTER * n)
    b = c - test
    a = b - validation
    return {
        "train": _interval(frames[:a]) + _interval(frames[c:]),
        "val": _interval(frames[a:b]),
        "test": _interval(frames[b:c]),
    }


def _interval(frames: list[int]) -> list[tuple[int, int]]:
    return [(frames[0], frames[-1])] if frames else []
