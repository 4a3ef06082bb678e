"""What browsers connect to."""

import contextlib
import errno
import io
import math
import socket
from collections.abc import Iterator

import torch
import viser
from torch import Tensor
from viser.transforms import SO3

from hvs.geometry.rotations import frame_from_direction
from hvs.runtime import UserError

from .artist import Artist
from .cast import Cast
from .page import Page
from .wanted import Wanted

# Ports that are tried before giving up.
PORTS = 20
# The window's height at first, beside that of a picture which the person fills.
ROOM = 1.15
GROUND = 8.0


@contextlib.contextmanager
def serve(host: str, port: int, cast: Cast, artist: Artist, wanted: Wanted[Page]) -> Iterator[str]:
    """A server of pages that ask to be drawn; gives its address."""
    pages: dict[int, Page] = {}
    # What the server prints of itself is in other words than ours.
    with contextlib.redirect_stdout(io.StringIO()):
        server = viser.ViserServer(host, port, label="hvs", verbose=False)
    # Whoever sees a page could make it public for the whole world, by way of somebody else's server.
    server.request_share_url = lambda verbose=True: None
    server.gui.configure_theme(show_logo=False, show_share_button=False, dark_mode=True)
    _set_scene(server, cast.footage.up, artist)

    @server.on_client_connect
    def _(client: viser.ClientHandle) -> None:
        pages[client.client_id] = Page(client, cast, artist.skeleton, wanted.put)

    @server.on_client_disconnect
    def _(client: viser.ClientHandle) -> None:
        if page := pages.pop(client.client_id, None):
            page.close()
            wanted.drop(page)

    try:
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{server.get_port()}"
    finally:
        with contextlib.redirect_stdout(io.StringIO()):
            server.stop()


def free_port(host: str, port: int) -> int:
    """The port, or the next one that is free.

    Raises:
        UserError: none is, or there is no such address to listen on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    last = min(port + PORTS, 2**16) - 1
    for candidate in range(port, last + 1):
        try:
            with socket.create_server((host, candidate), family=family) as found:
                return found.getsockname()[1]
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise UserError(f"host, port: cannot listen on {host}, port {candidate} ({error.strerror})") from error
    raise UserError(f"port: {port} to {last} are all in use on {host}")


def _set_scene(server: viser.ViserServer, up: Tensor, artist: Artist) -> None:
    """The ground under the person, and where the browser's camera is at first."""
    pose, camera = artist.first, artist.start
    server.scene.set_up_direction(tuple(up.tolist()))
    server.initial_camera.position = camera.to_world(torch.zeros(1, 3, device=camera.t.device))[0].cpu().numpy()
    server.initial_camera.look_at = pose.centre.numpy()
    server.initial_camera.fov = 2 * math.atan(ROOM * camera.height / 2 / camera.K[1, 1].item())
    feet = (pose.points[0].cpu() @ up).min()
    place = pose.centre + (feet - pose.centre @ up) * up
    # The ground's first axis is its normal.
    wxyz = SO3.from_matrix(frame_from_direction(up).double().numpy()).wxyz
    server.scene.add_grid("/ground", GROUND, GROUND, plane="yz", wxyz=wxyz, position=place.numpy())
