"""The worked example of docs/data.md, from the first command to the last."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.quick import quick_trainings

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs/data.md").read_text()


@pytest.fixture
def run(tmp_path, monkeypatch, program):
    """Run a command as if the clone were the current folder; what is written stays in the test's."""
    monkeypatch.chdir(tmp_path)

    def run(*command: str) -> str:
        if command[0] != "python":
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout
        code, said, error = program(
            *[str(ROOT / word) if word in ("train.py", "infer.py") else word for word in command[1:]]
        )
        assert code == 0, f"{command}: {error}"
        return said

    return run


@quick_trainings()
def test_the_worked_example(tmp_path, run):
    pytest.importorskip("anny", reason="the sample capture's bodies come from anny (pip install hvs[sample])")
    example = GUIDE[GUIDE.index("## A worked example") : GUIDE.index("## Plain files")]
    blocks = re.findall(r"```(bash|python)\n(.*?)```", example, flags=re.DOTALL)
    assert [language for language, _ in blocks] == ["bash", "python", "bash"]
    said = {}
    for language, text in blocks:
        if language == "python":
            said["python"] = run("python", "-c", text)
        else:
            said |= {line.split()[0] + line.split()[1]: run(*shlex.split(line)) for line in text.splitlines()}
    (listing,) = re.findall(r"```\n\n((?:    .*\n|\n)+)", example.partition("```python")[0])
    assert said["lscapture"].split() == listing.split()
    assert "12 views, no faults" in said["python-m"]
    assert said["python"].startswith("192 subject1_take1/0/00-00")
    with Image.open(tmp_path / "look.png") as picture, Image.open(ROOT / "docs/images/plain.png") as shown:
        assert picture.size == shown.size
    assert (tmp_path / "runs/plain/model.safetensors").exists() and (tmp_path / "runs/plain/orbit.mp4").exists()


def test_the_example_of_splits_is_one(tmp_path):
    (text,) = re.findall(r"```json\n(.*?)```", GUIDE, flags=re.DOTALL)
    splits = json.loads(text)
    assert set(splits) == {"known", "unknown"}
    for entry in (*splits["known"], *splits["unknown"]):
        assert set(entry) == {"sequence", "train", "val", "test"}


def test_the_guide_names_what_is_understood():
    """Every name of a YAML entry, every camera model and every field of the detectors."""
    from hvs.data.plain import colmap, keypoints, opencv

    names = [name for others in opencv.NAMES.values() for name in others]
    for name in (*names, *colmap.MODELS, *keypoints.PARTS):
        assert re.search(rf"\b{name}\b", GUIDE), name


def test_no_two_samples_are_made_in_one_folder():
    roots = re.findall(r"hvs\.data\.sample .*--root (\S+)", GUIDE)
    assert len(roots) == 2 and len(set(roots)) == 2
