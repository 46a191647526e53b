"""Which identity of ours in Entra ID gets a token: the app's in Azure, yours on any other machine.

Both are what the Azure SDKs call a credential (`get_token`), but what goes wrong is one of our errors, and never
repeats what a service or a program wrote: that may name a person, or hold a token.
"""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from azure.core.credentials import AccessToken
from azure.core.exceptions import AzureError, ClientAuthenticationError
from azure.identity import (
    AzureCliCredential,
    AzureDeveloperCliCredential,
    CredentialUnavailableError,
    ManagedIdentityCredential,
)

from sync_core.errors import CredentialsRefused, SyncError, Unavailable

PLATFORM = (("IDENTITY_ENDPOINT", "IDENTITY_HEADER"), ("MSI_ENDPOINT", "MSI_SECRET"))
"""What Azure sets for an app with a managed identity. Cloud Shell sets MSI_ENDPOINT alone: there, `az` is signed in."""

REMEMBER = 60.0
"""Seconds for which a program that gave no token is not asked again."""

PROGRAM_TIMEOUT = 30
"""Seconds: `az` takes a few, and more where it was just installed."""

KEEP = 240
"""Seconds for which a program's token is kept: both renew what ends within five minutes. When it ends is not asked:
`azd` tells that in UTC, and azure-identity 1.27 takes it for local time."""

AADSTS = re.compile(r"AADSTS\d+")
_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

for name in ("msal", "azure.identity"):  # below, they write whole answers, which may repeat what we sent
    logging.getLogger(name).setLevel(logging.CRITICAL)


def in_azure() -> bool:
    """Whether the platform offers this process a managed identity."""
    return any(all(os.environ.get(name) for name in names) for names in PLATFORM)


class ManagedIdentity:
    """The app's own, user-assigned if *client_id* is not ''; *setting* is where that stands."""

    def __init__(self, client_id: str, setting: str) -> None:
        self._client_id = client_id or None
        self._setting = setting
        self._credential = ManagedIdentityCredential(client_id=self._client_id)

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """Raises CredentialsRefused and Unavailable."""
        try:
            found: AccessToken = self._credential.get_token(*scopes, **options)
        except (CredentialUnavailableError, ClientAuthenticationError):
            raise CredentialsRefused(
                "no managed identity answers: switch it on for the function app, and for a user-assigned one set "
                f"{self._setting} to its client id"
            ) from None
        except AzureError as error:
            raise Unavailable(f"the managed identity does not answer ({type(error).__name__})") from None
        return found

    def forget(self) -> None:
        """The next token is a new one."""
        self._credential.close()
        self._credential = ManagedIdentityCredential(client_id=self._client_id)


class Program(NamedTuple):
    """A program that people sign in with."""

    name: str
    credential: Callable[..., Any]
    shows: str  # what tells them why it gives no token


PROGRAMS = (
    Program("az", AzureCliCredential, "az account get-access-token"),
    Program("azd", AzureDeveloperCliCredential, "azd auth token"),
)


class OwnSignIn:
    """Whoever signed in on this machine with `az login`, else with `azd auth login`.

    Not azure-identity's chain: that ends at a program whose sign-in is refused, though the other's may be good, and
    makes one text of what they wrote. And nobody else keeps these tokens, which take seconds to get.
    """

    def __init__(self) -> None:
        self._credentials = [(each, each.credential(process_timeout=PROGRAM_TIMEOUT)) for each in PROGRAMS]
        self._kept: dict[tuple[Sequence[str], str], AccessToken] = {}
        self._failed: dict[tuple[Sequence[str], str], tuple[float, SyncError]] = {}
        self._lock = threading.Lock()

    def get_token(self, *scopes: str, tenant_id: str | None = None, **options: Any) -> AccessToken:
        """Of *tenant_id*, else of the tenant that the program is set to. Raises CredentialsRefused and Unavailable."""
        wanted = scopes, tenant_id or ""
        with self._lock:
            found = self._kept.get(wanted)
            if found is None or found.expires_on <= time.time():
                self._still_failing(wanted)
                try:
                    token = self._asked(*scopes, tenant_id=tenant_id, **options)
                except SyncError as error:
                    self._failed[wanted] = time.monotonic(), error
                    raise
                found = self._kept[wanted] = AccessToken(token, int(time.time()) + KEEP)
            return found

    def _still_failing(self, wanted: tuple[Sequence[str], str]) -> None:
        """`validate` looks at several things: a program that hangs is waited for once."""
        since, error = self._failed.get(wanted, (-math.inf, None))
        if error and time.monotonic() - since < REMEMBER:
            raise type(error)(*error.args)

    def forget(self) -> None:
        """The next token is what the program gives then, which may be the same."""
        with self._lock:
            self._kept.clear()
            self._failed.clear()

    def _asked(self, *scopes: str, tenant_id: str | None, **options: Any) -> str:
        failed = []
        for program, credential in self._credentials:
            try:
                found = credential.get_token(*scopes, tenant_id=tenant_id, **options)
            except (ClientAuthenticationError, ValueError) as error:  # ValueError: the tenant can't be one
                failed.append((program, error))
            else:
                return str(found.token)
        raise _told(failed, tenant_id)


def _told(failed: Sequence[tuple[Program, Exception]], tenant: str | None) -> SyncError:
    """Of what went wrong with each program the most telling."""
    shown = tenant if tenant and _ID.fullmatch(tenant) else "TENANT"  # what was pasted by mistake may be a secret
    sign_in = f"run `az login --tenant {shown}` or `azd auth login --tenant-id {shown}`"
    if any(isinstance(error, ValueError) for _, error in failed):
        return CredentialsRefused("this is no tenant: check DATAVERSE_TENANT_ID")
    there = [(program, error) for program, error in failed if shutil.which(program.name)]
    for _, error in there:
        if code := AADSTS.search(str(error)):
            return CredentialsRefused(f"Entra ID refuses your own sign-in with {code[0]}: {sign_in}")
    for program, error in there:
        if isinstance(error.__cause__, subprocess.TimeoutExpired):
            return Unavailable(
                f"`{program.name}` gave no token within {PROGRAM_TIMEOUT} s: "
                f"run `{program.shows}` to see what it waits for"
            )
    for program, error in there:
        if not isinstance(error, CredentialUnavailableError):
            return CredentialsRefused(f"`{program.name}` gave no token: run `{program.shows}` to see why, or {sign_in}")
    if there:
        return CredentialsRefused(f"nobody is signed in on this machine: {sign_in}")
    return CredentialsRefused(
        "this machine has neither a managed identity nor `az` or `azd`: in Azure, switch on the function app's "
        f"identity; elsewhere install the Azure CLI and {sign_in}"
    )


def identity(client_id: str, setting: str) -> ManagedIdentity | OwnSignIn:
    """The app's where there is one (*client_id* of a user-assigned one, from *setting*), elsewhere yours."""
    return ManagedIdentity(client_id, setting) if in_azure() else OwnSignIn()
