"""What a fault does to an answer on its way: lost, cut, replaced by a gateway's page.

A connection that breaks is a ConnectionResetError out of the WSGI application; `serving` makes a real reset of it,
a test client in the same process sees the exception itself.
"""

from __future__ import annotations

import errno
import gzip
import html
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Protocol

from werkzeug.wrappers import Response

from tools.emulators.faults import Strike


class FrozenOrNot(Protocol):
    """A clock of either emulator."""

    @property
    def frozen(self) -> bool: ...

    def advance(self, seconds: float) -> None: ...


def wait(clock: FrozenOrNot, seconds: float) -> None:
    """A frozen clock is moved, one that runs is waited for."""
    if clock.frozen:
        clock.advance(seconds)
    else:
        time.sleep(seconds)


def reset() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, "the fault plan breaks the connection")


def conveyed(strike: Strike | None, work: Callable[[], Response]) -> Response:
    """The answer of *work* as *strike* lets it through. Faults that aren't of the wire are left to *work*."""
    fault = strike.fault if strike else ""
    if strike is None or fault not in BROKEN | REPLACED:
        if fault == "reset":
            raise reset()
        return work()
    if fault in BROKEN:
        return BROKEN[fault](work())
    if strike["handled"]:
        work()
    return REPLACED[fault](strike)


def broken_in_the_middle(response: Response) -> Response:
    """The Content-Length is still that of the whole body: so the caller notices."""
    body = response.get_data()
    return Response(_then_reset(body[: len(body) // 2]), response.status_code, response.headers)


def _then_reset(piece: bytes) -> Iterator[bytes]:
    yield piece
    raise reset()


def truncated(response: Response) -> Response:
    """Half of the text; not compressed, as half an archive would be a different fault."""
    body = response.get_data()
    if response.headers.pop("Content-Encoding", "") == "gzip":
        body = gzip.decompress(body)
    response.set_data(body[: len(body) // 2])
    return response


def emptied(response: Response) -> Response:
    return Response(b"", 200, content_type=response.content_type)


def page(status: int) -> Response:
    """As nginx words it (marketo.md §1.1)."""
    title = html.escape(f"{status} {phrase(status)}")
    body = f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
    body += "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    return Response(body, status, {"Server": "nginx"}, content_type="text/html")


NGINX_PHRASES = {413: "Request Entity Too Large", 414: "Request-URI Too Large", 504: "Gateway Time-out"}


def phrase(status: int) -> str:
    known = {each.value: each.phrase for each in HTTPStatus}
    return NGINX_PHRASES.get(status) or known.get(status, "Unknown")


def bare(strike: Strike) -> Response:
    told = strike["retry_after"]
    return Response(b"", strike["status"], {} if told is None else {"Retry-After": str(told)})


BROKEN: dict[str, Callable[[Response], Response]] = {
    "reset_mid_body": broken_in_the_middle,
    "truncated": truncated,
    "empty": emptied,
}
REPLACED: dict[str, Callable[[Strike], Response]] = {
    "html": lambda strike: page(strike["status"]),
    "status": bare,
}
