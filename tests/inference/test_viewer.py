import base64
import io
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import infer
from hvs import HumanViewSynthesis
from hvs.checkpoint import save_model
from hvs.config import PRESETS
from hvs.runtime import run_command

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# A graphics card in software; a page of a container's root has no sandbox.
FLAGS = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]
SIZE = (720, 400)
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


@contextmanager
def serving(*arguments):
    """The viewer in a process of its own, and its address."""
    command = [sys.executable, "infer.py", "viewer", "--device", "cpu", "--port", "0", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) as server:
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
        page.get_by_text(re.compile(r"^Frame \d+: \d+ ms")).wait_for()

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
        x, y = SIZE[0] // 3, 3 * SIZE[1] // 4
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
        """What a picture becomes, once it is another and stays so."""

        def settled():
            first = get()
            self.page.wait_for_timeout(300)
            return first if _differ(first, than) and not _differ(first, get()) else None

        return self.wait(settled)


def _decode(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def _differ(one, two):
    return one is not None and (two is None or one.shape != two.shape or bool((one != two).any()))


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_walks_around_the_person(checkpoint):
    playwright = pytest.importorskip("playwright.sync_api")
    with serving("--checkpoint", str(checkpoint)) as (server, address), playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        browser = Browser(chromium.new_page(viewport=dict(width=SIZE[0], height=SIZE[1])), address)
        picture, screen = browser.wait(browser.behind), browser.screen()

        browser.drag((90, 20))
        turned = browser.wait_for_other(browser.behind, picture)
        assert _differ(browser.wait_for_other(browser.screen, screen), screen)

        # The Gaussians of the scene in 3D are where the latent image has them, beside the middle of the window too.
        browser.drag((80, -40), "right")
        aside = browser.wait_for_other(browser.behind, turned)
        browser.switch("Cameras")
        browser.switch("Ground")
        browser.choose("output", "latent")
        browser.wait_for_other(browser.behind, aside)
        latent = browser.wait_for_other(browser.screen, screen)
        browser.switch("Gaussians")
        both = browser.wait_for_other(browser.screen, latent)
        gaussians, limbs = (both != latent).any(-1), (abs(latent - latent[0, 0]) > 12).any(-1)
        np.save("/tmp/g.npy", np.stack((both, latent)))
        print(gaussians.mean(), limbs.mean(), limbs[gaussians].mean(), limbs[:, ::-1][gaussians].mean(), limbs[::-1][gaussians].mean())

        assert browser.errors == []
        # All that the page needs comes with it.
        assert all(url.startswith((f"{address}/", f"blob:{address}/", "data:")) for url in browser.requests)
        server.send_signal(signal.SIGINT)
        assert server.wait(PATIENCE) == 0 and "Traceback" not in server.stdout.read()
        chromium.close()
