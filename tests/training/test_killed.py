"""A training that is killed again and again ends as one that never was.

HVS_KILLS=50 kills it as often as that; twice by default.
"""

import json
import multiprocessing
import os
import random
import threading
import time
from dataclasses import replace

import pytest
from PIL import Image

import hvs
from hvs.data.torch_files import read_torch_file
from hvs.training.state import Checkpoints
from tests.quick import quick_trainings

from .states import same

KILLS = int(os.environ.get("HVS_KILLS", 2))
SEED = 5


pytestmark = pytest.mark.usefixtures("quick")


def train_quietly(settings):
    """In a process of its own."""
    from tqdm import tqdm

    import train

    # Its own would be one of several processes, and left over when this one is killed.
    tqdm.set_lock(threading.RLock())
    with open(os.devnull, "w") as nowhere:
        for number in (1, 2):
            os.dup2(nowhere.fileno(), number)
    with quick_trainings():
        train.Trainer(settings).run()


def start(target, *arguments):
    # Every process is a copy of one that has imported what takes long and has done nothing else.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch.utils.tensorboard", "torchvision", "torchmetrics", "tyro", "lmdb"])
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def check_files(run):
    """Nothing that bears its final name is half written."""
    for path in run.glob("checkpoints/[!.]*"):
        assert path.suffix == ".pt"
        read_torch_file(path)
    for path in run.glob("[!.]*.safetensors"):
        hvs.load(path)
    for path in run.glob("metrics.json"):
        json.loads(path.read_text())
    for path in run.glob("preview.png"):
        Image.open(path).load()


def final(settings):
    """All that a run ends with, but for its seconds."""
    models = [hvs.load(settings.run / f"{name}.safetensors").state_dict() for name in ("best", "model")]
    return Checkpoints(settings.run).load() | {"seconds": 0.0}, models


def test_a_run_killed_at_any_moment_ends_with_the_same_bits(settings):
    changes = dict(image_loss="adaptive", average=0.9, steps=3)
    settings = replace(settings, checkpoint_every=1, keep=2, resume="auto")
    settings = replace(settings, lifter=replace(settings.lifter, steps=2))
    settings = replace(settings, synthesis=replace(settings.synthesis, **changes))
    # Until there is one to copy.
    start(int).join()
    started = time.monotonic()
    whole = replace(settings, run=settings.run.with_name("whole"))
    process = start(train_quietly, whole)
    process.join()
    took = time.monotonic() - started
    assert process.exitcode == 0
    wanted = final(whole)
    moments = random.Random(SEED)
    kills, runs = 0, 0
    while kills < KILLS:
        runs += 1
        settings = replace(settings, run=settings.run.with_name(f"killed-{runs}"))
        # The last one is left to finish.
        while True:
            process = start(train_quietly, settings)
            process.join(moments.uniform(0, 0.85 * took) if kills < KILLS else None)
            if process.exitcode is not None:
                break
            process.kill()
            process.join()
            kills += 1
            check_files(settings.run)
        assert process.exitcode == 0
        check_files(settings.run)
        assert same(final(settings), wanted)
        # Half-written files of whatever was killed are gone.
        assert not list(settings.run.rglob(".*"))
    print(f"killed {kills} times in {runs} runs")
