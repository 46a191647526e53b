"""Every app setting, read once: complete, or not at all but for what no write depends on (design.md §8)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from sync_core.errors import ConfigurationError
from sync_core.model import DEFAULT_SCHEDULE

STORAGE = "AzureWebJobsStorage"
TELEMETRY = ("", "console", "off")  # '': to Application Insights, if its connection string is set
LONGEST_LATE_WRITE_S = 300  # a failed message comes back after host.json's visibilityTimeout, no sooner (§2.4)
SIGN_INS = ("key", "entra")  # who may open the status page: sync_core.web.door
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_HOST = re.compile(r"[A-Za-z0-9.-]+|::1")
_KEYS = re.compile(r"(?:AccountKey|SharedAccessSignature|InstrumentationKey)=([^;]+)")


WHERE = "Functions read app settings (locally local.settings.json), commands the environment."


class Problem(NamedTuple):
    """What is wrong with a setting, '' if it is missing."""

    setting: str
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The app settings by their environment names in lower case; secrets never show in `repr`.

    `sync_schedule` is as it was written: the functions' host reads it by itself, and only `validate` judges it.
    `doubts`: what is wrong with settings that have their defaults instead.
    """

    dataverse_url: str
    dataverse_tenant_id: str = ""
    dataverse_client_id: str = ""
    dataverse_client_secret: str = field(default="", repr=False)
    dataverse_client_secret_expires: datetime | None = None
    dataverse_client_certificate: str = field(default="", repr=False)
    dataverse_federated_client_id: str = ""
    dataverse_authority_host: str = "https://login.microsoftonline.com"
    marketo_url: str
    marketo_client_id: str
    marketo_client_secret: str = field(repr=False)
    marketo_calls_per_20s: int = 50
    marketo_concurrency: int = 5
    marketo_daily_calls: int = 25_000
    marketo_late_write_s: int = 300
    alert_webhook_url: str = field(default="", repr=False)
    sync_schedule: str = DEFAULT_SCHEDULE
    sync_config: str = "sync.toml"
    status_sign_in: str = "key"
    storage_connection: str = field(default="", repr=False)
    storage_queue_uri: str = ""
    storage_table_uri: str = ""
    storage_blob_uri: str = ""
    storage_client_id: str = ""
    applicationinsights_connection_string: str = field(default="", repr=False)
    sync_telemetry: str = ""
    doubts: tuple[Problem, ...] = ()

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read *env*; one ConfigurationError names everything that is missing or wrong, with the remedy.

        What is wrong with `HARMLESS` settings alone raises nothing.
        """
        settings, problems = cls.read(env)
        if problems:
            missing = [_OR.get(each.setting, each.setting) for each in problems if not each.text]
            told = [f"missing settings: {', '.join(missing)}"] if missing else []
            told += [each.text for each in (*problems, *settings.doubts) if each.text]
            raise ConfigurationError(f"{'; '.join(told)}. {WHERE}")
        return settings

    @classmethod
    def read(cls, env: Mapping[str, str]) -> tuple[Settings, Sequence[Problem]]:
        """As much of *env* as can be used, and what is missing or wrong; something harmless stands in for that.

        What is wrong with `HARMLESS` settings is in `doubts` instead.
        """
        values: dict[str, str | int | datetime] = {}
        problems: list[Problem] = []
        unread: set[str] = set()
        for item in (each for each in fields(cls) if each.name != "doubts"):
            text = env.get(_environment(item.name), "").strip()
            if _UNREAD.match(text):
                unread.add(item.name)
                problems.append(Problem(_environment(item.name), f"{_environment(item.name)} {_UNREAD_TEXT}"))
            elif text:
                values[item.name] = _READERS.get(str(item.type), _text)(item.name, text, problems)
        given = values.keys() | unread
        missing = [name for name in _REQUIRED if name.lower() not in given]
        if "storage_connection" not in given and not {"storage_queue_uri", "storage_table_uri"} <= given:
            missing.append(STORAGE)
        if given & {*_SECRETS, "dataverse_federated_client_id"}:
            missing += [n for n in ("DATAVERSE_TENANT_ID", "DATAVERSE_CLIENT_ID") if n.lower() not in given]
        problems = [Problem(name) for name in missing] + problems
        if "dataverse_federated_client_id" in given and given & _SECRETS:
            what = "goes with neither DATAVERSE_CLIENT_SECRET nor DATAVERSE_CLIENT_CERTIFICATE: take out either"
            problems.append(Problem("DATAVERSE_FEDERATED_CLIENT_ID", f"DATAVERSE_FEDERATED_CLIENT_ID {what}"))
        federated = str(values.get("dataverse_federated_client_id", ""))
        if federated and federated.lower() == str(values.get("dataverse_client_id", "")).lower():
            what = "must be the managed identity's client id, not the app registration's, DATAVERSE_CLIENT_ID"
            problems.append(Problem("DATAVERSE_FEDERATED_CLIENT_ID", f"DATAVERSE_FEDERATED_CLIENT_ID {what}"))
        addresses = [_bad_url(name, str(values[name])) for name in sorted(_URLS) if name in values]
        addresses += [
            Problem(_environment(name), _bad_connection(_environment(name), str(values.get(name, ""))))
            for name in ("storage_connection", "applicationinsights_connection_string")
        ]
        problems += [each for each in addresses if each.text]
        if values.get("sync_telemetry", "") not in TELEMETRY:
            what = f"SYNC_TELEMETRY must be {' or '.join(filter(None, TELEMETRY))}, or left out"
            problems.append(Problem("SYNC_TELEMETRY", what))
        for name, most in _MOST.items():
            if int(str(values.get(name, 0))) > most:
                what = f"{name.upper()} must be at most {most}: Marketo allows no more"
                problems.append(Problem(name.upper(), what))
        if int(str(values.get("marketo_late_write_s", 0))) > LONGEST_LATE_WRITE_S:
            what = f"MARKETO_LATE_WRITE_S must be at most {LONGEST_LATE_WRITE_S}, the visibilityTimeout in host.json"
            problems.append(Problem("MARKETO_LATE_WRITE_S", what))
        if values.get("status_sign_in", "key") not in SIGN_INS:
            problems.append(Problem("STATUS_SIGN_IN", f"STATUS_SIGN_IN must be {' or '.join(SIGN_INS)}"))
        doubts = tuple(each for each in problems if each.setting in HARMLESS)
        wrong = {each.setting for each in problems}
        values = {name: value for name, value in values.items() if _environment(name) not in wrong}
        for name in (_URLS - _WITH_QUERY) & values.keys():
            values[name] = str(values[name]).rstrip("/")
        complete = {**_STAND_INS, **values}
        found = cls(**complete, doubts=doubts)  # type: ignore[arg-type]  # each value was checked above against its field's type
        return found, [each for each in problems if each not in doubts]

    @property
    def munchkin_id(self) -> str:
        """`123-ABC-456` of `https://123-ABC-456.mktorest.com`; the whole authority on loopback."""
        parts = urlsplit(self.marketo_url)
        return parts.netloc if parts.hostname in _LOOPBACK else str(parts.hostname).partition(".")[0].upper()

    @property
    def config_path(self) -> Path:
        """Relative paths are seen from the app's root, not from where the process was started."""
        return Path(__file__).parent.parent / self.sync_config

    def secrets(self) -> tuple[str, ...]:
        """What must never appear in a log, an error or stored state."""
        certificate = self.dataverse_client_certificate
        values = (
            self.dataverse_client_secret,
            certificate if "PRIVATE KEY" in certificate else "",
            self.marketo_client_secret,
            self.alert_webhook_url,
            self.storage_connection,
            *_KEYS.findall(self.storage_connection),
            self.applicationinsights_connection_string,
            *_KEYS.findall(self.applicationinsights_connection_string),
        )
        return tuple(value for value in values if value)


