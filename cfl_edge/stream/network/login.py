"""A camera's user name and password: Basic and Digest, of HTTP and of RTSP.

Each is told once: some cameras lock a user out after five refused tries, which is what the handlers
of `urllib.request` would make.
"""

from __future__ import annotations

import base64
from typing import final
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import (
    AbstractDigestAuthHandler,
    HTTPPasswordMgrWithDefaultRealm,
    Request,
    parse_http_list,
    parse_keqv_list,
)


def url_without_login(url: str) -> str:
    """Return an address without user name and password.

    Example:
        >>> url_without_login("http://ann:pw@cam:81/stream")
        'http://cam:81/stream'
    """
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


@final
class Login:
    """A camera's user name and password, and how it wants to be told them.

    Args:
        url: The address that holds them, or none.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        passwords = HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(None, url_without_login(url), self._user, self._password)
        self._digest = AbstractDigestAuthHandler(passwords)
        self._challenge: dict[str, str] | None = None
        self._basic = False

    def learn(self, challenges: list[str]) -> bool:
        """Take what the camera asks for; return whether it can be answered.

        Args:
            challenges: Its WWW-Authenticate headers; Digest goes before Basic.
        """
        if not self._user:
            return False
        for challenge in challenges:
            scheme, _, fields = challenge.partition(" ")
            if scheme.lower() == "digest" and (asked := _readable(fields)) is not None:
                self._challenge = asked
                return True
            self._basic = self._basic or scheme.lower() == "basic"
        return self._basic

    def header(self, method: str, url: str, target: str) -> str | None:
        """Return the Authorization header; None before the camera has asked for one.

        Args:
            method: Of the request.
            url: Its address, without the login.
            target: What its first line asks for: the path of HTTP, the address of RTSP.
        """
        if self._challenge is not None:
            request = Request(url, method=method)
            request.selector = target
            answer = self._digest.get_authorization(request, self._challenge)
            return f"Digest {answer}" if answer else None
        if self._basic:
            pair = f"{self._user}:{self._password}".encode()
            return f"Basic {base64.b64encode(pair).decode()}"
        return None


def _readable(fields: str) -> dict[str, str] | None:
    """Return a Digest challenge that can be answered; None for any other."""
    try:
        asked = parse_keqv_list(parse_http_list(fields))
    except ValueError:
        return None
    asked["algorithm"] = asked.get("algorithm", "MD5").upper()
    kinds = [kind.strip() for kind in asked.get("qop", "auth").split(",")]
    if asked["algorithm"] not in ("MD5", "SHA") or "auth" not in kinds:
        return None
    return asked | ({"qop": "auth"} if "qop" in asked else {})
