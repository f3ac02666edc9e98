"""Who may ask, and from where: what every request passes before anything else sees it.

    Host        is this machine's own name, or one that was allowed     DNS rebinding
    Origin      is that of the page itself, where a browser sends it    forged requests
    the token   is in the cookie, or after `Authorization: Bearer`      other users of a machine
    the body    is no longer than allowed

The printed address holds the token: a page that is asked for with `?token=` answers with a cookie
(HttpOnly, SameSite=Strict) and the address without it. Every answer says that its type is meant,
that it is nobody else's to embed, and which scripts and pictures a page may load: its own.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
from collections.abc import Iterable, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import final
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from undiffuse.errors import InputError
from undiffuse.web.limits import BODY, UPLOAD
from undiffuse.web.problems import Refusal, problem_response

TOKEN = "UNDIFFUSE_TOKEN"  # the environment variable
FEWEST = 16  # characters of a token
UPLOADING = "/api/v1/uploads"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' data: blob:; font-src 'self'; connect-src 'self'; frame-src 'self'; "
    "worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)
REPORT_POLICY = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'"
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "SAMEORIGIN",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
    "content-security-policy": PAGE_POLICY,
}
"""Of every answer that does not say otherwise."""


def find_token() -> str:
    """Return the token: that of the environment, or a new one.

    Raises:
        InputError: that of the environment is too short, or cannot stand in an address.
    """
    given = os.environ.get(TOKEN)
    if given is None:
        return secrets.token_urlsafe(32)
    if len(given) < FEWEST or not all(one.isascii() and (one.isalnum() or one in "-_.~")
                                      for one in given):  # fmt: skip
        raise InputError(
            f"{TOKEN}: give at least {FEWEST} letters, digits, or -_.~, which nobody can guess."
        )
    return given


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens on `host`.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def same(one: str, other: str) -> bool:
    """Return whether two texts are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


@final
class Guard:
    """The middleware around the application.

    Args:
        app: the application.
        token: what a request has to know; None: nothing, on loopback alone.
        hosts: names that the server is called by, without ports.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, hosts: Iterable[str]) -> None:
        self.app, self.token = app, token
        self.hosts = {host.lower().rstrip(".") for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        send = _with_headers(send)
        try:
            self.check_host(headers)
            self.check_origin(scope, headers)
            if (entered := self.entered(scope, headers)) is not None:
                await entered(scope, receive, send)
                return
            self.check_token(scope, headers)
            most = UPLOAD + BODY if scope["path"] == UPLOADING else BODY
            receive = _bounded(receive, headers, most)
        except Refusal as refusal:
            response = problem_response(refusal.status, refusal.detail, refusal.headers)
            await response(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def check_host(self, headers: Headers) -> None:
        """Refuse names that lead here and are not ours: another page's, rebound to this machine."""
        names = headers.getlist("host")
        if len(names) != 1 or _name(names[0]) not in self.hosts:
            raise Refusal(
                403, "host: this server is not called that; allow it with --allow-host NAME."
            )

    def check_origin(self, scope: Scope, headers: Headers) -> None:
        """Refuse what another page asks for: a request that changes something, or any of its own.

        A browser sends Origin with everything but plain reading.
        """
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        reads = scope["method"] in ("GET", "HEAD")
        if origin is not None and not self._is_ours(origin, headers):
            raise Refusal(403, "origin: this page is another server's.")
        if not reads and site is not None and site != "same-origin":
            raise Refusal(403, "origin: this page is another server's.")
        if not reads and origin is None and self.token is not None and not _bearer(headers):
            raise Refusal(403, "origin: is missing; programs send Authorization: Bearer TOKEN.")

    def _is_ours(self, origin: str, headers: Headers) -> bool:
        """Whether a page at `origin` is of this server, or of a proxy that was allowed."""
        try:
            parts = urlsplit(origin)
            name = (parts.hostname or "").rstrip(".")
        except ValueError:
            return False
        proxied = parts.scheme == "https" and name in self.hosts and not is_loopback(name)
        same_host = parts.scheme in ("http", "https") and parts.netloc == headers.get("host")
        return same_host or proxied

    def entered(self, scope: Scope, headers: Headers) -> Response | None:
        """Return the answer to an address that holds the token: a cookie, and where to go."""
        if self.token is None or scope["method"] != "GET" or scope["path"].startswith("/api"):
            return None
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if "token" not in query:
            return None
        if len(query["token"]) != 1 or not same(query["token"][0], self.token):
            raise Refusal(401, "token: is another one; open the address that the server printed.")
        response = RedirectResponse("/" + scope["path"].lstrip("/\\"), 303)
        secure = "; Secure" if headers.get("x-forwarded-proto") == "https" else ""
        response.headers["set-cookie"] = (
            f"{_cookie_name(headers)}={self.token}; Path=/; HttpOnly; SameSite=Strict{secure}"
        )
        return response

    def check_token(self, scope: Scope, headers: Headers) -> None:
        """Refuse who does not know the token."""
        if self.token is None:
            return
        for known in (_bearer(headers), _cookie(headers)):
            if known is not None and same(known, self.token):
                return
        raise Refusal(
            401,
            "token: is missing or another one; open the address that the server printed, or send "
            "Authorization: Bearer TOKEN.",
            {"www-authenticate": "Bearer"},
        )


def _name(host: str) -> str:
    """The name in a Host header, without its port; "" for what is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _cookie_name(headers: Mapping[str, str]) -> str:
    """The name of the cookie: ports of one machine share their cookies, and these differ."""
    port = headers.get("host", "").rpartition(":")[2]
    return f"undiffuse-{port if port.isdecimal() else 'token'}"


def _cookie(headers: Headers) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(_cookie_name(headers))
    except CookieError:
        return None
    return None if found is None else found.value


def _bearer(headers: Headers) -> str | None:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                own.setdefault(name, value)
        await send(message)

    return wrapped


def _bounded(receive: Receive, headers: Headers, most: int) -> Receive:
    """`receive` that refuses the request as soon as its body is longer than `most` bytes."""
    too_long = f"body: longer than {most // 2**20:,} MiB."
    stated = headers.get("content-length", "0")
    if not stated.isdecimal() or int(stated[:20]) > most:
        raise Refusal(413, too_long, {"connection": "close"})
    came = 0

    async def wrapped() -> Message:
        nonlocal came
        message = await receive()
        came += len(message.get("body", b""))
        if came > most:
            raise HTTPException(413, too_long, {"connection": "close"})
        return message

    return wrapped
