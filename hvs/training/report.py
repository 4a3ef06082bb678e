"""A run's report, `report.html`: scores, curves, pictures and settings in one file without scripts."""

import base64
import io
import math
import platform
import re
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import distribute
from ..config import TrainSettings
from ..losses import CLASSIFIERS, TERMS
from ..runtime import choose_precision, write_atomically
from .charts import chart
from .console import clock
from .curves import ALONE, Curve, Curves
from .history import History
from .monitor import PICTURES

FILE = "report.html"
# Pictures wider than WIDEST pixels are reduced, and those reduced or of more than LARGEST bytes become JPEGs; of the
# pictures over time, at most TIMES are shown.
WIDEST, LARGEST, TIMES = 1900, 500_000, 6
QUALITY = 90
ROWS = {
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "psnr_foreground": "foreground PSNR (dB)",
    "psnr_foreground_background_baseline": "  of the constant background",
    "psnr_foreground_copy_baseline": "  of the source image",
    "ssim_foreground": "foreground SSIM",
    "lpips_foreground": "foreground LPIPS",
    "mpjpe_mm": "MPJPE (mm)",
    "n_mpjpe_mm": "  scaled",
    "p_mpjpe_mm": "  scaled, turned and moved",
}
STYLE = """
:root { color-scheme: light dark; --ink: #222; --dim: #777; --rule: #ddd; --page: #fff; --c0: #2a6fb0; --c1: #c8641b;
  --c2: #3a8a4a; --c3: #9a4fa8; --c4: #b03a48; --c5: #6b6b2a; }
@media (prefers-color-scheme: dark) { :root { --ink: #ddd; --dim: #999; --rule: #3a3a3a; --page: #161616;
  --c0: #6cacf0; --c1: #f0a060; --c2: #74c484; --c3: #cf90dc; --c4: #ee8090; --c5: #c8c870; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 1160px;
  margin: 2em auto; padding: 0 1.5em; }
h1 { font-size: 1.5em; margin-bottom: 0; } h2 { font-size: 1.15em; margin: 2em 0 .6em; }
p, figcaption, summary, svg text { color: var(--dim); } figcaption b { color: var(--ink); }
table { border-collapse: collapse; margin-bottom: 1.2em; }
td, th { padding: .15em 1.2em .15em 0; border-bottom: 1px solid var(--rule);
  text-align: left; font-weight: normal; vertical-align: top; } td.number, th.number { text-align: right;
  font-variant-numeric: tabular-nums; } thead th { color: var(--dim); }
td.of { padding-left: 1.2em; color: var(--dim); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(310px, 1fr)); gap: 1em 1.5em; }
figure { margin: 0 0 1em; } img { max-width: 100%; display: block; } svg { width: 100%; display: block; }
svg text { font-size: 10px; fill: var(--dim); stroke: none; } path { fill: none; } .grid { stroke: var(--rule); }
.line, .faint { stroke: var(--c); stroke-width: 1.6; stroke-linecap: round; stroke-linejoin: round; }
.faint { stroke-width: 1; opacity: .35; } .dot { stroke-width: 4; } .key { color: var(--c); margin-right: .5em; }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); } .c3 { --c: var(--c3); } .c4 { --c: var(--c4); }
.c5 { --c: var(--c5); }
"""


def write_report(
    folder: Path,
    settings: TrainSettings,
    device: torch.device,
    seconds: float,
    scores: dict[str, Any] | None = None,
) -> Path | None:
    """Write the report of a run from its settings and the contents of its folder.

    Args:
        folder: of the run.
        settings: of the run.
        device: that it was trained on.
        seconds: of work in total.
        scores: of the evaluation; a run that was stopped has none yet.

    Returns:
        The path of the page; None, without a page, if nothing has been logged.
    """
    curves = Curves(History(folder).read())
    if not curves.last:
        return None
    stage, step = curves.last
    state = "" if scores else f", stopped or running: {step} steps of the stage {stage} are logged"
    parts = [
        f"<h1>{escape(folder.absolute().name)}</h1>",
        f"<p>{escape(' and '.join(settings.stages))}, {clock(seconds)} of work on {escape(_name(device))}{state}</p>",
    ]
    if scores:
        parts += ["<h2>Scores on novel views</h2>", _scores(scores)]
        parts += _picture(folder / "preview.png", "Held-out frames, and people never seen in training if there are any")
    parts += _charts(curves)
    parts += _pictures(folder / PICTURES, step)
    parts += ["<h2>Settings</h2>", *_missing(curves, settings), *_settings(settings)]
    parts += ["<h2>Environment</h2>", _table(_environment(settings, device).items())]
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(folder.absolute().name)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n<body>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )
    write_atomically(folder / FILE, lambda path: path.write_text(page, "utf-8", "replace"))
    return folder / FILE


def score_table(scores: dict[str, Any]) -> str:
    """The scores as lines of text."""
    return "\n".join(f"{title:30s}" + "".join(f"{cell:>19s}" for cell in cells) for title, cells in _score_rows(scores))


