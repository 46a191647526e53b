"""Settings in, engine out: the only module that knows every class."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import TypeVar

from sync_core import events, telemetry
from sync_core.adapters.clock import SystemClock
from sync_core.adapters.dataverse import DataverseClient, credentials_expire, signs_in
from sync_core.adapters.dataverse_probe import DataverseProbe
from sync_core.adapters.limiter import NAME, SharedLimiter
from sync_core.adapters.marketo import MarketoClient
from sync_core.adapters.storage import open_storage
from sync_core.adapters.webhook import WebhookClient
from sync_core.engine import Engine
from sync_core.errors import ConfigurationError, NewerVersion, SyncError
from sync_core.flows import stopped
from sync_core.flows.guard import check_version
from sync_core.flows.validate import Setup
from sync_core.flows.world import World
from sync_core.mapping import SyncConfig, parse
from sync_core.ports import Clock, Documents, DynamicsProbe, FanOut, MarketoProbe, Webhook
from sync_core.settings import STORAGE, Settings

STORAGE_THREADS = 8  # more brings little from Azurite and nothing that the service needs (azure.md §6)

_building = threading.Lock()  # `cache` alone lets first calls that come at once build an engine each

T = TypeVar("T")
R = TypeVar("R")


def engine() -> Engine:
    """The process's engine, built on first use. Raises ConfigurationError naming everything that is wrong."""
    with _building:
        return _built()


@cache
def _built() -> Engine:
    settings = Settings.from_env(os.environ)
    telemetry.start(settings, os.environ)
    return build(settings)


def watch(env: Mapping[str, str]) -> None:
    """The look of the timer, and some of the audit that is due.

    Where no engine can be built, people are told of that, if *env* lets us.
    """
    try:
        found = engine()
    except ConfigurationError as error:
        _tell_stopped(lambda: _channel(env), str(error))
        raise
    try:
        check_version(found.world)
    except NewerVersion as error:
        _tell_stopped(lambda: (found.world.documents, found.world.webhook), str(error))
        raise
    _tell_stopped(lambda: (found.world.documents, found.world.webhook), "")
    found.watch()
    found.audit()


def _channel(env: Mapping[str, str]) -> tuple[Documents, Webhook | None]:
    """What can be had without an engine. Raises ConfigurationError without a storage account."""
    settings, _ = Settings.read(env)
    clock = SystemClock()
    return open_storage(settings, clock, map).documents, _webhook(settings, clock)


def _tell_stopped(channel: Callable[[], tuple[Documents, Webhook | None]], text: str) -> None:
    """What keeps us from telling, the log alone says."""
    try:
        documents, webhook = channel()
        if webhook is not None:
            stopped.tell(documents, webhook, text)
    except SyncError as error:
        events.warning("watch.not_told", reason=str(error))


def _webhook(settings: Settings, clock: Clock) -> Webhook | None:
    return WebhookClient(settings.alert_webhook_url, clock) if settings.alert_webhook_url else None


def build(settings: Settings, *, prefix: str = "") -> Engine:
    """An engine for *settings*; *prefix* keeps several apart in one storage account."""
    world, _ = _world(settings, read_config(settings), prefix=prefix)
    return Engine(world)


def laboratory(documents: Documents) -> MarketoProbe:
    """The subscription that MARKETO_URL names, for experiments, with limits of its own.

    It need not be the one whose limits and stops the running sync shares.
    """
    settings, clock = Settings.from_env(os.environ), SystemClock()
    return MarketoClient(settings, clock, _limiter(settings, documents, clock, stops=False, name="probe"))


def dataverse_url() -> str:
    """The Dynamics of the settings, for whoever has to type it out."""
    return Settings.from_env(os.environ).dataverse_url


def dynamics_probe() -> DynamicsProbe:
    """The Dynamics of the settings, for the experiments of `probe`."""
    return DataverseProbe(Settings.from_env(os.environ), SystemClock(), map)


def setup(env: Mapping[str, str], *, prefix: str = "") -> Setup:
    """What `validate` looks at: as much as *env* allows, and what is wrong with the rest."""
    settings, found = Settings.read(env)
    problems = [(each.setting, each.text or f"{each.setting} is missing") for each in found]
    try:
        config = read_config(settings)
    except ConfigurationError as error:
        problems.append(("SYNC_CONFIG", str(error)))
        config = parse("[opportunity]")
    lacking = any(setting.startswith(STORAGE) for setting, _ in problems)
    try:
        world, probes = _world(_without_storage(settings) if lacking else settings, config, prefix=prefix, stops=False)
    except ConfigurationError as error:  # only the storage account's clients look at their settings that early
        problems.append((STORAGE, str(error)))
        world, probes = _world(_without_storage(settings), config, prefix=prefix, stops=False)
    standing = telemetry.standing(settings, env)
    return Setup(world, problems, probes, settings.sync_schedule, standing, signs_in(settings))


def _without_storage(settings: Settings) -> Settings:
    """Clients that nobody asks anything stand in for those that can't be made."""
    return replace(settings, storage_connection="UseDevelopmentStorage=true")


def _world(
    settings: Settings, config: SyncConfig, *, prefix: str, stops: bool = True
) -> tuple[World, Mapping[str, Callable[[], None]]]:
    clock = SystemClock()
    fan_out = threads(max(STORAGE_THREADS, settings.marketo_concurrency))
    storage = open_storage(settings, clock, fan_out, prefix=prefix)
    limiter = _limiter(settings, storage.documents, clock, stops=stops)
    world = World(
        source=DataverseClient(settings, clock, fan_out),
        target=MarketoClient(settings, clock, limiter),
        opportunities=storage.opportunities,
        companies=storage.companies,
        sales_persons=storage.sales_persons,
        connections=storage.connections,
        people=storage.people,
        tombstones=storage.tombstones,
        documents=storage.documents,
        queue=storage.queue,
        history=storage.history,
        limiter=limiter,
        clock=clock,
        config=config,
        late_write=settings.marketo_late_write_s,
        subscription=settings.munchkin_id,
        credentials_expire=credentials_expire(settings),
        fan_out=fan_out,
        fan_out_slow=threads(settings.marketo_concurrency),
        schedule=settings.sync_schedule,
        webhook=_webhook(settings, clock),
        doubts=[each.text for each in settings.doubts],
        migrations=storage.migrations,
    )
    return world, storage.probes


def _limiter(settings: Settings, documents: Documents, clock: Clock, *, stops: bool, name: str = NAME) -> SharedLimiter:
    return SharedLimiter(
        documents,
        clock,
        calls_per_20s=settings.marketo_calls_per_20s,
        concurrency=settings.marketo_concurrency,
        daily_calls=settings.marketo_daily_calls,
        random=random.random,
        stops=stops,
        name=name,
    )


def read_config(settings: Settings) -> SyncConfig:
    path = settings.config_path
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(f"SYNC_CONFIG: {settings.sync_config} can't be read: {reason}") from None
    return parse(text, name=path.name)


def threads(number: int) -> FanOut:
    """A pool's `map`, within the caller's span; one item is done in the caller's thread."""
    pool = ThreadPoolExecutor(number, thread_name_prefix="sync")

    def fan_out(function: Callable[[T], R], items: Iterable[T], /) -> Iterator[R]:
        todo = list(items)
        return map(function, todo) if len(todo) < 2 else pool.map(telemetry.carried(function), todo)

    return fan_out
