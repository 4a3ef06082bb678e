import pytest
import torch
from PIL import Image

from hvs.data.plain import PlainSequence
from hvs.data.sample import plain as writer
from tests.captures import Capture, jpeg


class PlainCapture:
    """The same as `Capture` holds, in plain files."""

    def __init__(self, root, camera_kind="json", keypoint_kind="openpose", **options):
        self.source = Capture(root.with_name("prepared"), **options)
        self.root, self.camera_kind, self.keypoint_kind = root, camera_kind, keypoint_kind
        self.folder = root / "ann"

    def keypoints(self, view):
        source = self.source
        labels = torch.stack([source.keypoint_label(view, frame)[..., 0] for frame in source.frames])
        if labels.shape[-1] == 2:
            labels = torch.cat((labels, torch.ones(*labels.shape[:-1], 1)), -1)
        last = labels.new_tensor(source.size) - 1
        return labels * ((labels[..., :2] >= 0) & (labels[..., :2] <= last)).all(-1, keepdim=True)

    def write(self):
        source = self.source
        views = range(len(source.views))
        cameras = dict(zip(source.views, source.cameras, strict=True))
        keypoints = {source.views[view]: self.keypoints(view) for view in views}
        shots = [[(jpeg(source.image(v, f)), jpeg(source.mask())) for v in views] for f in source.frames]
        for name in ("ann", "bob"):
            writer.write(self.root / name, cameras, keypoints, shots, self.camera_kind, self.keypoint_kind)
        return self

    def sequence(self, **options):
        return PlainSequence(self.folder, "ann", **options)

    def file(self, place, view="01", frame=2):
        (found,) = (self.folder / place / view).glob(f"*{frame:06d}[._]*")
        return found

    def picture(self, change, place="images", view="01", frame=2, **options):
        """Write a picture anew, changed; it keeps its name."""
        file = self.file(place, view, frame)
        with Image.open(file) as picture:
            picture.load()
        change(picture).save(file, **options)


@pytest.fixture
def plain(tmp_path):
    return PlainCapture(tmp_path / "plain").write()


@pytest.fixture
def write_plain(tmp_path):
    return lambda **options: PlainCapture(tmp_path / "plain", **options).write()
