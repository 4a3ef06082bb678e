import asyncio
import threading
import warnings
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("viser")

from hvs import Camera
from hvs.inference.live import server
from hvs.inference.live.wanted import Wanted
from hvs.runtime import UserError

UP = torch.tensor([0.0, -1.0, 0.0])


class Viser:
    """A server that nobody can reach; it keeps what is to be called."""

    def __init__(self, host, port, **_):
        self.port, self.initial_camera, self.stopped = port, SimpleNamespace(), False
        self.gui = SimpleNamespace(configure_theme=lambda **_: None)
        self.scene = SimpleNamespace(set_up_direction=lambda _: None)
        Viser.last = self

    def on_client_connect(self, call):
        self.connect = call

    def on_client_disconnect(self, call):
        self.disconnect = call

    def get_port(self):
        return self.port

    def stop(self):
        self.stopped = True


@pytest.fixture
def cast():
    K = torch.tensor([[100.0, 0, 50], [0, 100, 50], [0, 0, 1]])
    camera = Camera.look_at(torch.tensor([0.0, -1.0, -4.0]), torch.zeros(3), UP, K, 100, 100)
    pose = SimpleNamespace(centre=torch.zeros(3), radius=1.0)
    return SimpleNamespace(first=pose, footage=SimpleNamespace(up=UP, view="00"), cameras={"00": camera})


def test_pages_are_made_and_closed_in_the_order_of_the_browsers_messages(cast, monkeypatch):
    made = []

    class Page:
        def __init__(self, client, cast, ask):
            self.client, self.closed = client, False
            made.append(self)
            ask(self)

        def close(self):
            self.closed = True

    monkeypatch.setattr(server, "Page", Page)
    monkeypatch.setattr(server.viser, "ViserServer", Viser)
    wanted = Wanted()
    stays, leaves = SimpleNamespace(client_id=1), SimpleNamespace(client_id=2)
    with server.serve("127.0.0.1", 8080, cast, wanted) as address:
        # Only coroutines are waited for; all else runs in threads, as it happens.
        asyncio.run(Viser.last.connect(leaves))
        asyncio.run(Viser.last.connect(stays))
        asyncio.run(Viser.last.disconnect(leaves))
    assert address == "http://127.0.0.1:8080" and Viser.last.stopped
    assert [(page.client, page.closed) for page in made] == [(leaves, True), (stays, False)]
    assert wanted.take() is made[1]


def test_a_browser_that_does_not_answer_is_not_waited_for(cast, monkeypatch):
    answer = threading.Event()
    monkeypatch.setattr(server.viser, "ViserServer", Viser)
    monkeypatch.setattr(Viser, "stop", lambda _: answer.wait(60))
    monkeypatch.setattr(server, "PATIENCE", 0.01)
    with server.serve("127.0.0.1", 8080, cast, Wanted()):
        pass
    assert not answer.is_set()
    answer.set()


def test_a_browser_that_has_just_left_is_no_warning(cast, monkeypatch):
    monkeypatch.setattr(server.viser, "ViserServer", Viser)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with server.serve("127.0.0.1", 8080, cast, Wanted()):
            warnings.warn("Queued a GuiUpdateMessage on a closed connection (e.g. via a handle ...)", stacklevel=1)
    assert not told


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("fe80::1", "[fe80::1]"),
        ("192.168.0.7", "192.168.0.7"),
        ("localhost", "localhost"),
    ],
)
def test_the_address_can_be_opened(host, shown):
    assert server.openable(host) == shown


@pytest.mark.parametrize("host", ["\udce4", "a" * 70, "a..b"])
def test_what_is_no_name_is_told(host):
    with pytest.raises(UserError, match=r"host"):
        server.free_port(host, 8080)
