import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import kernels
from bench.rasterize import Calls, Scene
from hvs.kernels.fused import programs

FUSED = Path(programs.__file__).parent


def test_all_that_is_launched_is_timed():
    launched = set()
    for node in ast.walk(ast.parse((FUSED / "launch.py").read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript):
            launched.add(getattr(node.func.value, "attr", None))
    assert launched - {None} | {"pair_large"} == set(kernels.KERNELS)


@pytest.mark.parametrize("scene", [Scene(channels=3), Scene(), Scene(count=20_000, channels=32)], ids=str)
def test_variants_are_what_the_package_might_choose(scene):
    channels = scene.channels
    chosen = dict(blend_sizes=programs.blend_sizes(channels), gradient_sizes=programs.gradient_sizes(channels))
    seen = set()
    for title, values in kernels.variants(scene).items():
        for name, value in values.items():
            sizes = value(channels) if callable(value) else value
            with kernels.replaced(values):
                assert getattr(programs, name) is value, title
            if name in chosen:
                # Registers may be limited where the package sets no limit.
                assert sizes.keys() - {"maxnreg"} == chosen[name].keys() - {"maxnreg"}
                seen.add(name) if sizes == chosen[name] else None
            else:
                assert type(sizes) is type(getattr(programs, name))
    # The package's own choice is among them.
    assert seen == set(chosen)


def test_only_kernels_that_are_launched_have_variants():
    names = {scene: set().union(*kernels.variants(scene).values()) for scene in (Scene(), Scene(count=20_000))}
    assert names[Scene()] - names[Scene(count=20_000)] == {"SURVEY_SIZES", "FILLED_ABOVE", "GRADIENT_PROGRAMS"}
    assert names[Scene(count=20_000)] == {"blend_sizes", "gradient_sizes"}


def test_a_size_that_fails_costs_no_other(monkeypatch, capsys):
    def kernel_times(calls):
        if programs.FILLED_ABOVE == 2:
            raise KeyError("out of registers\nand more")
        return dict.fromkeys(kernels.KERNELS, 1.5)

    monkeypatch.setattr(kernels.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(kernels, "calls_of", lambda scene: None)
    monkeypatch.setattr(kernels, "kernel_times", kernel_times)
    monkeypatch.setattr(sys, "argv", ["kernels", "--sweep"])
    kernels.main()
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == list(kernels.KERNELS)
    assert len(lines) == 1 + len(kernels.variants(kernels.scenes("cuda")[0]))
    [failed] = [line for line in lines if "1.5" not in line]
    assert failed.startswith("survey_small fills above 2 floors") and "KeyError: 'out of" in failed
    # Numbers end where the kernels' names do.
    assert all(len(line) == len(header) for line in lines if line != failed)


def test_a_profiler_that_sees_nothing_is_no_result(monkeypatch):
    class Profile:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def events(self):
            return []

    monkeypatch.setattr(kernels.torch.profiler, "profile", lambda activities: Profile())
    monkeypatch.setattr(kernels.torch.cuda, "synchronize", lambda: None)
    empty = kernels.torch.empty
    monkeypatch.setattr(kernels.torch, "empty", lambda size, dtype, device: empty(1, dtype=dtype))
    with pytest.raises(SystemExit, match="has seen no kernel"):
        kernels.kernel_times(Calls(None, None, lambda: None))


def test_without_a_gpu():
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-m", "bench.kernels"], capture_output=True, text=True, env=hidden)
    assert done.returncode == 1 and "needs a GPU" in done.stderr
