"""Write docs/reference/ from signatures and docstrings.

python docs/make_reference.py
"""

import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import hvs
from hvs import checkpoint, data, export, geometry, metrics, models, skeletons

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs/reference"
# A signature that is longer takes a line for each parameter.
WIDEST = 100
LISTS = {"Args": "Arguments", "Attributes": "Attributes", "Raises": "Errors"}
INDEX = """# The package

Lengths are in metres; a camera's frame has x to the right, y down and z forward. `...` stands for any number of batch
axes, B for one, J for joints, N for Gaussians or limbs, C for features. `import hvs` loads torch and numpy only; what
needs more is imported when it is first asked for. The [examples](../../examples) use what stands here, and
[rasterizer.md](../rasterizer.md) explains the rasteriser.

| name | |
|---|---|
"""
GEOMETRY = """[`hvs.Camera`](Camera.md), [`hvs.limb_gaussians`](limb_gaussians.md) and
[`hvs.skeletons`](skeletons.md) have pages of their own."""


@dataclass(frozen=True)
class Page:
    """A file of the reference: a title, something to say first, and what it describes by full names."""

    title: str
    entries: dict[str, Callable | type]
    module: ModuleType | None = None
    extra: str = ""


def public(module: ModuleType) -> dict[str, Callable | type]:
    """Functions and classes that a module defines, in their order, by their full names."""
    found = {name: value for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    names = [name for name, value in found.items() if callable(value) and not name.startswith("_") and name != "main"]
    return {f"{module.__name__}.{name}": found[name] for name in names}


def skeleton_table() -> str:
    rows = ["| | joints | edges | root | parts | background, RGB |", "|---|---|---|---|---|---|"]
    for name, skeleton in (("PANOPTIC", skeletons.PANOPTIC), ("HUMAN36M", skeletons.HUMAN36M)):
        parts = ", ".join(f"{part} {start}–{stop - 1}" for part, (start, stop) in skeleton.parts.items())
        counts = f"{len(skeleton.joints)} | {len(skeleton.edges)} | {skeleton.joints[skeleton.root]}"
        rows.append(f"| `hvs.skeletons.{name}` | {counts} | {parts} | {skeleton.background} |")
    return "\n".join(rows)


def pages() -> dict[str, Page]:
    """All pages but the index, by the names of their files."""
    single = {name: Page(f"hvs.{name}", {f"hvs.{name}": getattr(hvs, name)}) for name in hvs.__all__}
    single["skeletons"] = Page(
        "hvs.skeletons",
        {"hvs.skeletons.Skeleton": skeletons.Skeleton, "hvs.skeletons.customise": skeletons.customise},
        skeletons,
        skeleton_table(),
    )
    single["HumanViewSynthesis"].entries["hvs.models.ModelSettings"] = models.ModelSettings
    names = "save_model", "read_extra", "load_discriminator", "CheckpointError"
    weights = {f"hvs.checkpoint.{name}": getattr(checkpoint, name) for name in names}
    shown = {name.rpartition(".")[2] for page in single.values() for name in page.entries} | {"skeletons"}
    rest = {f"hvs.geometry.{name}": getattr(geometry, name) for name in geometry.__all__ if name not in shown}
    return single | {
        "checkpoint": Page("hvs.checkpoint", weights, checkpoint),
        "geometry": Page("hvs.geometry", rest, geometry, GEOMETRY),
        "export": Page("hvs.export", public(export), export),
        "metrics": Page("hvs.metrics", public(metrics), metrics),
        "PairDataset": Page(
            "hvs.data.PairDataset", {f"hvs.data.{name}": getattr(data, name) for name in ("PairDataset", "collate")}
        ),
    }


def write_all() -> dict[str, str]:
    """The texts of all files by their names."""
    every = pages()
    links = {}
    for file, page in every.items():
        for name, value in page.entries.items():
            links[name] = f"{file}.md" + ("" if name == page.title else f"#{anchor(name)}")
            # As a docstring beside it calls it.
            links[value.__name__] = links[name]
            links |= {f"{value.__name__}.{method}": f"{file}.md#{anchor(method)}" for method in methods(value)}
    texts = {f"{file}.md": write_page(page, links) for file, page in every.items()}
    rows = []
    for file, page in every.items():
        described = page.module or next(iter(page.entries.values()))
        summary = inspect.getdoc(described).partition("\n\n")[0].replace("\n", " ")
        rows.append(f"| [`{page.title}`]({file}.md) | {inline(summary, links)} |\n")
    return {"index.md": INDEX + "".join(rows)} | texts


def write_page(page: Page, links: dict[str, str]) -> str:
    parts = [f"# {page.title}"]
    if page.module:
        parts += [markdown(inspect.getdoc(page.module), links), page.extra]
    for name, value in page.entries.items():
        if name != page.title:
            parts.append(f"## {name}")
        parts.append(code(signature(name, value)))
        parts.append(markdown(inspect.getdoc(value), links))
        # A class calls its own methods by their bare names.
        own = links | {method: f"#{anchor(method)}" for method in methods(value)}
        for method, function in methods(value).items():
            owner = f"{value.__name__}." if isinstance(vars(value)[method], staticmethod) else ""
            # Underscores would make it bold.
            heading = f"`{method}`" if method.startswith("_") else method
            parts += [f"### {heading}", code(signature(owner + method, function))]
            parts.append(markdown(inspect.getdoc(function), own))
    file = Path(inspect.getsourcefile(page.module or next(iter(page.entries.values())))).resolve().relative_to(ROOT)
    parts.append(f"Source: [{file}](../../{file}). This page is written by `python docs/make_reference.py`.")
    return "\n\n".join(part for part in parts if part) + "\n"


def methods(value: Callable | type) -> dict[str, Callable]:
    """Public methods and properties that a class defines and describes, indexing among them, in their order."""
    if not inspect.isclass(value):
        return {}
    found = {}
    for name, method in vars(value).items():
        function = getattr(method, "fget", None) or getattr(method, "__func__", method)
        if inspect.isfunction(function) and function.__doc__ and (not name.startswith("_") or name == "__getitem__"):
            found[name] = method
    return found


def signature(name: str, value: Callable | type) -> str:
    if isinstance(value, property):
        return f"{name}: {annotation(inspect.signature(value.fget).return_annotation)}"
    if inspect.isclass(value) and issubclass(value, Exception):
        return f"class {name}({value.__base__.__name__})"
    found = inspect.signature(getattr(value, "__func__", value))
    words, last = [], None
    for parameter in found.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and last is not parameter.KEYWORD_ONLY:
            words.append("*")
        last = parameter.kind
        word = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "") + parameter.name
        if parameter.annotation is not parameter.empty:
            word += f": {annotation(parameter.annotation)}"
        if parameter.default is not parameter.empty:
            equals = " = " if parameter.annotation is not parameter.empty else "="
            default = parameter.default
            word += equals + (f'"{default}"' if isinstance(default, str) else repr(default))
        words.append(word)
    returned = found.return_annotation
    arrow = "" if inspect.isclass(value) or returned is found.empty else f" -> {annotation(returned)}"
    prefix = "class " if inspect.isclass(value) else ""
    line = f"{prefix}{name}({', '.join(words)}){arrow}"
    if len(line) <= WIDEST:
        return line
    return f"{prefix}{name}(\n" + "".join(f"    {word},\n" for word in words) + f"){arrow}"


