"""Checkpoints as the original's training wrote them."""

import re
import zipfile
from dataclasses import asdict, replace

import torch

from hvs import skeletons
from hvs.models import HumanViewSynthesis, ModelSettings

SETTINGS = ModelSettings(
    skeleton="human36m",
    d_embedding=96,
    input_resolution=32,
    rendering_resolution=16,
    target_resolution=32,
    appearance_features=4,
    base_channels=8,
    encoder_depth=18,
)

# From the names here to those of the original, written down the other way round than in the package.
BACK = [
    (r"^lifter\.stem\.0\.", "p2p.layers.0.linear."),
    (r"^lifter\.stem\.1\.", "p2p.layers.0.norm."),
    (r"^lifter\.head\.", "p2p.layers.3."),
    (r"^encoder\.backbone\.conv1\.", "i2a.layers.0."),
    (r"^encoder\.backbone\.bn1\.", "i2a.layers.1."),
    (r"^encoder\.backbone\.fc\.", "i2a.layers.10."),
    (r"^decoder\.stem\.", "r2i.in_block."),
    (r"^decoder\.down\.", "r2i.down_blocks."),
    (r"^decoder\.middle\.", "r2i.mid_blocks."),
    (r"^decoder\.up\.(\d)\.", r"r2i.up_blocks.\1.0."),
    (r"^decoder\.merge\.(\d)\.", r"r2i.merge_blocks.\1.0."),
    (r"^decoder\.outer\.", "r2i.outer_blocks."),
    (r"^decoder\.to_rgb\.", "r2i.out_block.0."),
]


def original_name(name):
    name = re.sub(
        r"^lifter\.blocks\.(\d)\.(\d)\.(\d)\.",
        lambda m: f"p2p.layers.{int(m[1]) + 1}.layers.{m[2]}.{'linear' if m[3] == '0' else 'norm'}.",
        name,
    )
    name = re.sub(r"^encoder\.backbone\.layer(\d)\.", lambda m: f"i2a.layers.{int(m[1]) + 3}.", name)
    for pattern, replacement in BACK:
        name = re.sub(pattern, replacement, name)
    if name.startswith("r2i."):
        stem, _, last = name.rpartition(".")
        if stem.endswith(".style"):
            stem = stem.removesuffix("style") + "c.linear"
        elif stem.endswith(".moment"):
            stem = stem.removesuffix("moment") + "n.ema"
            last = {"mean_square": "average"}.get(last, last)
        else:
            stem += ".c"
        name = f"{stem}.{last}"
    return f"model.{name}"


def hyper_parameters(skeleton=skeletons.HUMAN36M):
    """Of a model of these SETTINGS, with values that shape no model beside them."""
    left_out = ("skeleton", "joints", "limbs", "alpha", "encoder_depth", "resize")
    hyper = {name: value for name, value in asdict(SETTINGS).items() if name not in left_out}
    return hyper | {
        "joints": {name: index for index, name in enumerate(skeleton.joints)},
        "edges": tuple(skeleton.edges),
        "widths": torch.tensor(skeleton.widths).reshape(-1, 1, 1),
        "image_loss": "lpips",
        "lr": 0.002,
    }


def lightning_content(model):
    """A model of the original's shape, as Lightning 1.5 lays it out."""
    state = {original_name(name): value for name, value in model.state_dict().items()}
    return {"epoch": 3, "global_step": 8192, "state_dict": state, "hyper_parameters": hyper_parameters(model.skeleton)}


def original_model(**changes):
    torch.manual_seed(0)
    return HumanViewSynthesis(replace(SETTINGS, encoder_depth=50, resize="original", **changes))


def replace_pickle(path, data):
    with zipfile.ZipFile(path) as file:
        entries = {entry.filename: file.read(entry) for entry in file.infolist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            file.writestr(name, data if name.endswith("data.pkl") else content)
