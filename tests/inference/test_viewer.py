import base64
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import infer
from hvs import HumanViewSynthesis
from hvs.checkpoint import save_model
from hvs.inference.viewer import draw_for_ever
from hvs.presets import PRESETS
from hvs.runtime import UserError, run_command

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# A graphics card in software; a page of a container's root has no sandbox.
FLAGS = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]
SIZE = (720, 400)
STATUS = re.compile(r"^Frame \d+, \d+ of \d+: \d+ ms")
# Nothing is waited for this long, unless something is wrong.
PATIENCE = 120
# Every picture that the page decodes, as a data URL: those of the window's shape are what is behind the scene in 3D.
KEEP_PICTURES = """
window.pictures = [];
const make = URL.createObjectURL;
URL.createObjectURL = (blob) => {
    if (blob.type.startsWith("image/")) {
        const reader = new FileReader();
        reader.onload = () => window.pictures.push(reader.result);
        reader.readAsDataURL(blob);
    }
    return make.call(URL, blob);
};
"""


@pytest.fixture
def checkpoint(tmp_path, capture):
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    save_model(path, HumanViewSynthesis(PRESETS["tiny"].model), dict(root=str(capture.root)))
    return path


@pytest.fixture
def command(checkpoint, monkeypatch, capsys):
    def run(*arguments: str) -> tuple[int, str]:
        fixed = ["infer.py", "viewer", "--checkpoint", str(checkpoint), "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", [*fixed, *arguments])
        with pytest.raises(SystemExit) as stop:
            run_command(infer.main)
        return stop.value.code, capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "70000"], "port: got 70000, wanted 0 to 65535"),
        (["--host", "203.0.113.7"], "host, port: cannot listen on 203.0.113.7, port 8080"),
        (["--interval", "50", "60"], "no frame of 50 to 60 has a person, its frames are 0 to 7"),
        (["--sequence", "nobody"], "sequence: got 'nobody', wanted one of ann/Subsequences/0, bob/Subsequences/0"),
        (["--view", "77"], "view: got '77', wanted one of 00, 01, 02"),
        (["--appearance-frames", "0"], "appearance_frames: got 0"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_arguments_end_with_one_line(command, arguments, message):
    code, error = command(*arguments)
    assert code == 2 and error.startswith("error: ") and message in error and error.count("\n") == 1


def test_without_viser_it_says_how_to_get_it(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    code, error = command()
    assert code == 2 and error == "error: the viewer needs viser: pip install -e '.[viewer]'\n"


def test_a_port_in_use_is_passed_over():
    pytest.importorskip("viser")
    from hvs.inference.live import server

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert port < server.free_port("127.0.0.1", port) < port + server.PORTS


def test_when_all_ports_are_in_use_it_says_so(monkeypatch):
    pytest.importorskip("viser")
    from hvs.inference.live import server

    monkeypatch.setattr(server, "PORTS", 1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port: {port} to {port} are all in use on 127.0.0.1"):
            server.free_port("127.0.0.1", port)


class Page:
    """What wants one picture after the other, and keeps what it is told."""

    def __init__(self, *wishes):
        self.wishes, self.told = list(wishes), []

    @property
    def wish(self):
        return self.wishes.pop(0)

    def shows(self, wish):
        return False

    def announce(self, wish):
        self.announced = wish

    def show(self, drawn, status):
        # It was told of before it was drawn.
        assert self.announced == drawn
        if drawn == "no picture":
            raise ValueError(drawn)
        self.told.append(drawn)

    def complain(self, error):
        self.told.append(error)

    def go_on(self, spent):
        pass


class Artist:
    """Draws a wish as it is, and fails where that is an error."""

    def draw(self, wish):
        if isinstance(wish, Exception):
            raise wish
        return wish


def draw_for(*pages):
    """One page after the other, and no more."""
    with pytest.raises(StopIteration):
        draw_for_ever(Artist(), SimpleNamespace(take=iter(pages).__next__))


def test_what_one_page_meets_is_told_there_and_ends_nothing(capsys):
    broken, other = RuntimeError("out of\nmemory"), UserError("nobody is in the image")
    one, two = Page(broken, other, "no picture", "a"), Page("b")
    draw_for(one, two, one, one, one)
    assert one.told[:2] == [broken, other] and str(one.told[2]) == "no picture" and one.told[3] == "a"
    assert two.told == ["b"]
    # The user's own mistakes are no traceback.
    printed = capsys.readouterr().err
    assert printed.count("Traceback") == 2 and "RuntimeError: out of" in printed and "nobody" not in printed


@contextmanager
def serving(*arguments):
    """The viewer in a process of its own, and its address."""
    command = [sys.executable, "infer.py", "viewer", "--device", "cpu", "--port", "0", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    # What runs in the background of a shell does not hear of an interrupt unless it says that it wants to.
    hear = dict(preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    with subprocess.Popen(command, cwd=ROOT, env=environment, **pipes, **hear) as server:
        try:
            lines = []
            for line in server.stdout:
                lines.append(line)
                if found := re.search(r"http://\S+", line):
                    yield server, found.group()
                    return
            pytest.fail("".join(lines))
        finally:
            server.kill()


class Browser:
    """A page of the viewer in a browser without a screen."""

    def __init__(self, page, address):
        self.page, self.errors, self.requests = page, [], []
        page.set_default_timeout(1000 * PATIENCE)
        page.add_init_script(KEEP_PICTURES)
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(address)
        page.get_by_text(STATUS).wait_for()

    def behind(self):
        """The last picture behind the scene in 3D that the browser was sent, [H, W, 3]."""
        for url in reversed(self.page.evaluate("window.pictures")):
            picture = _decode(base64.b64decode(url.partition(",")[2]))
            if abs(picture.shape[1] / picture.shape[0] - SIZE[0] / SIZE[1]) < 0.1:
                return picture
        return None

    def screen(self):
        """What the window shows but for controls and messages, [H, W, 3]."""
        only = "body * {visibility: hidden} canvas {visibility: visible}"
        return _decode(self.page.screenshot(style=only))

    def drag(self, by, button="left"):
        # Neither on the controls nor on the message that the graphics are slow.
        x, y = 40, SIZE[1] - 60
        self.page.mouse.move(x, y)
        self.page.mouse.down(button=button)
        self.page.mouse.move(x + by[0], y + by[1], steps=4)
        self.page.mouse.up(button=button)

    def switch(self, name):
        self.page.get_by_role("checkbox", name=name, exact=True).dispatch_event("click")

    def choose(self, old, new):
        self.page.locator(f"input[role=combobox][value='{old}']").first.dispatch_event("click")
        self.page.get_by_role("option", name=new, exact=True).dispatch_event("click")

    def wait(self, condition):
        """What a condition gives, as soon as that is something."""
        for _ in range(10 * PATIENCE):
            if (value := condition()) is not None:
                return value
            self.page.wait_for_timeout(100)
        pytest.fail("waited in vain")

    def wait_for_other(self, get, than):
        """What a picture has become, when it is another than it was and changes no more."""
        last = None

        def settled():
            nonlocal last
            before, last = last, get()
            return last if _differ(last, than) and not _differ(last, before) else None

        return self.wait(settled)


def _decode(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def _middle(where):
    """The mean place of what is marked, (x, y)."""
    y, x = np.nonzero(where)
    return np.array((x.mean(), y.mean()))


def _differ(one, two):
    return one is not None and (two is None or one.shape != two.shape or bool((one != two).any()))


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_walks_around_the_person(checkpoint):
    playwright = pytest.importorskip("playwright.sync_api")
    with serving("--checkpoint", str(checkpoint)) as (server, address), playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        browser = Browser(chromium.new_page(viewport=dict(width=SIZE[0], height=SIZE[1])), address)
        picture, screen = browser.wait(browser.behind), browser.screen()

        browser.drag((70, 20))
        turned = browser.wait_for_other(browser.behind, picture)
        browser.wait(lambda: _differ(browser.screen(), screen) or None)

        # The Gaussians of the scene in 3D are where the latent image has them, beside the middle of the window too.
        browser.drag((60, -30), "right")
        browser.switch("Cameras")
        browser.switch("Ground")
        aside = browser.wait_for_other(browser.behind, turned)
        browser.choose("output", "latent")

        def shows_latent():
            # Not merely a picture of the network's that was late: the corner has another colour.
            empty = browser.behind()[0, 0]
            new = (abs(empty - aside[0, 0]) > 3).any()
            return (new and (abs(browser.screen()[0, 0] - empty) < 3).all()) or None

        browser.wait(shows_latent)
        latent = browser.wait_for_other(browser.screen, screen)
        browser.switch("Gaussians")
        both = browser.wait_for_other(browser.screen, latent)
        gaussians, limbs = _middle((both != latent).any(-1)), _middle((abs(latent - latent[0, 0]) > 12).any(-1))
        middle = np.array(SIZE) / 2
        assert (abs(gaussians - middle) > 15).all() and (abs(gaussians - limbs) < 8).all()

        status = browser.page.get_by_text(STATUS)
        before = status.text_content().partition(":")[0]
        browser.switch("Play")
        browser.wait(lambda: status.text_content().partition(":")[0] != before or None)

        assert browser.errors == []
        # All that the page needs comes with it.
        assert all(url.startswith((f"{address}/", f"blob:{address}/", "data:")) for url in browser.requests)
        # Whoever leaves, even while time goes on, disturbs nobody.
        browser.page.close()
        Browser(chromium.new_page(viewport=dict(width=SIZE[0], height=SIZE[1])), address)
        server.send_signal(signal.SIGINT)
        assert server.wait(PATIENCE) == 0 and "Traceback" not in server.stdout.read()
        chromium.close()