def annotation(value: object) -> str:
    """A type by its bare name."""
    text = value if isinstance(value, str) else inspect.formatannotation(value)
    return re.sub(r"\b(?:[A-Za-z_]\w*\.)+", "", text).replace("'", '"').replace('"Camera"', "Camera")


def code(text: str) -> str:
    return f"```python\n{text}\n```"


def markdown(docstring: str, links: dict[str, str]) -> str:
    """A docstring with sections, lists and indented code as Markdown."""
    done = []
    for block in re.split(r"\n\s*\n", docstring):
        first, _, rest = block.partition("\n")
        if first.rstrip(":") in LISTS and rest:
            done += [f"**{LISTS[first.rstrip(':')]}**", entries(rest, links)]
        elif first == "Returns:":
            done += ["**Result**", inline(dedent(rest), links)]
        elif first.startswith((" ", "python ")):
            done.append(f"```text\n{dedent(block)}\n```")
        elif not rest.startswith(" "):
            done.append(inline(block, links))
        else:
            done += [inline(first, links), entries(rest, links)]
    return "\n\n".join(done)


def entries(text: str, links: dict[str, str]) -> str:
    """Lines "name [shape], name: what it is", the next lines of each indented, as a list."""
    items = re.split(r"\n(?=\S)", dedent(text))
    done = []
    for item in items:
        head, colon, what = item.partition(": ")
        if not colon:
            done.append(f"- {inline(item, links)}")
            continue
        names = ", ".join(f"`{name}`" for name in re.split(r", (?![^\[]*\])", head))
        what = re.sub(r"\s*\n\s*", " ", what)
        done.append(f"- {names}: {inline(what, links)}")
    return "\n".join(done)


def inline(text: str, links: dict[str, str]) -> str:
    """References as links, and code and shapes in code font."""

    def refer(match: re.Match) -> str:
        name = match[1]
        return f"[`{name}`]({links[name]})" if name in links else f"`{name}`"

    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    text = re.sub(r"(?<!\w)(?::\w+:)?`([\w.]+)`", refer, text)
    words = re.split(r"(\[?`[^`]+`(?:\]\([^)]*\))?)", text)
    return "".join(word if "`" in word else re.sub(r"\[[^\[\]]*\]", r"`\g<0>`", word) for word in words)


def anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    texts = write_all()
    for file in FOLDER.glob("*.md"):
        if file.name not in texts:
            file.unlink()
    for name, text in texts.items():
        (FOLDER / name).write_text(text)
    print(f"{len(texts)} pages  {FOLDER}")


if __name__ == "__main__":
    sys.exit(main())
