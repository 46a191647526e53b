"""Who may come in, and what may come from other websites.

By default the Functions host lets in who brings the function's key (`?code=`). With `STATUS_SIGN_IN=entra` App Service
authentication signs people in, and the host asks for no key: then nobody passes here without what that puts into a
request. It takes these headers out of what comes from outside, but only where it is switched on
(learn.microsoft.com, “Work with user identities in Azure App Service authentication”), which the platform tells in
`WEBSITE_AUTH_ENABLED` (“Environment variables and app settings in Azure App Service”).
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit
from uuid import UUID

from sync_core.web.wire import Refused, Request

SIGN_IN = "STATUS_SIGN_IN"
BY_KEY = "function key"


def visitor(request: Request, env: Mapping[str, str]) -> str:
    """Who asks, for the audit log: `entra:<object id>` or `function key`. Raises Refused (401)."""
    if env.get(SIGN_IN, "").strip() != "entra":
        return BY_KEY  # without the key the host would have refused
    if env.get("WEBSITE_AUTH_ENABLED", "").strip().lower() != "true":
        raise Refused(
            401,
            f"{SIGN_IN} is “entra”, but App Service authentication is switched off for this app.",
            "Switch it on for the function app (Settings, Authentication, identity provider Microsoft), or set "
            f"{SIGN_IN} to “key” and restart. Until then nobody is let in: anybody could claim to be signed in.",
        )
    if request.headers.get("x-ms-client-principal-idp") != "aad":
        raise _nobody()
    try:
        return f"entra:{UUID(request.headers.get('x-ms-client-principal-id', ''))}"
    except ValueError:
        raise _nobody() from None


def _nobody() -> Refused:
    return Refused(
        401,
        "Nobody is signed in with Microsoft Entra ID.",
        "Open the page in a browser and sign in. If no sign-in is asked for: in the app's Authentication settings "
        "choose “Require authentication”, with Microsoft as the only identity provider.",
    )


def from_elsewhere(request: Request) -> bool:
    """Whether a link on another website leads here. Raises Refused (403) for all else that another website makes a
    browser ask: images, scripts, frames would cost calls and storage in the name of whoever is signed in.

    A link in a program, a bookmark and what is typed come from no site (W3C, “Fetch Metadata Request Headers”).
    """
    asked = request.headers.get
    if asked("sec-fetch-site") not in ("cross-site", "same-site"):
        return False
    if (asked("sec-fetch-mode"), asked("sec-fetch-dest")) != ("navigate", "document"):
        raise Refused(403, "This request comes from another website.", "Open the status page itself.")
    return True


def check_own(request: Request) -> None:
    """A form must come from a page of ours; only browsers tell, and whoever is none needs the nonce all the same.

    `Origin` is "null" in forms of pages with our Referrer-Policy (Fetch standard, “append a request Origin header”):
    that says nothing, so `Sec-Fetch-Site` has to. Raises Refused (403).
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    own = site in (None, "same-origin")
    if origin == "null":
        own = site == "same-origin"
    elif origin is not None:
        own = own and urlsplit(origin).netloc.lower() == request.host.lower()
    if not own:
        raise Refused(
            403,
            "This request comes from another website. Nothing was done.",
            "Open the status page itself and choose the action there.",
        )