def _scores(scores: dict[str, Any]) -> str:
    (_, titles), *rows = _score_rows(scores)
    head = "".join(f'<th class="number">{title}</th>' for title in titles)
    lines = []
    for title, cells in rows:
        kind = ' class="of"' if title.startswith(" ") else ""
        shown = "".join(f'<td class="number">{cell}</td>' for cell in cells)
        lines.append(f"<tr><td{kind}>{title.strip()}</td>{shown}</tr>")
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _score_rows(scores: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """The scores of a run as a table of text: the title and cells of every row, the head first."""
    columns = {"held-out frames": scores}
    if "held_out_subjects" in scores:
        columns["held-out subjects"] = scores["held_out_subjects"]
    names = [name for name in ROWS if any(name in column for column in columns.values())]
    rows = [(ROWS[name], [_score(column.get(name)) for column in columns.values()]) for name in names]
    return [("on novel views", list(columns)), *rows]


def _score(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, (int, float)) and not math.isnan(value) else "–"


def _charts(curves: Curves) -> list[str]:
    """A chart for each loss, score and other value, stage by stage."""
    parts = []
    for stage in curves.stages():
        charts = [chart(name, {name: curve}) for name, curve in curves.of(stage, "losses").items()]
        charts += _validation(curves.of(stage, "validation"))
        charts.append(chart("learning rates", curves.of(stage, "rates"), smooth=False))
        for name, (steps, values) in curves.of(stage, ALONE).items():
            # A value that is always zero, such as a count of skipped steps, needs no chart.
            if np.nan_to_num(values).any():
                title, smooth = name.replace("_", " "), name == "images_per_second"
                charts.append(chart(title, {name: (steps, values)}, smooth))
        parts += [f"<h2>Stage {escape(stage)}</h2>", '<div class="charts">', *charts, "</div>"]
    return parts


def _validation(scores: dict[str, Curve]) -> list[str]:
    """A chart for each score, together with its baselines."""
    charts = []
    for name, curve in scores.items():
        if not name.endswith("_baseline"):
            beside = {f"{name}_{baseline}_baseline": baseline for baseline in ("background", "copy")}
            baselines = {baseline: scores[other] for other, baseline in beside.items() if other in scores}
            curves = {"model" if baselines else name: curve, **baselines}
            charts.append(chart(f"validation: {ROWS.get(name, name).strip()}", curves, smooth=False))
    return charts


def _pictures(folder: Path, last: int) -> list[str]:
    """Some of a folder's pictures, spread evenly over time, including the first and the last."""
    names = re.compile(r"(\d+)\.png")
    found = [(int(match[1]), path) for path in folder.glob("*.png") if (match := names.fullmatch(path.name))]
    found = sorted((step, path) for step, path in found if step <= last)
    if not found:
        return []
    chosen = sorted({round(i * (len(found) - 1) / (TIMES - 1)) for i in range(TIMES)})
    parts = ["<h2>Pictures of training pairs over time</h2>"]
    for i in chosen:
        step, path = found[i]
        parts += _picture(path, f"after {step} steps" if step else "before the training")
    return parts


def _picture(path: Path, caption: str) -> list[str]:
    """A figure with the picture embedded; empty if it cannot be read."""
    from PIL import Image

    try:
        data, kind = path.read_bytes(), "png"
        with Image.open(io.BytesIO(data)) as picture:
            if picture.width > WIDEST or len(data) > LARGEST:
                smaller = io.BytesIO()
                picture = picture.convert("RGB")
                picture.thumbnail((WIDEST, picture.height), Image.Resampling.LANCZOS)
                picture.save(smaller, "JPEG", quality=QUALITY)
                data, kind = smaller.getvalue(), "jpeg"
    except OSError:
        return []
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return [f'<figure><img alt="{escape(caption)}" src="{source}"><figcaption>{escape(caption)}</figcaption></figure>']


def _missing(curves: Curves, settings: TrainSettings) -> list[str]:
    """A line about a term of the image loss that was left out, as the classifier's weights were missing."""
    logged = curves.of("synthesis", "losses")
    left_out = [term for term in TERMS[settings.synthesis.image_loss] if term in CLASSIFIERS and term not in logged]
    text = "For want of the classifier's weights, the image loss was that of pixels alone."
    return [f"<p>{text}</p>"] if logged and left_out else []


def _settings(settings: TrainSettings) -> list[str]:
    """The settings that differ from the defaults, and the rest behind a line that opens."""
    values, defaults = dict(_flatten(settings)), dict(_flatten(TrainSettings()))
    changed = {name: value for name, value in values.items() if value != defaults[name]}
    rest = {name: value for name, value in values.items() if name not in changed}
    more = f"<details><summary>{len(rest)} more, at their defaults</summary>{_table(rest.items())}</details>"
    return [_table(changed.items()), more]


def _flatten(settings: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Settings by their names on the command line."""
    for field in fields(settings):
        name, value = f"{prefix}{field.name.replace('_', '-')}", getattr(settings, field.name)
        if is_dataclass(value):
            yield from _flatten(value, f"{name}.")
        else:
            yield name, value


def _environment(settings: TrainSettings, device: torch.device) -> dict[str, Any]:
    import hvs

    return {
        "device": _name(device),
        "processes": distribute.world(),
        "precision": str(choose_precision(settings.precision, device)).removeprefix("torch."),
        "hvs": hvs.__version__,
        "torch": torch.__version__,
        "Python": platform.python_version(),
        "system": platform.platform(),
    }


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


def _table(rows: Iterable[tuple[str, Any]]) -> str:
    cells = (f"<tr><td>{escape(name)}</td><td>{escape(_shown(value))}</td></tr>" for name, value in rows)
    return f"<table><tbody>{''.join(cells)}</tbody></table>"


def _shown(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return " ".join(map(_shown, value))
    return "–" if value is None else str(value)