HARMLESS = {
    "ALERT_WEBHOOK_URL",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "DATAVERSE_CLIENT_SECRET_EXPIRES",
    "STATUS_SIGN_IN",
    "SYNC_TELEMETRY",
}
"""No write depends on these: a wrong one stops nothing, it counts as left out. With a wrong STATUS_SIGN_IN the status
page opens for nobody (function_app.py). Where the blobs are is not among them: without them the host runs nothing."""

_REQUIRED = ("DATAVERSE_URL", "MARKETO_URL", "MARKETO_CLIENT_ID", "MARKETO_CLIENT_SECRET")
_OR = {STORAGE: f"{STORAGE} (or {STORAGE}__queueServiceUri and {STORAGE}__tableServiceUri)"}
_STAND_INS: Mapping[str, str | int] = {
    **dict.fromkeys(("dataverse_url", "marketo_url"), "https://missing.invalid"),
    **dict.fromkeys(("marketo_client_id", "marketo_client_secret"), "missing"),
}
_SECRETS = {"dataverse_client_secret", "dataverse_client_certificate"}
_UNREAD = re.compile(r"@Microsoft\.KeyVault\(", re.IGNORECASE)
_UNREAD_TEXT = (
    "is a Key Vault reference that Azure could not follow: set the secret in the vault, give the app's identity the "
    "role 'Key Vault Secrets User' there, see that it is the app's keyVaultReferenceIdentity, and restart the app by "
    "a change of any setting"
)
_WITH_PATH = {"dataverse_authority_host", "storage_queue_uri", "storage_table_uri", "storage_blob_uri"}
_WITH_QUERY = {"alert_webhook_url"}  # in which Teams puts a signature
_URLS = {"dataverse_url", "marketo_url"} | _WITH_PATH | _WITH_QUERY
_MOST = {"marketo_calls_per_20s": 100, "marketo_concurrency": 10}
_ENVIRONMENT = {
    "storage_connection": STORAGE,
    "storage_queue_uri": f"{STORAGE}__queueServiceUri",
    "storage_table_uri": f"{STORAGE}__tableServiceUri",
    "storage_blob_uri": f"{STORAGE}__blobServiceUri",
    "storage_client_id": f"{STORAGE}__clientId",
}


