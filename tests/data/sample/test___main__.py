import subprocess
import sys


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "hvs.data.sample", *arguments], capture_output=True, text=True)


def test_prints_the_path_and_nothing_else_on_standard_output(model, tmp_path):
    small = ("--subjects", "2", "--frames", "6", "--views", "2", "--height", "36", "--width", "64")
    done = run("--layout", "human36m", "--root", str(tmp_path / "sample"), *small)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'sample'}\n"
    assert "Warp" not in done.stderr
    assert (tmp_path / "sample" / "splits.json").exists()


def test_bad_input_is_one_line_and_exit_code_2(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    done = run("--root", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: root: {tmp_path} holds something other than this sample")
    assert done.stderr.count("\n") == 1


def test_impossible_settings_end_with_their_reason_and_exit_code_2():
    done = run("--frames", "2")
    assert done.returncode == 2
    assert "frames: got 2, wanted at least 6" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_tells_what_every_setting_is():
    done = run("--help")
    text = " ".join(done.stdout.replace("│", " ").split())
    assert "usage: python -m hvs.data.sample" in text
    assert "--width INT width of the pictures, in pixels. (default: 480)" in text
    assert "--height INT height of the pictures, in pixels; those of the Human3.6M layouts are square" in text


def test_a_file_in_the_way_is_told_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    done = run("--root", str(tmp_path / "file"))
    assert (done.returncode, done.stderr) == (2, f"error: [Errno 20] Not a directory: '{tmp_path / 'file'}'\n")
