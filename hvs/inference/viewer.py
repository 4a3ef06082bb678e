"""A live page in the browser: walk around a person and see what the network makes of them."""

import contextlib
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hvs.data import DataError
from hvs.runtime import UserError

from .live.artist import Artist
from .live.cast import Cast
from .live.wanted import Wanted
from .settings import InCapture
from .studio import Studio

if TYPE_CHECKING:
    from .live.page import Page


@dataclass(frozen=True)
class Viewer(InCapture):
    """A page to walk around a person with the mouse, with every view drawn live by the network.

    Only this machine can open it, unless --host says otherwise.
    """

    host: str = "127.0.0.1"
    """Address to listen on. "0.0.0.0" lets everybody who can reach this machine see the capture."""
    port: int = 8080
    """Port to listen on; if it is in use, the next free one is taken."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.port < 2**16:
            raise UserError(f"port: got {self.port}, wanted 0 to {2**16 - 1}")


def viewer(settings: Viewer) -> None:
    """Serve pages until Ctrl-C."""
    try:
        import viser  # noqa: F401
    except ImportError as error:
        raise UserError("the viewer needs viser: pip install -e '.[viewer]'") from error
    from .live.server import free_port, serve

    # First, as reading a model takes longer than finding out that the port cannot be used.
    port = free_port(settings.host, settings.port)
    studio = Studio(settings)
    cast = Cast(studio, settings)
    artist = Artist(studio, cast)
    wanted: Wanted[Page] = Wanted()
    with contextlib.suppress(KeyboardInterrupt), serve(settings.host, port, cast, wanted) as address:
        print(f"from   {cast.sequence.folder}, view {cast.footage.view}")
        print(f"open   {address}   (Ctrl-C ends it)", flush=True)
        draw_for_ever(artist, wanted)


def draw_for_ever(artist: Artist, wanted: "Wanted[Page]") -> None:
    """Draw what the pages want, one page after the other."""
    recent: list[float] = []
    while True:
        page = wanted.take()
        wish, start = page.wish, time.monotonic()
        if not page.shows(wish):
            try:
                page.announce(wish)
                drawn = artist.draw(wish)
                end = time.monotonic()
                recent = [moment for moment in recent if moment > end - 1] + [end]
                page.show(drawn, f"{1000 * (end - start):.0f} ms, {len(recent)} pictures/s")
            except Exception as error:
                # An error of one page does not end the others.
                page.complain(error)
                if not isinstance(error, (DataError, UserError)):
                    traceback.print_exc()
        page.go_on(time.monotonic() - start)
