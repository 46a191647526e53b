"""CPU of our threads, split by who spends it: the ports are wrapped, and every change of hands is clocked.

Time in a thread's pool counts for whoever handed the work to the pool.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

REST = "flows and rules"


class Spending:
    """CPU seconds and calls by purpose. What nobody claimed belongs to REST."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread = threading.local()
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    @contextmanager
    def on(self, purpose: str) -> Iterator[None]:
        """Whatever this thread spends inside is for *purpose*, but for what is claimed further inside."""
        before = self.purpose
        self._book(before)
        self._thread.purpose = purpose
        try:
            yield
        finally:
            self._book(purpose)
            self._thread.purpose = before

    @property
    def purpose(self) -> str:
        return getattr(self._thread, "purpose", REST)

    def start(self) -> None:
        """From here on in this thread; forgets what was booked."""
        self._thread.since = time.thread_time()
        with self._lock:
            self.seconds.clear()
            self.calls.clear()

    def count(self, purpose: str) -> None:
        with self._lock:
            self.calls[purpose] += 1

    def stop(self) -> dict[str, float]:
        """Seconds by purpose, with this thread's up to now."""
        self._book(self.purpose)
        with self._lock:
            return {name: round(seconds, 3) for name, seconds in self.seconds.most_common()}

    def _book(self, purpose: str) -> None:
        now = time.thread_time()
        since = getattr(self._thread, "since", now)
        self._thread.since = now
        with self._lock:
            self.seconds[purpose] += now - since

    def pool(self, number: int) -> Callable[..., Iterator[Any]]:
        """A pool's `map` in which work keeps the purpose of whoever gave it; one thread: plain `map`."""
        executor = ThreadPoolExecutor(number, thread_name_prefix="sync")

        def fan_out(function: Callable[[Any], Any], items: Iterable[Any], /) -> Iterator[Any]:
            todo, purpose = list(items), self.purpose

            def claimed(item: Any) -> Any:
                with self.on(purpose):
                    return function(item)

            return map(function, todo) if number == 1 or len(todo) < 2 else executor.map(claimed, todo)

        return fan_out


class Port:
    """Another object's methods, with their calls and CPU booked on one purpose."""

    def __init__(self, target: Any, spending: Spending, purpose: str) -> None:
        self._target = target
        self._spending = spending
        self._purpose = purpose

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        return self._booked(found) if callable(found) else found

    def _booked(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def booked(*arguments: Any, **options: Any) -> Any:
            self._spending.count(self._purpose)
            with self._spending.on(self._purpose):
                result = method(*arguments, **options)
            if isinstance(result, type(self._target)):  # another view of the same, as `MarketoClient.yielding`
                return Port(result, self._spending, self._purpose)
            return self._pages(result) if isinstance(result, Iterator) else result

        return booked

    def _pages(self, pages: Iterator[Any]) -> Iterator[Any]:
        """A page is read when it is asked for: that too is on the same purpose."""
        nothing = object()
        while True:
            with self._spending.on(self._purpose):
                page = next(pages, nothing)
            if page is nothing:
                return
            yield page
