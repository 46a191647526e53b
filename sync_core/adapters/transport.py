"""HTTP as both clients use it: one request, one reply or one of our errors, and short repetitions in the process.

`Transport.send` does one attempt. `Transport.repeat` runs an attempt again for as long as it raises `Again`;
the service's own client decides what deserves that, because Marketo says most of it inside HTTP 200.
Errors carry method, path, status, codes and request ids: never query, body, token, name or address.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import requests
import tenacity
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from sync_core import __version__, telemetry
from sync_core.errors import (
    ConfigurationError,
    DeltaLinkExpired,
    RetryLater,
    SplitBatch,
    SyncError,
    Throttled,
    Unavailable,
)
from sync_core.ports import Clock

T = TypeVar("T")

AGENT = f"opportunity-sync/{__version__}"

PATIENCE = 30.0
"""Seconds we wait in the process; whatever asks for more goes back to the queue."""

CONNECT_TIMEOUT = 10.0
ATTEMPTS = 4
TOTAL_SECONDS = 90.0
"""No repetition of a read starts later than this after the first attempt did."""

STATUS_ERRORS: Mapping[int, type[SyncError]] = {
    400: ConfigurationError,
    401: ConfigurationError,
    403: ConfigurationError,
    404: ConfigurationError,
    408: Unavailable,
    410: DeltaLinkExpired,
    413: SplitBatch,
    425: Unavailable,
    429: Throttled,
}
"""HTTP status → our error where the body says nothing better; dataverse.md §8, marketo.md §4.1."""

_CHUNK = 1 << 16
ERROR_BYTES = 1 << 16
"""Of an error's body: codes and texts stand at its beginning."""

LARGEST = 1 << 26
"""Bytes of a good answer: 200 rows with the longest texts Dataverse allows stay far below."""


def status_error(status: int) -> type[SyncError]:
    """Every 5xx may pass; every other unlisted status (a redirect, say) means that the address is wrong."""
    return STATUS_ERRORS.get(status, Unavailable if status >= 500 else ConfigurationError)


