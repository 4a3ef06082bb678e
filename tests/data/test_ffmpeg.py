import os
import subprocess
from itertools import islice

import numpy as np
import pytest

from hvs.data import DataError
from hvs.data.ffmpeg import count_frames, read_frames, write_frames


def pictures(count, height=37, width=51, seed=0):
    """Smooth pictures, each of another brightness."""
    y, x = np.mgrid[:height, :width]
    for i in range(count):
        yield np.uint8(np.stack((60 + 3 * x, 200 - 4 * y, np.full_like(x, 10 + 8 * i)), -1).clip(0, 255))


@pytest.fixture
def video(tmp_path):
    write_frames(tmp_path / "videos" / "a video.mp4", pictures(20), "30000/1001")
    return tmp_path / "videos" / "a video.mp4"


def test_a_video_gives_its_frames_back(video):
    assert count_frames(video) == 20
    found = np.stack(list(read_frames(video)))
    wanted = np.stack(list(pictures(20)))
    assert found.shape == wanted.shape and found.dtype == np.uint8
    assert np.abs(found.astype(int) - wanted).max() <= 6


def test_reading_can_begin_anywhere_and_end_early(video):
    wanted = list(read_frames(video))
    for first in (0, 7, 19):
        assert np.array_equal(np.stack(list(read_frames(video, first))), np.stack(wanted[first:]))
    assert list(read_frames(video, 20)) == []
    frames = read_frames(video)
    assert np.array_equal(next(frames), wanted[0])
    frames.close()
    assert len(list(islice(read_frames(video), 3))) == 3


def test_frames_at_odd_times_are_neither_dropped_nor_repeated(video, tmp_path):
    import imageio_ffmpeg

    odd = tmp_path / "odd.mp4"
    # Three frames at once, then a pause: a constant rate would change their number.
    filters = "setpts='if(lt(N,10),N*0.001,N*0.2)/TB'"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(video), "-vf", filters, "-fps_mode", "vfr"]
    subprocess.run([*command, "-enc_time_base", "1/90000", str(odd)], check=True, capture_output=True)
    assert count_frames(odd) == len(list(read_frames(odd))) == 20


def test_the_same_frames_give_the_same_bytes(video, tmp_path):
    write_frames(tmp_path / "again.mp4", pictures(20), "30000/1001")
    assert (tmp_path / "again.mp4").read_bytes() == video.read_bytes()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a video",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile other.mp4\n",
        b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nm=video 9 RTP/AVP 96\r\n",
    ],
    ids=["empty", "text", "playlist", "concat", "sdp"],
)
def test_what_is_no_video_is_named_and_opens_no_other_file(content, video, tmp_path):
    os.link(video, tmp_path / "other.mp4")
    file = tmp_path / "false.mp4"
    file.write_bytes(content)
    for read in (count_frames, lambda path: list(read_frames(path))):
        with pytest.raises(DataError, match=r"^[^\n]*false.mp4: ffmpeg cannot work with this video [^\n]*$") as caught:
            read(file)
        # The address of one of ffmpeg's objects says nothing.
        assert " @ 0x" not in str(caught.value)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_truncated_video_is_named(part, video):
    data = video.read_bytes()
    video.write_bytes(data[: int(part * len(data))])
    with pytest.raises(DataError, match="a video.mp4: "):
        count_frames(video)


def test_a_damaged_frame_is_told_and_not_left_out(video):
    data = bytearray(video.read_bytes())
    start = data.index(b"mdat")
    for place in range(start + 2500, len(data) - 2500):
        data[place] ^= 0x55
    video.write_bytes(data)
    assert count_frames(video) == 20
    with pytest.raises(DataError, match=r"a video.mp4: a damaged video, [0-9]+ of its 20 frames can be decoded$"):
        list(read_frames(video))


def test_a_frame_that_is_left_out_without_an_error_is_told(video):
    data = bytearray(video.read_bytes())
    # All frames take very long, so that most come after what the file says is its end.
    start = data.index(b"stts") + 16
    data[start : start + 4] = (2**31 - 1).to_bytes(4, "big")
    video.write_bytes(data)
    with pytest.raises(DataError, match=r"a video.mp4: a damaged video, [0-9]+ of its 20 frames can be decoded$"):
        list(read_frames(video))


def test_frames_that_are_only_declared_take_no_memory(video):
    """A table of them would have 24 bytes for each."""
    import resource

    data, count = bytearray(video.read_bytes()), (50_000_000).to_bytes(4, "big")
    # The sizes of all frames at once, the frames in a part of the file, and those of the same duration.
    for name, place, value in (
        (b"stsz", 8, (1).to_bytes(4, "big")),
        (b"stsz", 12, count),
        (b"stsc", 16, count),
        (b"stts", 12, count),
    ):
        start = data.index(name) + place
        data[start : start + 4] = value
    video.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    for read in (count_frames, lambda path: list(read_frames(path))):
        with pytest.raises(DataError, match="a video.mp4: "):
            read(video)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss - before < 2**20


def test_a_missing_video_is_named(tmp_path):
    with pytest.raises(DataError, match="none.mp4: no such video"):
        count_frames(tmp_path / "none.mp4")
    with pytest.raises(DataError, match="none.mp4: no such video"):
        next(read_frames(tmp_path / "none.mp4"))
