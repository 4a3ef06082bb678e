"""docs/rasterizer.md: its example holds, and what it names is there. Its commands have tests of their own."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs/rasterizer.md").read_text()
# What a command of the page runs, and the test that runs it too.
TESTED = {
    "python examples/rasterize_a_pose.py": "tests/test_examples.py",
    "python examples/optimise_a_camera.py": "tests/test_examples.py",
    "python -m bench.accuracy": "tests/bench/test_accuracy.py",
}


def test_the_example_holds():
    (example,) = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)
    found: dict = {}
    exec(example, found)
    assert 0.1 < found["share"].item() < 0.99


def test_links_pictures_and_files_are_there():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", GUIDE) if not link.startswith("http")]
    assert len(links) > 5
    for link in links:
        assert (ROOT / "docs" / link).resolve().exists(), link
    for name in re.findall(r"`((?:hvs|tests)/[\w/.]+)`", GUIDE):
        assert (ROOT / name).exists(), name


def test_every_command_is_tested():
    blocks = "".join(re.findall(r"```bash\n(.*?)```", GUIDE, flags=re.DOTALL))
    commands = [*blocks.splitlines(), *re.findall(r"`((?:python|pytest) [^`]+)`", GUIDE)]
    assert len(commands) >= 4
    for command in commands:
        program, *arguments = command.split()
        if program == "pytest":
            assert all((ROOT / file).exists() for file in arguments), command
        else:
            test = next(file for start, file in TESTED.items() if command.startswith(start))
            assert re.split(r"[/.]", command.split(".py")[0].split(" --")[0])[-1] in (ROOT / test).read_text(), command
