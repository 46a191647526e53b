"""Every way the sync can fail, grouped by what happens next.

* SyncError
  x ConfigurationError    stop the lane; a person must change a setting, a permission or the mapping
    + CredentialsRefused  a service does not accept who we are: a secret, certificate, key or identity
    + WrongPair           the state belongs to another org or subscription: nothing is written until `repoint`
    + NewerVersion        the state, or a message, was written by a newer version of this app: it is left untouched
  x RetryLater            put the ids back and try again after `delay` seconds; no record is blamed
    + Throttled           a service, or our own limiter, told us to slow down
    + Unavailable         timeouts, 5xx, dropped connections; `unanswered` if a write may still be applied
      x ColumnsChanged    a column went away since its table was described
      x UnknownCode       an answer that stands in no list
    + OutOfTime           the lease is too old to start another Marketo write
    + QuotaExhausted      nothing helps before the daily quota resets
    + Paused              an operator paused the sync
      x CleaningUp        for good: what it wrote is being removed from Marketo
    + NoTurn              enough deliveries of the slow lane are under way
    + TakingOver          a tick has to take over first what an earlier version of this app stored
  x SplitBatch            the same request with fewer records may pass; halve until the culprit stands alone
  x DeltaLinkExpired      read the table again from the start and compare
  x NotTracked            follow the table by `modifiedon` instead
  x NotOurs               a queue message that this app did not write

What happens to single records (waits, parked) is no exception but a value: `model.Answer` and its class.
"""

from __future__ import annotations


class SyncError(Exception):
    """Base of all that this package raises on purpose."""


class ConfigurationError(SyncError):
    """A person must change something; the message says what and where. `code` is Marketo's, if it refused."""

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class CredentialsRefused(ConfigurationError):
    """A service refuses our secret, certificate, key or identity, or a token it gave for them."""


class WrongPair(ConfigurationError):
    """Stored state and the configured services do not belong together (design.md §2.11)."""


class NewerVersion(ConfigurationError):
    """What only a newer version of this app understands; the message says which one to deploy."""


class RetryLater(SyncError):
    """Nobody's fault: the same ids again after *delay* seconds."""

    def __init__(self, message: str, *, delay: float = 60.0) -> None:
        super().__init__(message)
        self.delay = delay


class Throttled(RetryLater):
    """A service or the shared limiter asks for fewer calls."""


class Unavailable(RetryLater):
    """No answer, or an answer that says nothing about the request.

    `unanswered` is true when a write was sent: Marketo may still apply it (design.md §2.4).
    """

    def __init__(self, message: str, *, delay: float = 60.0, unanswered: bool = False) -> None:
        super().__init__(message, delay=delay)
        self.unanswered = unanswered


class ColumnsChanged(Unavailable):
    """Dataverse no longer has a column that it described before: ask again what there is (dataverse.md §8)."""


class UnknownCode(Unavailable):
    """A code of Marketo's that stands in no list: waited for, and after some deliveries searched for (design.md §6)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class OutOfTime(RetryLater):
    """No Marketo write may start this late in the message's lease (design.md §2.4)."""


class QuotaExhausted(RetryLater):
    """607, or our own daily share is used up: wait for the reset."""


class Paused(RetryLater):
    """Between the commands `pause` and `resume`."""


class CleaningUp(Paused):
    """Since a `cleanup` began, until somebody resumes knowing that everything comes back."""


class NoTurn(RetryLater):
    """The slow lane does a few deliveries at once, however many machines there are."""


class TakingOver(RetryLater):
    """The state is of an earlier version: nothing of it is changed before a tick has taken it over."""


class SplitBatch(SyncError):
    """One record, or the size, sinks the whole request: send halves (marketo.md §4: 413, 604, 611, 718)."""

    def __init__(self, code: str, message: str, *, unanswered: bool = False) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.unanswered = unanswered


class DeltaLinkExpired(SyncError):
    """Dataverse no longer knows the position of a delta link; a full read follows (dataverse.md §3.5)."""


class NotTracked(SyncError):
    """Dataverse keeps no changes of this table; the message says how to switch that on (dataverse.md §3.8)."""


class NotOurs(SyncError):
    """A queue message that cannot be one of ours; the message says why."""
