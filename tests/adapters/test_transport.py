"""The transport against small servers that misbehave on purpose."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from sync_core.adapters.clock import SystemClock
from sync_core.adapters.transport import Again, Bearer, Memo, Reply, Transport, retry_after, status_error
from sync_core.errors import ConfigurationError, DeltaLinkExpired, SplitBatch, Throttled, Unavailable
from tests.fakes import FakeClock
from tools.emulators.serving import serving

Behaviour = Callable[[socket.socket, bytes], None]


def says(status: str, body: bytes = b"{}", *headers: str) -> Behaviour:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers])
    return lambda peer, request: peer.sendall(head.encode() + b"\r\n\r\n" + body)


def hangs_up(peer: socket.socket, request: bytes) -> None:
    """No answer at all."""


def stops_midway(peer: socket.socket, request: bytes) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")


def is_slow(peer: socket.socket, request: bytes) -> None:
    time.sleep(0.5)


class Server:
    """Behaves once per connection, in order, the last one for ever; remembers what it was sent."""

    def __init__(self, *behaviours: Behaviour) -> None:
        self._behaviours = list(behaviours)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.requests: list[bytes] = []
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def run(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            with peer:
                self.requests.append(peer.recv(65536))
                behave = self._behaviours.pop(0) if len(self._behaviours) > 1 else self._behaviours[0]
                behave(peer, self.requests[-1])

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@contextmanager
def serves(*behaviours: Behaviour) -> Iterator[Server]:
    server = Server(*behaviours)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(5)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def transport(clock: FakeClock) -> Transport:
    return Transport("Service", clock, random=lambda: 0.5)


def test_a_whole_answer_is_a_reply_whatever_its_status(transport: Transport) -> None:
    with serves(says("502 Bad", b"<html>", "X-Thing: 1")) as server:
        reply = transport.send("GET", server.url, read_timeout=5)

    assert (reply.status, reply.body, reply.headers["x-thing"], reply.json()) == (502, b"<html>", "1", None)


def test_gzip_is_asked_for_and_undone(transport: Transport) -> None:
    with serves(says("200 OK", gzip.compress(b'{"a":1}'), "Content-Encoding: gzip")) as server:
        assert transport.send("GET", server.url, read_timeout=5).json() == {"a": 1}
    assert b"Accept-Encoding: gzip\r\n" in server.requests[0]


def test_cookies_are_dropped(transport: Transport) -> None:
    with serves(says("200 OK", b"{}", "Set-Cookie: ARRAffinity=1; Path=/")) as server:
        transport.send("GET", server.url, read_timeout=5)
        transport.send("GET", server.url, read_timeout=5)
    assert b"cookie" not in server.requests[1].lower()


def test_a_netrc_entry_does_not_take_the_tokens_place(transport, tmp_path, monkeypatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password something\n")
    monkeypatch.setenv("NETRC", str(netrc))

    with serves(says("200 OK")) as server:
        transport.send("GET", server.url, read_timeout=5, auth=Bearer("token"))
        transport.send("GET", server.url, read_timeout=5)

    assert b"Authorization: Bearer token\r\n" in server.requests[0]
    assert b"Authorization" not in server.requests[1]


def test_redirects_are_not_followed(transport: Transport) -> None:
    with serves(says("302 Found", b"", "Location: http://127.0.0.1:1/")) as server:
        reply = transport.send("GET", server.url, read_timeout=5)

    assert isinstance(transport.refuse(reply), ConfigurationError)


@pytest.mark.parametrize("behaviour", [hangs_up, stops_midway, is_slow])
def test_silence_after_sending_may_hide_that_it_was_done(transport: Transport, behaviour: Behaviour) -> None:
    with serves(behaviour) as server, pytest.raises(Unavailable) as lost:
        transport.send("POST", f"{server.url}/path?query=secret", read_timeout=0.2, data=b"secret")

    assert lost.value.unanswered
    assert "Service POST /path: no answer" in str(lost.value)
    assert "secret" not in str(lost.value)


def test_nothing_was_done_where_nobody_listened(transport: Transport) -> None:
    with serves(says("200 OK")) as server:
        url = server.url

    with pytest.raises(Unavailable) as lost:
        transport.send("POST", url, read_timeout=1)
    assert not lost.value.unanswered
    host = url.removeprefix("http://")
    assert str(lost.value).endswith(f"(ConnectionError): nothing answers at {host}, so check the URL if that lasts")


def test_a_body_that_drips_in_is_given_up(clock: FakeClock, transport: Transport) -> None:
    def drips(peer: socket.socket, request: bytes) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
        clock.sleep(60)
        peer.sendall(b"b")

    with serves(drips) as server, pytest.raises(Unavailable):
        transport.send("GET", server.url, read_timeout=5)


def test_a_strange_certificate_is_never_trusted(transport, tmp_path, monkeypatch) -> None:
    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "0")])
        return [b""]

    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    with serving(app, folder=tmp_path) as url:
        with pytest.raises(ConfigurationError, match="REQUESTS_CA_BUNDLE"):
            transport.send("GET", url, read_timeout=5)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))

        assert transport.send("GET", url, read_timeout=5).ok


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (302, ConfigurationError),
        (400, ConfigurationError),
        (401, ConfigurationError),
        (403, ConfigurationError),
        (404, ConfigurationError),
        (408, Unavailable),
        (410, DeltaLinkExpired),
        (413, SplitBatch),
        (418, ConfigurationError),
        (429, Throttled),
        (500, Unavailable),
        (502, Unavailable),
        (503, Unavailable),
        (504, Unavailable),
        (599, Unavailable),
    ],
)
def test_every_status_has_an_error_that_says_what_happens_next(status: int, error: type) -> None:
    assert status_error(status) is error


def test_a_5xx_says_nothing_about_a_write(transport: Transport) -> None:
    for write in (True, False):
        refused = transport.refuse(Reply(502, {}, b"<html>"), write=write)
        assert isinstance(refused, Again)
        assert refused.unanswered is write


@pytest.mark.parametrize("status", [429, 503])
def test_a_short_retry_after_is_waited_for_here_and_a_long_one_by_the_queue(transport: Transport, status: int) -> None:
    short = transport.refuse(Reply(status, {"Retry-After": "30"}, b""))
    long = transport.refuse(Reply(status, {"Retry-After": "31"}, b""))

    assert isinstance(short, Again)
    assert short.after == 30
    assert isinstance(long, Throttled | Unavailable)
    assert long.delay == 31


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5.0), ("Mon, 02 Mar 2026 08:00:10 GMT", 10.0), ("Mon, 02 Mar 2026 07:00:00 GMT", 0.0), ("soon", None)],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float | None) -> None:
    reply = Reply(503, {"Retry-After": text}, b"")

    assert retry_after(reply, datetime(2026, 3, 2, 8, 0, tzinfo=UTC)) == seconds


def failing(times: int, *, after: float | None = None) -> Callable[[], str]:
    left = [Again(Throttled("busy", delay=60), after=after)] * times

    def attempt() -> str:
        if left:
            raise left.pop()
        return "done"

    return attempt


def test_attempts_are_repeated_with_growing_waits(clock: FakeClock, transport: Transport) -> None:
    assert transport.repeat(failing(3)) == "done"
    assert clock.monotonic() == 1 + 2 + 4


def test_the_wait_is_the_one_asked_for(clock: FakeClock, transport: Transport) -> None:
    assert transport.repeat(failing(1, after=20)) == "done"
    assert clock.monotonic() == 20.5


def test_the_last_error_itself_comes_out_after_four_attempts(transport: Transport) -> None:
    with pytest.raises(Throttled) as error:
        transport.repeat(failing(4))
    assert error.value.delay == 60


def test_no_repetition_starts_after_the_time_is_over(clock: FakeClock, transport: Transport) -> None:
    with pytest.raises(Throttled):
        transport.repeat(failing(2, after=20), seconds=30)
    assert clock.monotonic() < 30


def test_other_errors_are_not_repeated(clock: FakeClock, transport: Transport) -> None:
    def attempt() -> None:
        raise ConfigurationError("no")

    with pytest.raises(ConfigurationError):
        transport.repeat(attempt)
    assert clock.monotonic() == 0


def test_a_memo_asks_again_when_its_time_is_over(clock: FakeClock) -> None:
    memo: Memo[int] = Memo(clock, 60)
    asked = iter(range(10))

    first = [memo.get("key", lambda: next(asked)) for _ in range(2)]
    clock.sleep(60)
    second = memo.get("key", lambda: next(asked))
    memo.forget()

    assert (first, second, memo.get("key", lambda: next(asked))) == ([0, 0], 1, 2)


def test_the_system_clock_tells_utc_and_never_sleeps_backwards() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    clock.sleep(-1)

    assert clock.now().utcoffset() is not None
    assert clock.monotonic() >= before
