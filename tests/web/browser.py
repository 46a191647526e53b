"""A browser without a screen: it follows links and sends forms as they stand in the pages, and keeps no cookie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from sync_core.flows.validate import Setup
from sync_core.web.render import BASE
from sync_core.web.site import Site
from sync_core.web.wire import Request, Response
from tests.flows.test_validate import a_setup
from tests.stage import Stage

HOST = "sync.azurewebsites.test"
KEY = "k3y/with+signs=="


class Page(HTMLParser):
    """What stands in a page: its text, the ids with their text, links by text and by id, forms."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.status, self.html, self.headers = response.status, response.body, response.headers
        self.ids: dict[str, str] = {}
        self.links: dict[str, str] = {}
        self.forms: dict[str, dict[str, Any]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[tuple[str, str | None, list[str], str | None]] = []
        self._form: dict[str, Any] | None = None
        self._words: list[str] = []
        self.feed(response.body)
        self.text = " ".join(" ".join(self._words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag == "form":
            self._form = {"method": given.get("method"), "action": given["action"], "fields": {}}
            self.forms[str(given.get("id"))] = self._form
        if tag == "input" and self._form is not None and given.get("name"):
            self._form["fields"][given["name"]] = given.get("value") or ""
        if tag not in ("input", "meta", "link", "br"):
            self._open.append((tag, given.get("id"), [], given.get("href") if tag == "a" else None))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        while self._open:
            name, key, words, href = self._open.pop()
            text = " ".join(" ".join(words).split())
            if key:
                assert key not in self.ids, f"the id {key} stands twice"
                self.ids[key] = text
            if href is not None:
                self.links[key or text] = href
            if name == tag:
                return

    def handle_data(self, data: str) -> None:
        if any(name in ("style", "script") for name, *_ in self._open):
            return
        self._words.append(data)
        for _, _, words, _ in self._open:
            words.append(data)


@dataclass
class Browser:
    """*code*: the function's key; *headers*: what it, or the platform, adds to each request."""

    site: Site
    code: str = KEY
    headers: Mapping[str, str] = field(default_factory=dict)

    def answer(self, page: str = "", method: str = "GET", body: str = "", **query: str) -> Response:
        given = query | ({"code": self.code} if self.code else {})
        sent = Request(page, method, given, dict(self.headers), HOST, body.encode())
        return self.site.answer(sent)

    def open(self, page: str = "", **query: str) -> Page:
        return Page(self.answer(page, **query))

    def follow(self, address: str) -> Page:
        """What a link leads to, by nothing but what stands in it."""
        parts = urlsplit(address)
        assert parts.path == BASE or parts.path.startswith(f"{BASE}/")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        request = Request(parts.path.removeprefix(BASE).strip("/"), "GET", query, dict(self.headers), HOST)
        return Page(self.site.answer(request))

    def send(self, form: Mapping[str, Any], **fields: str) -> Response:
        """A POST form as it stands, with *fields* filled in."""
        parts = urlsplit(form["action"])
        assert form["method"] == "post"
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        body = urlencode(form["fields"] | fields).encode()
        page = parts.path.removeprefix(BASE).strip("/")
        headers = {"content-type": "application/x-www-form-urlencoded", **self.headers}
        return self.site.answer(Request(page, "POST", query, headers, HOST, body))

    def do(self, action: str, fields: Mapping[str, str] | None = None, **query: str) -> Page:
        """Ask for an action, confirm it, and go where that leads."""
        asked = self.open(f"actions/{action}", **query)
        assert asked.status == 200, asked.text
        done = self.send(asked.forms["confirm"], **(fields or {}))
        assert done.status == 303, Page(done).text
        return self.follow(done.headers["Location"])


def a_site(stage: Stage, env: Mapping[str, str] | None = None, **changes: Any) -> Site:
    def setup() -> Setup:
        return a_setup(stage)

    return Site(lambda: stage.engine, setup, env or {}, **changes)
