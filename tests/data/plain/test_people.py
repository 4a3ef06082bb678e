import json
import pickle

import pytest

from hvs.data.plain.people import People
from hvs.data.stores import DataError, MissingFrameError

ROWS = [[1, 2, 0.5]] * 17


def test_one_file_for_a_view_is_read_once(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"3": ROWS, "1": []}))
    people = People(tmp_path)
    assert people.frames("a") == [1, 3]
    (tmp_path / "a.json").unlink()
    person, where = people.person("a", 3)
    assert person.tolist() == ROWS and where == f"{tmp_path / 'a.json'}: frame 3"
    assert people.person("a", 1)[0] is None
    with pytest.raises(MissingFrameError, match="a.json: no frame 2$"):
        people.person("a", 2)
    assert pickle.loads(pickle.dumps(people)).folder == tmp_path and len(pickle.dumps(people)) < 500


def test_one_file_for_a_frame(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "cam2_000000000012_keypoints.json").write_text(json.dumps(ROWS))
    (tmp_path / "a" / "notes.txt").touch()
    (tmp_path / "a" / ".hidden.json").touch()
    people = People(tmp_path)
    assert people.frames("a") == [12] and people.person("a", 12)[0].shape == (17, 3)
    assert [person.shape for person in people.anybody(("a",))] == [(17, 3)]
    with pytest.raises(MissingFrameError, match="a: no frame 2$"):
        people.person("a", 2)


def test_broken_files_name_themselves(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "7.json").write_text('{"people": [')
    with pytest.raises(DataError, match="7.json: not a readable JSON file"):
        People(tmp_path).person("a", 7)
    (tmp_path / "a" / "7.json").write_text('{"people": [3]}')
    with pytest.raises(DataError, match="7.json: no pose_keypoints_2d"):
        People(tmp_path).person("a", 7)
