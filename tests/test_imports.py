"""The rooms of the package and the direction of imports between them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "hvs"
# What each room may import of the package; the modules beside the rooms may import them all.
ALLOWED = {
    "geometry": set(),
    "kernels": set(),
    "losses": {"geometry"},
    "models": {"geometry", "kernels"},
    "data": {"geometry"},
    # Of the modules beside the rooms too.
    "inference": {"geometry", "kernels", "models", "data"}
    | {"checkpoint", "distribute", "evaluation", "export", "metrics", "pictures", "runtime", "video"},
    "training": {"geometry", "kernels", "models", "losses", "data"}
    | {"checkpoint", "config", "distribute", "evaluation", "metrics", "runtime"},
}
HEAVY = {"PIL", "anny", "cv2", "imageio", "lmdb", "lpips", "safetensors", "tensorboard", "torchmetrics", "torchvision"}
HEAVY |= {"cdflib", "simplejpeg", "tqdm", "tyro", "viser", "warp", "yaml", "matplotlib", "scipy"}


def imported_rooms(file: Path) -> set[str]:
    """Rooms and modules of the package that a file imports, anywhere in it."""
    package = ["hvs", *file.relative_to(PACKAGE).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            names = [[*base, alias.name] for alias in node.names]
        else:
            continue
        found |= {name[1] for name in names if name[0] == "hvs" and len(name) > 1}
    return found


@pytest.mark.parametrize("room", ALLOWED)
def test_rooms_import_in_one_direction(room):
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert files
    for file in files:
        strangers = imported_rooms(file) - ALLOWED[room] - {room}
        assert not strangers, f"{file} imports {strangers}"


def test_every_room_is_covered():
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert rooms == set(ALLOWED)


def test_importing_the_package_loads_torch_and_numpy_and_nothing_else_that_is_heavy():
    def loaded_by(statement: str) -> set[str]:
        code = f"{statement}; import sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
        return set(
            subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        )

    package = loaded_by("import hvs; hvs.rasterize, hvs.Camera")
    assert {"torch", "numpy", "hvs"} <= package
    extra = package - loaded_by("import torch, numpy")
    assert not HEAVY & extra
    assert {name for name in extra if not name.startswith("__editable__")} == {"hvs"}


def test_benches_need_nothing_that_a_machine_with_a_gpu_may_lack():
    """Beside torch, triton and numpy; pillow comes with torchvision."""
    code = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1:]:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hidden())
import bench.__main__, bench.inference, bench.kernels, bench.train_step
"""
    missing = sorted(HEAVY - {"PIL", "torchvision"})
    command = [sys.executable, "-c", code, *missing]
    found = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_public_names_are_there():
    import hvs

    assert set(hvs.__all__) <= set(dir(hvs)) | {"HumanViewSynthesis", "load"}
    assert hvs.HumanViewSynthesis.__name__ == "HumanViewSynthesis" and callable(hvs.load)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hvs.nothing


def test_modules_of_the_reference_need_no_import_of_their_own():
    code = "import hvs; print(hvs.metrics.psnr, hvs.export.save_ply, hvs.data.PairDataset, 'video' in dir(hvs))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0 and "psnr" in found.stdout and found.stdout.strip().endswith("True"), found.stderr