def _environment(name: str) -> str:
    return _ENVIRONMENT.get(name, name.upper())


def _number(name: str, text: str, problems: list[Problem]) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < 1:
        problems.append(Problem(_environment(name), f"{_environment(name)} must be a whole number above 0"))
        return 1
    return int(text)


def _date(name: str, text: str, problems: list[Problem]) -> datetime | str:
    """A day counts from its beginning, so that nobody is told too late."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        problems.append(Problem(_environment(name), f"{_environment(name)} must be a date such as 2027-01-31"))
        return text
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def _text(name: str, text: str, problems: list[Problem]) -> str:
    return text


_READERS: Mapping[str, Callable[[str, str, list[Problem]], str | int | datetime]] = {
    "int": _number,
    "datetime | None": _date,
}
"""How a setting is read, by its field's type."""


def _bad_connection(setting: str, text: str) -> str:
    """What is wrong with a connection string: plain HTTP to another machine shows its signatures to everybody."""
    hosts = {urlsplit(url).hostname for url in re.findall(r"Endpoint=(http://[^;]*)", text, re.IGNORECASE)}
    plain = re.search(r"DefaultEndpointsProtocol=http(;|$)", text, re.IGNORECASE) and "endpoint=" not in text.lower()
    return f"{setting} must use https://" if plain or hosts - _LOOPBACK else ""


def _bad_url(name: str, url: str) -> Problem:
    """What is wrong with *url*, if anything: https except on loopback, no user, query or path in it.

    The message never shows the value: a user, a query or what was pasted by mistake may be a secret.
    """
    setting = _environment(name)
    try:
        parts = urlsplit(url)
        usable = _HOST.fullmatch(parts.hostname or "") and parts.port != 0
    except ValueError:
        return Problem(setting, f"{setting} must look like https://host")
    if not usable or "@" in parts.netloc or (parts.query and name not in _WITH_QUERY) or parts.fragment:
        return Problem(setting, f"{setting} must look like https://host")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return Problem(setting, f"{setting} must start with https://")
    if parts.path.strip("/") and name not in _WITH_PATH | _WITH_QUERY:
        return Problem(setting, f"{setting} must be the bare address, without a path behind the host")
    return Problem(setting)
