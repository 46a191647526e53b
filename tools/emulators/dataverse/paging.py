"""Pages, delta tokens and the links between them (dataverse.md §3.1, §3.2, §4).

A cookie carries everything the next page needs, so the server keeps nothing between two requests.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from urllib.parse import quote, unquote

from tools.emulators.dataverse.errors import bad_request, expired_version
from tools.emulators.dataverse.queries import Query, comes_after, ordered, position_keys
from tools.emulators.dataverse.state import DataverseState
from tools.emulators.dataverse.store import Row, Store

TOKEN_TIME = "%m/%d/%Y %H:%M:%S"  # noqa: S105 - a date format
COOKIE = re.compile(
    r'<cookie pagenumber="(?P<page>\d+)" pagingcookie="(?P<inner>[^"]*)" istracking="(?P<tracking>True|False)" />'
)
INNER = re.compile(r'<cookie page="\d+"><position last="(?P<last>[^"]*)" sum="(?P<sum>[0-9a-f]+)" /></cookie>')
NEWEST_FIRST = [("versionnumber", True)]


@dataclass(frozen=True, slots=True)
class Cookie:
    """Where a read stands. *since* is None for a first read; *upto* is the version at which it began."""

    page: int = 1
    tracking: bool = False
    since: int | None = None
    upto: int = 0
    last: str | None = None  # key of the last row sent
    keys: tuple[Any, ...] = ()  # its values in the order asked for
    done: int = 0  # version of the last change sent
    deletions: bool = False  # the changes are through, the deletions have begun


@dataclass(frozen=True, slots=True)
class Page:
    """One answer: *items* are rows, or (id) strings for deleted ones, in wire order; *next* where it goes on."""

    items: list[Row | str]
    next: Cookie | None


# -- cookies ------------------------------------------------------------------------------------------


def write_cookie(state: DataverseState, cookie: Cookie, bound_to: str) -> str:
    """The value of `$skiptoken`, decoded; *bound_to* is the rest of the link, which nobody may change."""
    last = json.dumps(asdict(cookie), separators=(",", ":"))
    inner = (
        f'<cookie page="{cookie.page}"><position last="{_hex(last)}" sum="{_sum(state, last, bound_to)}" /></cookie>'
    )
    return f'<cookie pagenumber="{cookie.page}" pagingcookie="{quote(quote(inner))}" istracking="{cookie.tracking}" />'


def read_cookie(state: DataverseState, text: str, bound_to: str) -> Cookie:
    outer = COOKIE.fullmatch(text)
    inner = INNER.fullmatch(unquote(unquote(outer["inner"]))) if outer else None
    if outer is None or inner is None:
        raise bad_request("Malformed XML in the Paging Cookie", "0x80060888")
    last = bytes.fromhex(inner["last"]).decode()
    cookie = Cookie(**json.loads(last))
    genuine = hmac.compare_digest(inner["sum"], _sum(state, last, bound_to))
    if not genuine or cookie.page != int(outer["page"]):
        raise bad_request("The paging cookie doesn't belong to this query", "0x80060888")
    return replace(cookie, keys=tuple(cookie.keys))


def _hex(text: str) -> str:
    return text.encode().hex()


def _sum(state: DataverseState, last: str, bound_to: str) -> str:
    return hmac.new(state.signing_key.encode(), f"{last}\n{bound_to}".encode(), hashlib.sha256).hexdigest()[:16]


# -- delta tokens -------------------------------------------------------------------------------------


def delta_token(state: DataverseState, version: int) -> str:
    """`<version>!<MM/dd/yyyy HH:mm:ss>`, decoded (dataverse.md §3.1)."""
    return f"{version}!{state.clock.now().strftime(TOKEN_TIME)}"


def delta_link(root: str, query: Query, token: str) -> str:
    """The link repeats `$select`; the token is percent-encoded with lower-case hex."""
    encoded = re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), quote(token, safe=""))
    select = f"$select={','.join(query.select)}&" if query.select else ""
    return f"{root}{query.table.set_name}?{select}$deltatoken={encoded}"


def read_delta_token(state: DataverseState, store: Store, text: str) -> int:
    """The version in the token, if it is still good."""
    version, _, moment = text.partition("!")
    try:
        taken = datetime.strptime(moment, TOKEN_TIME).replace(tzinfo=UTC)
        number = int(version)
    except ValueError as error:
        raise bad_request(f"The delta token '{text[:60]}' is not valid.", "0x80040203") from error
    too_old = state.clock.now() - taken > timedelta(days=state.retention_days)
    if too_old or number < store.valid_from:
        raise expired_version(state.switches["expired_link_status"])
    return number


def next_token(state: DataverseState, cookie: Cookie, *, changed: bool) -> str:
    """The token of a finished read (switches token_position and empty_delta_token)."""
    switches = state.switches
    if cookie.since is not None and not changed and "stays" in switches["empty_delta_token"]:
        return delta_token(state, cookie.since)
    return delta_token(state, state.version if "end" in switches["token_position"] else cookie.upto)


# -- reading ------------------------------------------------------------------------------------------


def read_rows(store: Store, query: Query, cookie: Cookie, size: int) -> Page:
    """A page of an ordinary read, or of the first tracked one."""
    rows = _matching_rows(store, query, cookie)
    found = list(islice(rows, size + 1))
    if len(found) <= size:
        return Page(list(found), None)
    last = found[size - 1]
    keys = tuple(position_keys(query, last))
    return Page(list(found[:size]), replace(cookie, page=cookie.page + 1, last=last[store.table.key], keys=keys))


def count_rows(store: Store, query: Query) -> int:
    return sum(1 for _ in _matching_rows(store, query, Cookie()))


def _matching_rows(store: Store, query: Query, cookie: Cookie) -> Iterator[Row]:
    candidates, newest_first = query.condition.candidates(store) if query.condition else None, False
    if candidates is not None:
        rows: Iterable[Row] = (store.rows[row_id] for row_id in sorted(candidates) if row_id in store.rows)
    elif newest_first := [(column.name, down) for column, down in query.order] == NEWEST_FIRST:
        rows = store.newest()
    else:
        rows = store.after(None if query.order else cookie.last)
    if query.condition:
        rows = filter(query.condition.holds, rows)
    if query.order and not newest_first:
        rows = ordered(list(rows), query)
    if cookie.last and (query.order or candidates is not None):
        rows = filter(_behind(query, cookie), rows)
    return iter(rows)


def _behind(query: Query, cookie: Cookie) -> Callable[[Row], bool]:
    keys, last = list(cookie.keys), cookie.last or ""
    return lambda row: comes_after(query, row, keys, last)


def read_changes(state: DataverseState, store: Store, query: Query, cookie: Cookie, size: int) -> Page:
    """A page of a delta: changed rows by ascending version, then deletions (dataverse.md §3.3)."""
    found = list(islice(_changes(state, store, cookie, query.select), size + 1))
    items: list[Row | str] = [item for _, item, _ in found[:size]]
    if len(found) <= size:
        return Page(items, None)
    version, _, deletion = found[size - 1]
    return Page(items, replace(cookie, page=cookie.page + 1, done=version, deletions=deletion))


def count_changes(state: DataverseState, store: Store, since: int) -> int:
    return sum(1 for _ in _changes(state, store, Cookie(since=since, upto=state.version)))


def _changes(
    state: DataverseState, store: Store, cookie: Cookie, select: Collection[str] = ()
) -> Iterator[tuple[int, Row | str, bool]]:
    since = cookie.since or 0
    repeats = bool(state.switches["repeat_changed_rows"])
    columns = tuple(select) if state.switches["reemit"] == "selected" and "*" not in select else ()
    if not cookie.deletions:
        for version, row in store.changes(max(since, cookie.done), cookie.upto, repeats=repeats):
            if columns and not store.changed_in(row[store.table.key], columns, since):
                continue
            listed = row if row["versionnumber"] == version else {**row, "versionnumber": version}
            yield version, listed, False
    behind = max(since, cookie.done) if cookie.deletions else since
    for version, row_id in store.removals(behind, cookie.upto):
        yield version, row_id, True


def bound(set_name: str, options: Mapping[str, str]) -> str:
    """What a cookie is bound to: the table and every option but the cookie itself."""
    kept = sorted((name, value) for name, value in options.items() if name not in {"$skiptoken", "$deltatoken"})
    return json.dumps([set_name, kept])
