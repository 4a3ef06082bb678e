"""The capture that a run trains on: its data sets, checked against the model, and its broken files."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset

from .. import distribute
from ..config import DataSettings, TrainSettings
from ..data import PairDataset, PoseDataset, collate, even_subset
from ..data.poses import ReadPoses, fault_of_size
from ..data.sampling import Draws
from ..models import HumanViewSynthesis
from ..runtime import KILLED_READER, UserError
from .faults import Faults
from .interrupt import heed_parent


class Contents:
    """What a stage has to draw from, kept in its states: a run that resumes with something else notes that.

    Args:
        root: the capture's folder.
        name: of what is drawn, in the plural.
        count: how many of them there are.
    """

    def __init__(self, root: Path, name: str, count: int) -> None:
        self.root, self.name, self.count = str(Path(root).absolute()), name, count

    def state_dict(self) -> dict[str, Any]:
        return {"root": self.root, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Compare with those of the last state.

        Raises:
            LookupError, TypeError: it is not a state of these.
        """
        if (root := state["root"]) != self.root:
            warnings.warn(f"{self.root}: was not the capture of this run until now, which was {root}", stacklevel=2)
        elif (count := state["count"]) != self.count:
            warnings.warn(f"{self.root}: has {self.count} {self.name} to train on, no longer {count}", stacklevel=2)


class Capture:
    """The capture that a run reads: the sample, made if needed, unless the settings name another.

    Args:
        settings: of the run.
        model: the model that is trained on it.

    Attributes:
        root: its folder.
        faults: broken files that were skipped.

    Raises:
        UserError: the sample capture cannot have such settings; from the data sets, it is not one of the model's
            skeleton.
        ModuleNotFoundError: a package that makes the sample capture is not installed.
    """

    def __init__(self, settings: TrainSettings, model: HumanViewSynthesis) -> None:
        self.settings, self.model = settings, model
        self.root = settings.data.root or _make_sample(settings.data)
        self.faults = Faults(self.root, settings.data.max_faults)

    @property
    def at_once(self) -> int:
        """How many pairs this process takes at once, at most, in training and in scoring."""
        settings = self.settings.synthesis
        own = max(1, settings.batch_size // distribute.world())
        return min(own, settings.most_at_once or own)

    def contents(self, name: str, count: int) -> Contents:
        """What a stage has to draw from: so many of what goes by this name."""
        return Contents(self.root, name, count)

    @property
    def origin(self) -> dict[str, str]:
        """What the files of models say about it: where inference finds the capture they were trained on."""
        return {"root": str(Path(self.root).absolute())}

    def poses(self) -> PoseDataset:
        """All poses to train on."""
        dataset = PoseDataset(self.root, "train")
        self._check_skeleton(dataset)
        return dataset

    def tensors(self, dataset: PoseDataset) -> ReadPoses:
        """The poses that can be read, as tensors on the CPU; what had to be skipped, or seems wrong, is noted."""
        from tqdm import tqdm

        # Those of a published data set take many minutes.
        bar = tqdm(total=len(dataset.index.frames), desc="read poses", unit="frame", disable=not distribute.is_first())
        with bar, _no_reader_killed():
            read = dataset.tensors(self.settings.data.workers, heed_parent, bar.update)
        self.faults.note(read.faults, dataset)
        # Unknown joints are zero, as the root is.
        low, high = read.items["relative"].aminmax(dim=1)
        extents = (high - low).norm(dim=-1)[read.items["valid"].any(1)]
        if fault := fault_of_size(extents.median().item()):
            warnings.warn(f"{self.root}: {fault}", stacklevel=2)
        return read

    def pairs(self, split: str, subjects: str) -> PairDataset:
        """All pairs of two different views: a view of itself would not be novel."""
        model = self.model.settings
        sizes = model.input_resolution, model.target_resolution
        dataset = PairDataset(self.root, split, subjects, *sizes, model.resize, same_view=False)
        self._check_skeleton(dataset)
        return dataset

    def examples(self, dataset: PairDataset, count: int) -> Subset:
        """This many pairs, spread evenly; the same for every seed, so that the scores of runs can be compared."""
        return even_subset(dataset, count)

    def read(self, examples: Subset) -> list[dict[str, Any]]:
        """The pairs of :meth:`examples`; what had to be skipped for them is noted."""
        pairs = list(examples)
        self.faults.note(chain.from_iterable(pair["faults"] for pair in pairs), examples.dataset)
        return pairs

    def draws(self, dataset: PairDataset, steps: range) -> Draws:
        """This process's pairs for every step; that the batch can be shared has been checked before."""
        settings, balance = self.settings.synthesis, self.settings.data.balance
        part = distribute.rank(), distribute.world()
        options = settings.batch_size, self.settings.seed, steps, balance, settings.most_at_once, part
        return Draws(dataset.index, *options)

    def batches(self, dataset: PairDataset, draws: Draws, device: torch.device) -> Iterator[dict[str, Any]]:
        """Batches of the drawn pairs, read ahead and ready to be copied to the device without waiting."""
        loader = DataLoader(
            dataset,
            batch_sampler=draws,
            num_workers=self.settings.data.workers,
            collate_fn=collate,
            pin_memory=device.type == "cuda",
            # Its own generator: otherwise it would take a random number from those of the training, and another one
            # whenever a run is resumed.
            generator=torch.Generator(),
            worker_init_fn=heed_parent,
        )
        return self.noting(loader, dataset)

    def noting(self, batches: Iterable[dict[str, Any]], dataset: PairDataset) -> Iterator[dict[str, Any]]:
        """The batches; what had to be skipped for them is noted.

        Raises:
            UserError: a process that reads ahead was killed while it handed over a batch.
        """
        with _no_reader_killed():
            for batch in batches:
                self.faults.note(chain(*batch["faults"]), dataset)
                yield batch

    def _check_skeleton(self, dataset: PairDataset | PoseDataset) -> None:
        found, wanted = dataset.layout.skeleton, self.model.skeleton
        if found.name != wanted.name:
            got = f"is a {found.name} capture, but the model's skeleton is {wanted.name}"
            raise UserError(f"{self.root}: {got}; give --model.skeleton {found.name}")
        if found.joints != wanted.joints:
            raise UserError(f"{self.root}: its joints differ from those of --model.joints, or are in another order")


@contextmanager
def _no_reader_killed() -> Iterator[None]:
    """Say so if a process that reads ahead was killed while it handed over what it had read."""
    try:
        yield
    except ConnectionError as error:
        raise UserError(KILLED_READER) from error


def _make_sample(data: DataSettings) -> Path:
    from ..data.sample import SampleSettings, make_sample

    size = dict(height=data.sample_height, width=round(data.sample_height * 16 / 9))
    try:
        return make_sample(settings=SampleSettings(subjects=data.sample_subjects, frames=data.sample_frames, **size))
    except ValueError as error:
        raise UserError(f"the sample capture: {error}") from error
