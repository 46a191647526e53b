"""Entra ID's token endpoint, the managed identity of App Service, and the check of a bearer (dataverse.md §1)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Any

import jwt

from tools.emulators.dataverse.errors import DataverseError
from tools.emulators.dataverse.schema import Table
from tools.emulators.dataverse.state import IDENTITY_CLIENT_ID, DataverseState

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
EXCHANGE = "api://AzureADTokenExchange"
STORAGE = "https://storage.azure.com"
AZURE_CLI = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"
"""The application that people sign in with by `az login`."""
TIMELESS: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
"""The time is the emulator's, not the library's."""
MISSING_PRIVILEGE = "0x80040220"


class TokenRefused(Exception):
    """The token endpoint's own kind of error."""

    def __init__(self, error: str, code: str, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status
        self.body = {
            "error": error,
            "error_description": f"{code}: {text}",
            "error_codes": [int(code.removeprefix("AADSTS"))],
        }


def discovery(base: str, tenant: str) -> dict[str, Any]:
    """The OpenID configuration, as far as msal reads it."""
    return {
        "issuer": f"{base}/{tenant}/v2.0",
        "authorization_endpoint": f"{base}/{tenant}/oauth2/v2.0/authorize",
        "token_endpoint": f"{base}/{tenant}/oauth2/v2.0/token",
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
        "jwks_uri": f"{base}/{tenant}/discovery/v2.0/keys",
    }


def token(state: DataverseState, tenant: str, form: Mapping[str, str], base: str) -> dict[str, Any]:
    """Client credentials: by secret, by certificate or by a federated assertion."""
    if tenant != state.tenant:
        raise TokenRefused("invalid_request", "AADSTS90002", f"Tenant '{tenant}' not found.")
    if form.get("grant_type") != "client_credentials":
        raise TokenRefused("unsupported_grant_type", "AADSTS70003", "The app requested an unsupported grant type.")
    if form.get("client_id") != state.client_id:
        raise TokenRefused(
            "unauthorized_client", "AADSTS700016", f"Application '{form.get('client_id')}' was not found."
        )
    credential = _authenticate(state, form, f"{base}/{tenant}")
    scope = form.get("scope", "")
    if not scope.endswith("/.default"):
        raise TokenRefused(
            "invalid_scope", "AADSTS1002012", f"The scope {scope} is not valid: it must end in /.default."
        )
    lifetime = int(state.switches["token_lifetime"])
    access_token = issue(state, scope.removesuffix("/.default"), base, credential)
    return {"token_type": "Bearer", "expires_in": lifetime, "ext_expires_in": lifetime, "access_token": access_token}


def _authenticate(state: DataverseState, form: Mapping[str, str], authority: str) -> str:
    """The fingerprint of the secret or certificate that signed in."""
    if "client_assertion" in form:
        return _check_assertion(state, form, authority)
    secret = form.get("client_secret", "")
    if secret not in state.credentials.secrets:
        raise TokenRefused("invalid_client", "AADSTS7000215", "Invalid client secret provided.", 401)
    if secret in state.credentials.expired:
        raise TokenRefused("invalid_client", "AADSTS7000222", "The provided client secret keys are expired.", 401)
    return fingerprint(secret)


def fingerprint(credential: str) -> str:
    """What a token tells of the credential that it was given for."""
    return hashlib.sha256(credential.encode()).hexdigest()[:16]


def _check_assertion(state: DataverseState, form: Mapping[str, str], authority: str) -> str:
    assertion = form["client_assertion"]
    try:
        claims = jwt.decode(assertion, options={"verify_signature": False})
    except jwt.PyJWTError as error:
        raise TokenRefused("invalid_client", "AADSTS50027", "The client assertion is not a valid JWT.", 401) from error
    if form.get("client_assertion_type") != ASSERTION:
        raise TokenRefused("invalid_request", "AADSTS900144", "The client_assertion_type is missing.")
    if claims.get("aud") == EXCHANGE:
        return _check_federated(state, assertion)
    if claims.get("aud") not in {f"{authority}/oauth2/v2.0/token", f"{authority}/v2.0"}:
        raise TokenRefused("invalid_client", "AADSTS7002121", f"No matching audience found: {claims.get('aud')}.", 401)
    if {claims.get("iss"), claims.get("sub")} != {state.client_id}:
        raise TokenRefused("invalid_client", "AADSTS700021", "The assertion's issuer or subject isn't the client.", 401)
    return _signed_by(state, assertion, claims["aud"]) if state.credentials.checks_certificates else ""


def _signed_by(state: DataverseState, assertion: str, audience: str) -> str:
    from cryptography.x509 import load_pem_x509_certificate  # only who uses certificates pays for it

    why = "no certificate is registered"
    for pem in state.credentials.certificates:
        certificate = load_pem_x509_certificate(pem.encode())
        key: Any = certificate.public_key()
        try:
            jwt.decode(assertion, key, algorithms=["RS256", "PS256"], audience=audience)
        except jwt.PyJWTError as error:
            why = f"The certificate doesn't match: {error}"
            continue
        if certificate.not_valid_after_utc > state.clock.now():
            return fingerprint(pem)
        why = "The key used is expired"
    raise TokenRefused("invalid_client", "AADSTS700027", f"The assertion's signature is invalid: {why}.", 401)


def _check_federated(state: DataverseState, assertion: str) -> str:
    """A managed identity's token instead of a secret: issuer and subject exactly as registered (dataverse.md §1.3)."""

    def refused(code: str, text: str) -> TokenRefused:
        return TokenRefused("invalid_client", code, text, 401)

    try:
        claims = jwt.decode(assertion, state.signing_key, algorithms=["HS256"], audience=EXCHANGE, options=TIMELESS)
    except jwt.PyJWTError as error:
        raise refused("AADSTS700211", "No matching federated identity record found for the issuer.") from error
    if claims["exp"] <= state.clock.now().timestamp():
        raise refused("AADSTS700024", "Client assertion is not within its valid time range.")
    registered = [each.split() for each in state.credentials.federated]
    if claims["iss"] not in [issuer for issuer, _ in registered]:
        raise refused("AADSTS700211", f"No matching federated identity record found for issuer '{claims['iss']}'.")
    if [claims["iss"], claims["sub"]] not in registered:
        raise refused("AADSTS700213", f"No matching federated identity record found for subject '{claims['sub']}'.")
    return fingerprint(f"{claims['iss']} {claims['sub']}")


def issue(
    state: DataverseState, audience: str, base: str, credential: str = "", *, tenant: str = "", application: str = ""
) -> str:
    """An access token; its lifetime is told by the emulator's clock. *credential*: fingerprint of what it is for.

    *tenant* and *application* are the organization's if they are left out. Storage takes tokens of the first version.
    """
    now = int(state.clock.now().timestamp())
    tenant = tenant or state.tenant
    claims = {
        "aud": audience,
        "iss": f"https://sts.windows.net/{tenant}/" if audience == STORAGE else f"{base}/{tenant}/v2.0",
        "sub": state.managed_identity_principal_id if application == IDENTITY_CLIENT_ID else state.application_user_id,
        "tid": tenant,
        "appid": application or state.client_id,
        "credential": credential,
        "iat": now,
        "nbf": now,
        "exp": now + int(state.switches["token_lifetime"]),
        "uti": str(len(state.dropped_tokens)),  # the next one differs from a dropped one of the same second
    }
    return jwt.encode(claims, state.signing_key, algorithm="HS256")


def managed_identity(
    state: DataverseState, header: str | None, query: Mapping[str, str], base: str
) -> tuple[int, dict[str, Any]]:
    """What App Service answers at `IDENTITY_ENDPOINT`."""
    if header != state.identity_header:
        return 401, {"statusCode": 401, "message": "The identity header is missing or wrong."}
    client_id = query.get("client_id", state.client_id)
    if client_id not in {state.client_id, IDENTITY_CLIENT_ID} or not query.get("resource"):
        return 400, {
            "statusCode": 400,
            "message": "No User Assigned or Delegated Managed Identity found for specified ClientId.",
        }
    resource = query["resource"].removesuffix("/.default")
    expires = int(time.time()) + int(state.switches["token_lifetime"])
    access_token = issue(state, resource, base, tenant=state.identity_tenant, application=client_id)
    found = {"access_token": access_token, "expires_on": str(expires), "resource": resource}
    return 200, {**found, "token_type": "Bearer", "client_id": client_id}


class Bearers:
    """Checks access tokens; a signature is verified once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], dict[str, Any]] = {}

    def accepts(self, state: DataverseState, header: str | None, base: str) -> bool:
        """For this organization, of its tenant, the application's or a person's, not expired (dataverse.md §1.1)."""
        scheme, _, access_token = (header or "").partition(" ")
        if scheme.lower() != "bearer" or access_token in state.dropped_tokens:
            return False
        claims = self._known.get((state.signing_key, access_token)) or self._verified(state, access_token)
        in_time = claims.get("exp", 0) > state.clock.now().timestamp()
        whose = claims.get("tid") == state.tenant and claims.get("appid") in {state.client_id, AZURE_CLI}
        if claims.get("credential") in state.credentials.killed:
            return False
        return in_time and whose and claims.get("aud", "").rstrip("/") == base

    def drop(self, state: DataverseState, header: str | None) -> None:
        """Refuse the token of *header* from now on."""
        state.dropped_tokens.add((header or "").partition(" ")[2])

    def _verified(self, state: DataverseState, access_token: str) -> dict[str, Any]:
        options: Any = {**TIMELESS, "verify_aud": False}
        try:
            claims: dict[str, Any] = jwt.decode(access_token, state.signing_key, algorithms=["HS256"], options=options)
        except jwt.PyJWTError:
            return {}
        self._known[(state.signing_key, access_token)] = claims
        return claims


def check_user(state: DataverseState) -> None:
    """The application user behind the token (dataverse.md §1.2)."""
    user = state.switches["application_user"]
    if user == "missing":
        raise DataverseError(403, "0x80072560", "The user is not a member of the organization.")
    if user == "disabled":
        raise DataverseError(
            403, "0x80040225", "The specified user is disabled, or lacks the role with prvReadOpportunity."
        )


def check_read(state: DataverseState, table: Table, *, tracking: bool) -> None:
    """Read privilege on a table; change tracking wants it organization-wide (dataverse.md §3.5)."""
    depth = "none" if state.switches["application_user"] == "no_role" else state.switches["privileges"].get(table.name)
    privilege = f"prvRead{table.name.capitalize()}"
    if depth == "none":
        raise _missing(state, privilege, table)
    if depth and depth != "organization" and tracking:
        raise DataverseError(
            403,
            MISSING_PRIVILEGE,
            f"SecLib::CheckPrivilege failed. User: {state.application_user_id}, PrivilegeName: {privilege}, "
            f"PrivilegeId: {state.organization_id}, Required Depth: Global, BusinessUnitId: {state.business_unit_id}, "
            "MetadataCache Privileges Count: 7356, User Privileges Count: 586",
        )


def check_write(state: DataverseState, verb: str, table: Table) -> None:
    """The privilege that a change needs, such as `prvCreateContact`; reading rights give none."""
    check_privileges(state, table, f"prv{verb}{table.name.capitalize()}")


def check_privileges(state: DataverseState, table: Table, *privileges: str) -> None:
    for privilege in privileges:
        if privilege not in state.switches["write_privileges"]:
            raise _missing(state, privilege, table)


def _missing(state: DataverseState, privilege: str, table: Table) -> DataverseError:
    return DataverseError(
        403,
        MISSING_PRIVILEGE,
        f"Principal user (Id={state.application_user_id}, type=8) is missing {privilege} privilege "
        f"(Id={state.organization_id}) on OTC={table.code} for entity '{table.name}'.",
    )
