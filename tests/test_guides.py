"""The commands of the README and of the guides are run as they stand, or at least understood as they stand."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import infer
import train
from hvs import HumanViewSynthesis
from hvs.checkpoint import save_model
from hvs.presets import PRESETS
from tests.captures import Capture
from tests.inference.figures import FlatLifter, body_135, figure, write
from tests.quick import narrow_encoders

ROOT = Path(__file__).parents[1]
CI = (ROOT / ".ci/run").read_text()
GUIDES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
PROGRAMS = r"(?:python|torchrun|pytest|tensorboard|pip) "
# What runs the programs other than train.py, infer.py and the benches, by their modules or files.
RUN_BY = {
    "hvs.data.sample": "tests/data/sample/test___main__.py",
    "hvs.data": "tests/data/test___main__.py",
    "hvs.export": "tests/test_export.py",
    "hvs.checkpoint": "tests/test_checkpoint_commands.py",
    "bench": "tests/bench/test_main.py",
    "bench/resources.py": "tests/bench/test_resources.py",
    "examples/rasterize_a_pose.py": "tests/test_examples.py",
    "examples/optimise_a_camera.py": "tests/test_examples.py",
    "examples/novel_view.py": "tests/test_examples.py",
    "docs/make_reference.py": "tests/test_reference.py",
}
# What takes long: pairs that are scored, steps in which an appearance is refined or Gaussians are fitted, and frames.
FEW = dict(pairs=4, refine_steps=1, steps=3, frames=8)
# Modes that do not end by themselves, or take more than one process.
ELSEWHERE = {"viewer": "tests/inference/test_viewer.py", "torchrun": "tests/inference/test_scoring.py"}


def commands_of(guide: Path) -> list[str]:
    """Those of code blocks and of code within the text, without comments."""
    text = guide.read_text()
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(rf"^ {{4,}}(?:\w+=\S+ )*({PROGRAMS}.*)$", text, flags=re.MULTILINE)
    lines += re.findall(rf"`(?:\w+=\S+ )?({PROGRAMS}[^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    single = [part.strip() for line in lines for part in line.partition("#")[0].split(" && ")]
    return [command for command in single if re.match(PROGRAMS, command)]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_every_command_is_understood(guide):
    for command in commands_of(guide):
        # Placeholders of a sentence.
        if re.search(r"\.\.\.|\b[A-Z]{4,}\b|--help", command):
            continue
        words = shlex.split(command)
        script = next((i for i, word in enumerate(words) if word in ("train.py", "infer.py")), None)
        if script is not None:
            assert words[0] == "python" or words[script - 1] == "--", command
            parse = train.parse_settings if words[script] == "train.py" else infer.parse_settings
            parse(words[script + 1 :])
        elif words[0] == "pytest":
            assert all((ROOT / word).exists() for word in words[1:] if not word.startswith("-")), command
        elif words[0] == "python":
            program = words[2] if words[1] == "-m" else words[1]
            runner = RUN_BY.get(program, f"tests/bench/test_{program.removeprefix('bench.')}.py")
            assert (ROOT / runner).exists(), command
        else:
            assert words[0] == "tensorboard" or command.startswith("pip install") and "pip install" in CI, command


def programs() -> dict[str, list[list[str]]]:
    """What the guides give to each program that takes options, other than train.py and infer.py."""
    found = {}
    for command in {command for guide in GUIDES for command in commands_of(guide)}:
        match = re.match(r"python (?:-m )?((?:hvs|bench)[\w./]*)(.*)", command)
        if match and not re.search(r"\b[A-Z]{4,}\b", command):
            found.setdefault(match[1], []).append(shlex.split(match[2]))
    return found


# Asks programs for their help, in a process of its own: some of the benches turn Triton's interpreter off.
ASK = """
import contextlib, io, json, runpy, sys

found = []
for program, words in json.load(sys.stdin):
    # What stands before --help is parsed first, and nothing is run.
    sys.argv, text, code = [program, *words, "--help"], io.StringIO(), None
    try:
        with contextlib.redirect_stdout(text):
            if program.endswith(".py"):
                runpy.run_path(program, run_name="__main__")
            else:
                runpy.run_module(program, run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        code = stop.code
    found.append((program, words, code, text.getvalue()))
print(json.dumps(found))
"""


def test_every_option_is_one():
    asked = [(program, words) for program, calls in sorted(programs().items()) for words in calls]
    assert {program for program, _ in asked} > {"bench", "bench.counts", "bench/resources.py", "hvs.data", "hvs.export"}
    command = [sys.executable, "-W", "ignore", "-c", ASK]
    done = subprocess.run(command, cwd=ROOT, input=json.dumps(asked), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for program, words, code, text in json.loads(done.stdout):
        assert code == 0, (program, words, done.stderr)
        for option in (word for word in words if word.startswith("--")):
            assert re.search(rf"{option}\b", text), (program, option)


def test_help_has_no_markup_of_docstrings(capsys):
    for parse, name in [(train.parse_settings, "sample"), *((infer.parse_settings, mode) for mode in infer.MODES)]:
        with pytest.raises(SystemExit):
            parse([name, "--help"])
        assert ":func:" not in capsys.readouterr().out, name


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_links_and_pictures_are_there(guide):
    for link in re.findall(r"\]\(([^)\s]+)\)", guide.read_text()):
        file, _, heading = link.partition("#")
        page = guide.parent / file if file else guide
        assert link.startswith("http") or page.exists(), link
        if heading and page.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
            assert heading in [re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in headings], link


@narrow_encoders()
def test_the_commands_of_the_guide_to_inference_work(tmp_path, monkeypatch, capsys):
    guide = ROOT / "docs/inference.md"
    (cameras,) = re.findall(r"```json\n(.*?)```", guide.read_text(), flags=re.DOTALL)
    capture = Capture(tmp_path / "capture", names=("subject2", "subject6"), views=4, frames=30).write()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hvs.inference.poses.make_sample", lambda: capture.root)
    torch.manual_seed(0)
    Path("runs/sample").mkdir(parents=True)
    model = HumanViewSynthesis(PRESETS["tiny"].model)
    save_model("runs/sample/model.safetensors", model, dict(root=str(capture.root)))
    Path("cameras.json").write_text(cameras)
    # The viewer saves one of the same kind.
    Path("camera.json").write_text(json.dumps(json.loads(cameras)[2:]))
    Image.new("RGB", (320, 240), "navy").save("photo.jpg")
    Image.new("L", (320, 240), "white").save("mask.png")
    write(Path("photo.json"), body_135(figure()))
    # What an untrained lifter makes of a photo stands nowhere.
    lifter = FlatLifter()
    monkeypatch.setattr(HumanViewSynthesis, "lift", lambda self, *given: lifter.lift(*given))

    ran = set()
    for command in commands_of(guide):
        program, *words = shlex.split(command)
        if program == "torchrun" or words[0] != "infer.py" or words[1] in ("MODE", *ELSEWHERE):
            continue
        settings = infer.parse_settings(words[1:])
        run = dict(infer.MODES.values())[type(settings)]
        numbers = {name: value for name, value in vars(settings).items() if name in FEW and isinstance(value, int)}
        run(replace(settings, **{name: min(value, FEW[name]) for name, value in numbers.items()}))
        # Everything that is said to have been written is there.
        written = [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines() if "runs/" in line]
        files = [text for text in written if text.startswith("runs/")]
        assert files and all(Path(file).exists() for file in files), command
        ran.add(words[1])
    assert ran | {"viewer"} == set(infer.MODES)
    assert all((ROOT / file).exists() for file in ELSEWHERE.values())
