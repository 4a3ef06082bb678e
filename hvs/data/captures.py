"""Which sequences a capture of any kind has, and how their frames are split."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from .files import inner_name, read_json
from .layouts import IMAGES, LAYOUTS, SPLITS, Split
from .plain import PlainSequence
from .sequences import PreparedSequence, Sequence
from .stores import DataError

Subjects = Literal["known", "unknown", "all"]
GROUPS = {"known": ("known",), "unknown": ("unknown",), "all": ("known", "unknown")}
PLAIN = "plain"
KINDS = (*LAYOUTS, PLAIN)
PUBLISHED_SPLITS = Path(__file__).parent / "splits.json"
# Most frames in a sequence: more than any capture has, and few enough to list.
MOST_FRAMES = 10_000_000
Intervals = dict[Split, list[tuple[int, int]]]


class NoSequencesError(DataError):
    """The capture has none of the wanted subjects."""


def find_sequences(root: str | Path, subjects: Subjects = "known", layout: str | None = None) -> list[Sequence]:
    """The sequences that the splits of a capture list, in that order.

    Args:
        root: folder of the capture. Its own `splits.json`, if there is one, replaces that of the data set. Plain files
            without one: all sequences are used and known, and their frames are split in blocks.
        subjects: those seen in training, those never seen, or all.
        layout: "panoptic", "human36m" or "plain"; by default detected from the folders.

    Raises:
        NoSequencesError: none of these subjects is there.
        DataError: no such folder, no sequence in it, or a broken splits.json or cameras file.
    """
    return _alike([open_sequence() for _, open_sequence in list_sequences(root, subjects, layout)])


def list_sequences(
    root: str | Path, subjects: Subjects = "known", layout: str | None = None
) -> list[tuple[str, Callable[[], Sequence]]]:
    """Names of the sequences, and a function that opens each; arguments and errors are those of `find_sequences`.

    A fault in a sequence is raised when that sequence is opened.
    """
    root = Path(root)
    if subjects not in GROUPS:
        raise ValueError(f"subjects: got {subjects!r}, wanted one of {', '.join(GROUPS)}")
    if layout not in (None, *KINDS):
        raise ValueError(f"layout: got {layout!r}, wanted one of {', '.join(KINDS)}")
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    kind = layout or _detect(root)
    file = root / "splits.json"
    own = file.exists()
    if kind == PLAIN and not own:
        return _whole(root, subjects)
    published = {} if own else read_json(PUBLISHED_SPLITS)[LAYOUTS[kind].skeleton.name]
    views, stride, names, listed = _parse(read_json(file) if own else published, subjects, kind, file)
    # Few people have all of a published data set, but a capture with its own splits should be complete.
    if own and views:
        _check_views(root, kind, views, names, file)
    present = [(name, intervals) for name, intervals in listed if own or (root / name).is_dir()]
    if not present:
        whose = "" if subjects == "all" else f" of {subjects} subjects"
        raise NoSequencesError(f"{root}: none of the {len(listed)} sequences{whose} listed in the splits is here")
    return [(name, partial(_open, root, kind, name, views, intervals, stride)) for name, intervals in present]


def _open(root: Path, kind: str, name: str, views: list[str] | None, intervals: Intervals, stride: int) -> Sequence:
    if kind == PLAIN:
        return PlainSequence(root / name, name, views, intervals, stride)
    return PreparedSequence(root / name, LAYOUTS[kind], name, _views(root / name, views), intervals, stride)


def _parse(
    splits: Any, subjects: Subjects, kind: str, file: Path
) -> tuple[list[str] | None, int, list[str], list[tuple[str, Intervals]]]:
    """The views, the stride, all sequences' names, and these subjects' names and intervals in a table of splits."""
    try:
        _only(splits, "views", "stride", *GROUPS["all"])
        # With plain files the folders show which views there are.
        views = None
        if kind != PLAIN or "views" in splits:
            views = [inner_name(view, file) for view in _listed(splits["views"])]
            if len(set(views)) < len(views):
                raise ValueError("a view is listed twice")
        stride = _whole_number(splits.get("stride", 1 if kind == PLAIN else LAYOUTS[kind].held_out_stride))
        if stride < 1:
            raise ValueError(f"stride is {stride}")
        everybody = [entry for group in GROUPS["all"] for entry in _listed(splits.get(group, []))]
        names = [inner_name(entry["sequence"], file, folders=True) for entry in everybody]
        listed = [
            (
                inner_name(entry["sequence"], file, folders=True),
                {split: _intervals(entry[split]) for split in SPLITS},
            )
            for group in GROUPS[subjects]
            for entry in (_only(entry, "sequence", *SPLITS) for entry in splits[group])
        ]
    except DataError:
        raise
    except KeyError as error:
        raise DataError(f"{file}: not a table of splits ({error} is missing)") from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"{file}: not a table of splits ({type(error).__name__}: {error})") from error
    return views, stride, names, listed


def _check_views(root: Path, kind: str, views: list[str], names: list[str], file: Path) -> None:
    """Raise a DataError if no sequence has a view: a misspelt one would be missing everywhere without a word."""
    inner, ending = ("images", "") if kind == PLAIN else (f"Databases/{IMAGES}", ".lmdb")
    paths = [path for name in names for path in (root / name / inner).glob(f"[!.]*{ending}")]
    present = {path.name.removesuffix(ending) for path in paths}
    for view in views:
        # Without any views the sequences themselves are missing, which is told when they are opened.
        if present and view not in present:
            wanted = ", ".join(sorted(present))
            raise DataError(f"{file}: no sequence has the view {view!r:.40}, wanted some of {wanted:.200}")


def _only(table: dict[str, Any], *names: str) -> dict[str, Any]:
    """The table, if it has no other names than these: a misspelt one would be ignored."""
    if unknown := sorted(set(table) - set(names)):
        raise ValueError(f"{unknown[0]!r:.40} is not a known name, wanted {', '.join(names)}")
    return table


def _listed(value: Any) -> list[Any]:
    """The value, if it is a list: text would be taken for one of letters, and an empty table for nobody."""
    if not isinstance(value, list):
        raise ValueError(f"got {value!r:.40}, wanted a list")
    return value


def _whole_number(value: Any) -> int:
    if int(value) != value or isinstance(value, bool):
        raise ValueError(f"got {value!r:.40}, wanted a whole number")
    return int(value)


def _intervals(value: Any) -> list[tuple[int, int]]:
    found = [_interval(ends) for ends in _listed(value)]
    frames = sum(max(0, last - first + 1) for first, last in found)
    if frames > MOST_FRAMES:
        raise ValueError(f"intervals of {frames} frames in all, wanted at most {MOST_FRAMES}")
    return found


def _interval(ends: Any) -> tuple[int, int]:
    if not isinstance(ends, list) or len(ends) != 2:
        raise ValueError(f"got {ends!r:.40} as an interval, wanted [first, last]")
    first, last = map(_whole_number, ends)
    if last - first >= MOST_FRAMES or max(abs(first), abs(last)) >= 2**53:
        raise ValueError(f"interval from {first:.4g} to {last:.4g}, wanted fewer than {MOST_FRAMES} frames")
    return first, last


def _whole(root: Path, subjects: Subjects) -> list[tuple[str, Callable[[], Sequence]]]:
    """All sequences of plain files without splits."""
    names = sorted(path.parent.name for path in root.glob("[!.]*/images") if path.is_dir())
    if not names:
        raise DataError(f"{root}: no sequences here, wanted <name>/images/<view>")
    if subjects == "unknown":
        raise NoSequencesError(f"{root}: no unknown sequences, as there is no splits.json that names any")
    return [(name, partial(PlainSequence, root / name, name)) for name in names]


def _alike(sequences: list[Sequence]) -> list[Sequence]:
    first, *others = sequences
    for other in others:
        one, two = first.layout.skeleton.name, other.layout.skeleton.name
        if one != two:
            raise DataError(f"{other.folder}: keypoints are of skeleton {two}, those of {first.folder} of {one}")
    return sequences


def _detect(root: Path) -> str:
    found = [name for name, layout in LAYOUTS.items() if any(root.glob(f"[!.]*/{layout.folder}"))]
    if any(root.glob("[!.]*/images")):
        found.append(PLAIN)
    if len(found) != 1:
        folders = " or ".join(f"<name>/{layout.folder}/<name>" for layout in LAYOUTS.values())
        what = f"{'both' if len(found) == 2 else 'three'} layouts" if found else "no sequences"
        raise DataError(f"{root}: {what} here, wanted {folders} or <name>/images/<view>")
    return found[0]


def _views(folder: Path, views: list[str]) -> tuple[str, ...]:
    present = tuple(view for view in views if (folder / "Databases" / IMAGES / f"{view}.lmdb").exists())
    if not present:
        raise DataError(f"{folder / 'Databases' / IMAGES}: no database of any of the views {', '.join(views)}")
    return present
