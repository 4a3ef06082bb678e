"""The pages of docs/reference/ are those that docs/make_reference.py makes, and what they say holds together."""

import inspect
import re
import runpy
from pathlib import Path

import pytest

import hvs

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs/reference"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / "docs/make_reference.py"))


@pytest.fixture(scope="module")
def texts(script):
    return script["write_all"]()


def test_the_pages_are_up_to_date(texts):
    found = {file.name: file.read_text() for file in FOLDER.iterdir()}
    assert set(found) == set(texts)
    for name, text in texts.items():
        assert found[name] == text, f"{name}: run python docs/make_reference.py"


def test_every_public_name_has_a_page(texts):
    for name in hvs.__all__:
        assert texts[f"{name}.md"].startswith(f"# hvs.{name}\n")
        assert f"[`hvs.{name}`]({name}.md)" in texts["index.md"]


def test_what_is_public_in_geometry_is_described(texts):
    headings = re.findall(r"^#+ hvs\.(?:\w+\.)?(\w+)$", "\n".join(texts.values()), flags=re.MULTILINE)
    assert set(hvs.geometry.__all__) <= set(headings)


def test_cameras_are_said_to_be_indexed(texts):
    assert "### `__getitem__`\n\n```python\n__getitem__(index: Any) -> Camera\n" in texts["Camera.md"]


def test_links_lead_somewhere(script, texts):
    for name, text in texts.items():
        for link in re.findall(r"\]\(([^)]+)\)", text):
            file, _, anchor = link.partition("#")
            assert (FOLDER / (file or name)).resolve().exists(), f"{name}: {link}"
            headings = re.findall(r"^#+ (.*)$", texts.get(file or name, ""), flags=re.MULTILINE)
            assert not anchor or anchor in map(script["anchor"], headings), f"{name}: {link}"


def test_no_markup_of_docstrings_is_left(texts):
    for name, text in texts.items():
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        assert "``" not in prose and ":func:" not in prose and ":meth:" not in prose and ":class:" not in prose, name


def test_arguments_are_those_of_the_signatures(script):
    checked = 0
    for page in script["pages"]().values():
        for name, value in page.entries.items():
            for function in (value, *script["methods"](value).values()):
                function = getattr(function, "__func__", function)
                arguments = re.search(r"(?:^|\n)Args:\n((?:    .*\n?)+)", inspect.getdoc(function))
                if arguments:
                    named = re.findall(r"^    ([\w, ]+):", arguments[1], flags=re.MULTILINE)
                    named = [word for line in named for word in line.split(", ")]
                    wanted = [word for word in inspect.signature(function).parameters if word != "self"]
                    assert named == wanted, f"{name}: describes {named}, takes {wanted}"
                    checked += 1
    assert checked > 15


def test_docstrings_become_markdown(script):
    docstring = """First ``x`` [B, 3].

    Args:
        a, b: of :func:`hvs.load`,
            and more.

    Returns:
        what is
        made.

        in.pt2    code
    """
    links = {"hvs.load": "load.md"}
    assert script["markdown"](inspect.cleandoc(docstring), links).split("\n\n") == [
        "First `x` `[B, 3]`.",
        "**Arguments**",
        "- `a`, `b`: of [`hvs.load`](load.md), and more.",
        "**Result**",
        "what is\nmade.",
        "```text\nin.pt2    code\n```",
    ]


def test_signatures(script):
    class Example:
        def short(self, x: int = 3, *, name: str = "a") -> "Camera":  # noqa: F821
            """Does little."""

    assert script["signature"]("short", Example.short) == 'short(x: int = 3, *, name: str = "a") -> Camera'
    assert list(script["methods"](Example)) == ["short"]