class Again(Exception):
    """This attempt failed with *error*, and another one in this process may pass, *after* seconds if told."""

    def __init__(self, error: RetryLater, *, after: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.after = after

    @property
    def unanswered(self) -> bool:
        return isinstance(self.error, Unavailable) and self.error.unanswered


class Bearer(AuthBase):
    """As an `auth` object, so that requests never puts a `.netrc` entry in the token's place."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class Anonymous(AuthBase):
    """No credentials, whatever the machine's `.netrc` says."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The decoded body, or None if it is no JSON (an HTML page of a gateway, a cut body)."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def request_id(self) -> str:
        found = self.headers.get("x-ms-service-request-id", self.headers.get("REQ_ID", ""))
        return found if re.fullmatch(r"[\w.#-]{1,64}", found) else ""


class Transport:
    """One session of one client: connections are reused, cookies dropped, TLS always verified.

    Trust follows `REQUESTS_CA_BUNDLE` (requests' `trust_env`). Cookies would tie us to one web server of
    Dataverse, whose limits are per server (dataverse.md §2).
    """

    def __init__(self, service: str, clock: Clock, *, random: Callable[[], float], connections: int = 32) -> None:
        self._service = service
        self._clock = clock
        self._random = random
        self._session = _session(connections)

    def send(
        self,
        method: str,
        url: str,
        *,
        read_timeout: float,
        auth: AuthBase | None = None,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
    ) -> Reply:
        """One attempt; any status is a reply.

        Raises Unavailable, with `unanswered` if the request may have been sent (the caller clears it for reads),
        and ConfigurationError if the server's certificate is not trusted. *read_timeout* (seconds) bounds each
        wait for bytes and the whole body.
        """
        where = f"{self._service} {method} {urlsplit(url).path}"
        deadline = self._clock.monotonic() + CONNECT_TIMEOUT + read_timeout
        telemetry.sent()
        try:
            with self._session.request(
                method,
                url,
                data=data,
                headers=headers,
                auth=auth or Anonymous(),
                timeout=(CONNECT_TIMEOUT, read_timeout),
                allow_redirects=False,
                stream=True,
            ) as response:
                reply = Reply(response.status_code, response.headers, self._body(response, deadline))
        except requests.RequestException as error:
            raise _lost(where, error) from None
        except OSError as error:  # requests says so when the file is not there
            raise ConfigurationError(f"REQUESTS_CA_BUNDLE can't be used: {error}") from None
        telemetry.answered(reply.status, reply.request_id)
        return reply

    def _body(self, response: requests.Response, deadline: float) -> bytes:
        """The whole body of a good answer; of any other its beginning, which is all that is looked at."""
        chunks: list[bytes] = []
        size, most = 0, LARGEST if response.ok else ERROR_BYTES
        for chunk in response.iter_content(_CHUNK):
            chunks.append(chunk)
            size += len(chunk)
            if self._clock.monotonic() > deadline:
                raise requests.ReadTimeout
            if size >= most and not response.ok:
                break
            if size > most:
                raise requests.exceptions.ContentDecodingError(f"the answer is longer than {most} bytes")
        return b"".join(chunks)

    def ask(
        self,
        method: str,
        url: str,
        *,
        read_timeout: float,
        auth: AuthBase | None = None,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
    ) -> Reply:
        """One attempt of something that changes nothing: silence is worth another one."""
        try:
            return self.send(method, url, read_timeout=read_timeout, auth=auth, headers=headers, data=data)
        except Unavailable as error:
            error.unanswered = False
            raise Again(error) from None

    def refuse(self, reply: Reply, detail: str = "", *, write: bool = False) -> SyncError | Again:
        """The error of STATUS_ERRORS for *reply*; as `Again` where waiting at most PATIENCE seconds may cure it."""
        kind = status_error(reply.status)
        told = retry_after(reply, self._clock.now())
        error = _error(kind, reply, self._text(reply, detail), told, write)
        if isinstance(error, RetryLater) and (told is None or told <= PATIENCE):
            return Again(error, after=told)
        return error

    def _text(self, reply: Reply, detail: str) -> str:
        request = f", request {reply.request_id}" if reply.request_id else ""
        return f"{self._service} answered HTTP {reply.status}{request}{': ' if detail else ''}{detail}"

    def repeat(self, attempt: Callable[[], T], *, seconds: float = TOTAL_SECONDS) -> T:
        """*attempt* until it raises no `Again`; then its result, or the last error itself.

        At most ATTEMPTS, none starting later than *seconds* after the first; waits are as told, else 1, 2, 4 …
        seconds, with jitter.
        """
        started = self._clock.monotonic()

        def enough(state: tenacity.RetryCallState) -> bool:
            spent = self._clock.monotonic() - started
            return state.attempt_number >= ATTEMPTS or spent + state.upcoming_sleep > seconds

        retrying = tenacity.Retrying(
            sleep=self._clock.sleep,
            retry=tenacity.retry_if_exception_type(Again),
            wait=self._wait,
            stop=enough,
            reraise=True,
        )
        try:
            return retrying(attempt)
        except Again as again:
            raise again.error from None

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        told = error.after if isinstance(error, Again) else None
        if told is not None:
            return told + self._random()
        return float(2 ** (state.attempt_number - 1)) * (0.5 + self._random())


def _session(connections: int) -> requests.Session:
    session = requests.Session()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers.update({"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": AGENT})
    for scheme in ("https://", "http://"):  # plain HTTP only on loopback, see settings.py
        session.mount(scheme, HTTPAdapter(pool_connections=4, pool_maxsize=connections))
    return session


def _error(kind: type[SyncError], reply: Reply, text: str, told: float | None, write: bool) -> SyncError:
    delay = 60.0 if told is None else told
    if kind is SplitBatch:
        return SplitBatch(str(reply.status), text)
    if kind is Unavailable:
        return Unavailable(text, delay=delay, unanswered=write)
    return Throttled(text, delay=delay) if kind is Throttled else kind(text)


def _lost(where: str, error: requests.RequestException) -> SyncError:
    """Which requests' error means that nothing was sent, and which that nobody knows."""
    if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return ConfigurationError(f"{where}: its TLS certificate is not trusted; check the URL and REQUESTS_CA_BUNDLE")
    sent = not isinstance(error, requests.ConnectTimeout) and not _never_connected(error)
    host = urlsplit(str(error.request.url)).netloc if error.request is not None else "its address"
    hint = "" if sent else f": nothing answers at {host}, so check the URL if that lasts"
    return Unavailable(f"{where}: no answer ({type(error).__name__}){hint}", unanswered=sent)


def _never_connected(error: requests.RequestException) -> bool:
    """Whether urllib3 gave up before a connection stood (refused, unknown host)."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, urllib3.exceptions.NewConnectionError | urllib3.exceptions.NameResolutionError)


def retry_after(reply: Reply, now: datetime) -> float | None:
    """Seconds of `Retry-After`, given in seconds or as an HTTP date; None if there is none that can be read."""
    text = reply.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - now).total_seconds())
    except (ValueError, TypeError):
        return None


class Memo(Generic[T]):
    """Answers that change rarely, kept per key for *seconds*."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._kept: dict[object, tuple[float, T]] = {}
        self._lock = threading.Lock()

    def get(self, key: object, fetch: Callable[[], T]) -> T:
        """The kept answer of *key*, or a new one; two threads may ask at once, which costs a call and no more."""
        with self._lock:
            until, value = self._kept.get(key, (0.0, None))
        if value is not None and self._clock.monotonic() < until:
            return value
        fresh = fetch()
        with self._lock:
            self._kept[key] = (self._clock.monotonic() + self._seconds, fresh)
        return fresh

    def forget(self) -> bool:
        """Whether anything was kept."""
        with self._lock:
            kept = bool(self._kept)
            self._kept.clear()
        return kept
