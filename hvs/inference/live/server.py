"""The server that browsers connect to."""

import contextlib
import errno
import io
import math
import socket
import threading
import warnings
from collections.abc import Iterator

import torch
import viser
from torch import Tensor

from hvs.geometry import Camera
from hvs.runtime import UserError

from .cast import Cast, Pose
from .page import Page
from .wanted import Wanted

# Number of ports to try before giving up.
PORTS = 20
# Seconds for the browsers to say goodbye when the server stops.
PATIENCE = 1.0
# A browser's camera at first: angles in radians, and the radius it shows as a multiple of the person's.
ELEVATION, FOV = math.radians(12), math.radians(50)
SPACE = 1.5


@contextlib.contextmanager
def serve(host: str, port: int, cast: Cast, wanted: Wanted[Page]) -> Iterator[str]:
    """Run a server whose pages ask to be drawn; yields its address."""
    pages: dict[int, Page] = {}
    # A browser may leave between the moment when a picture is drawn for it and the one when it is sent.
    warnings.filterwarnings("ignore", r"Queued a \w+ on a closed connection")
    # Hides the server's own messages, which are worded unlike ours.
    with contextlib.redirect_stdout(io.StringIO()):
        server = viser.ViserServer(host, port, label="hvs", verbose=False)
    # Otherwise anybody who sees a page could publish it to the whole world through a third party's server.
    server.request_share_url = lambda verbose=True: None
    server.gui.configure_theme(show_logo=False, show_share_button=False, dark_mode=True)
    pose, footage = cast.first, cast.footage
    server.scene.set_up_direction(tuple(footage.up.tolist()))
    server.initial_camera.position = start(pose, cast.cameras[footage.view], footage.up).numpy()
    server.initial_camera.look_at = pose.centre.numpy()
    server.initial_camera.fov = FOV

    # Coroutines run in the thread where messages arrive, one after the other: no message is lost while a page is made,
    # and no page is made for a browser that has already left.
    @server.on_client_connect
    async def _(client: viser.ClientHandle) -> None:
        pages[client.client_id] = Page(client, cast, wanted.put)

    @server.on_client_disconnect
    async def _(client: viser.ClientHandle) -> None:
        if page := pages.pop(client.client_id, None):
            page.close()
            wanted.drop(page)

    try:
        yield f"http://{openable(host)}:{server.get_port()}"
    finally:
        # It waits much longer for a browser that does not answer, such as that of a machine which was sent to sleep.
        stopping = threading.Thread(target=server.stop, daemon=True)
        with contextlib.redirect_stdout(io.StringIO()):
            stopping.start()
            stopping.join(PATIENCE)


def free_port(host: str, port: int) -> int:
    """The port, or the next one that is free.

    Raises:
        UserError: none is free, or there is no such address to listen on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    last = min(port + PORTS, 2**16) - 1
    for candidate in range(port, last + 1):
        try:
            with socket.create_server((host, candidate), family=family) as found:
                return found.getsockname()[1]
        except (TypeError, UnicodeError) as error:
            raise UserError(f"host: got {host!r}, which is not the name of a machine") from error
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise UserError(f"host, port: cannot listen on {host}, port {candidate} ({error.strerror})") from error
    raise UserError(f"port: {port} to {last} are all in use on {host}")


def openable(host: str) -> str:
    """The name under which a browser on this machine opens an address that is listened on, which may be a wildcard."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def start(pose: Pose, source: Camera, up: Tensor) -> Tensor:
    """First position of a browser's camera in the world, [3]: a third of a turn from the input's, which is in sight.

    Args:
        pose: the person's pose.
        source: the input's camera.
        up: the world's up direction, [3].
    """
    distance = SPACE * pose.radius / math.sin(FOV / 2)
    towards = source.position - pose.centre
    return Camera.orbit(pose.centre, up, distance, 3, torch.eye(3), 1, 1, ELEVATION, towards).position[1]
