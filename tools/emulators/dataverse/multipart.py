"""`$batch`: many requests in one multipart body, and their answers in another (dataverse.md §4.1)."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field

from tools.emulators.dataverse.errors import DataverseError, bad_request

MAX_OPERATIONS = 1000
BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)
REASONS = {200: "OK", 204: "No Content", 304: "Not Modified", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden",
           404: "Not Found", 405: "Method Not Allowed", 412: "Precondition Failed", 414: "URI Too Long"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation:
    """One request inside the batch."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)  # names in lower case
    in_change_set: bool = False


def parse(body: bytes, content_type: str) -> list[Operation]:
    operations = _operations(body.decode("utf-8"), content_type, in_change_set=False)
    if len(operations) > MAX_OPERATIONS:
        raise bad_request(
            f"The batch has {len(operations)} operations; at most {MAX_OPERATIONS} are allowed.", "0x80048d06"
        )
    return operations


def _operations(text: str, content_type: str, *, in_change_set: bool) -> list[Operation]:
    found: list[Operation] = []
    for part in _parts(text, content_type):
        headers, rest = _headers(part)
        kind = headers.get("content-type", "")
        if kind.startswith("multipart/mixed"):
            found += _operations(rest, kind, in_change_set=True)
        elif kind.startswith("application/http"):
            found.append(_operation(rest, in_change_set))
        else:
            raise bad_request(f"A batch part has the content type '{kind}'.", "0x80048d19")
    return found


def _parts(text: str, content_type: str) -> list[str]:
    match = BOUNDARY.search(content_type)
    pieces = re.split(rf"(?:^|\r?\n)--{re.escape(match[1])}", text) if match else []
    if len(pieces) < 3 or not pieces[-1].startswith("--"):
        raise bad_request("The batch request has no proper boundary, or doesn't end with it.", "0x80048d19")
    return [re.sub(r"^[ \t]*\r?\n", "", piece, count=1) for piece in pieces[1:-1]]


def _headers(text: str) -> tuple[dict[str, str], str]:
    head, _, rest = text.replace("\r\n", "\n").partition("\n\n")
    lines = (line.partition(":") for line in head.split("\n") if ":" in line)
    return {name.strip().lower(): value.strip() for name, _, value in lines}, rest


def _operation(text: str, in_change_set: bool) -> Operation:
    first, _, rest = text.lstrip("\n").partition("\n")
    match = re.fullmatch(r"(\w+) (\S+) HTTP/1\.1", first.strip())
    if match is None:
        raise bad_request(f"The batch operation '{first[:80]}' is malformed.", "0x80048d19")
    return Operation(match[1], match[2], _headers(rest + "\n\n")[0], in_change_set)


@dataclass(frozen=True, slots=True)
class Part:
    """One answer inside the batch's answer."""

    status: int
    headers: dict[str, str]
    body: str


def write(parts: list[Part]) -> tuple[bytes, str]:
    """The body and its content type; the boundary is new, as the service's is."""
    boundary = f"batchresponse_{uuid.uuid4()}"
    text = "".join(f"--{boundary}\r\n{_written(part)}\r\n" for part in parts)
    return f"{text}--{boundary}--\r\n".encode(), f"multipart/mixed; boundary={boundary}"


def _written(part: Part) -> str:
    headers = dict(part.headers)
    if part.status >= 400:
        headers["REQ_ID"] = str(uuid.uuid4())
    if part.body:
        headers["Content-Type"] = "application/json; odata.metadata=minimal; odata.streaming=true"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    outer = "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    return f"{outer}HTTP/1.1 {part.status} {REASONS.get(part.status, 'Error')}\r\n{lines}\r\n{part.body}"


def refuse(operation: Operation) -> None:
    if operation.in_change_set and operation.method == "GET":
        raise DataverseError(400, "0x80060888", "GET is not allowed inside a change set.")
