"""Where `run --http` and the page listen, and which token they require."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cfl_edge.errors import UsageError, quoted
from cfl_edge.notices import Notice

TOKEN_VARIABLE = "CFL_EDGE_HTTP_TOKEN"
LOOPBACK = "127.0.0.1"
MAX_PORT = 65535
MIN_TOKEN, MAX_TOKEN = 16, 1024  # characters
NEW_TOKEN_BYTES = 18  # 24 characters: nobody guesses them, and a QR code of them is small
TOKEN_FILE = "token.txt"
NEW_TOKEN = (
    f"(umask 077; python3 -c 'import secrets; print(secrets.token_urlsafe())' > {TOKEN_FILE})"
)

_ADDRESS = re.compile(r"(?:(?P<host>\[[^\]\s]+\]|[^\s:\[\]/]+):)?(?P<port>[0-9]{1,5})")


@dataclass(frozen=True)
class HttpOptions:
    """Where to listen, and the token that requests need.

    Args:
        host: A name or address of this machine.
        port: 0 chooses a free one.
        token: Required in every request; None for requests of this machine only.
    """

    host: str
    port: int
    token: str | None = field(default=None, repr=False)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)


def http_options(
    address: str,
    token_file: Path | None,
    on_notice: Notice,
    environ: Mapping[str, str] = os.environ,
) -> HttpOptions:
    """Read `--http` and `--token-file`.

    Args:
        address: `[HOST:]PORT`; this machine only without a host.
        token_file: Its first line is the token; None reads `$CFL_EDGE_HTTP_TOKEN`.
        on_notice: Told of a file that others can read.
        environ: The environment.

    Raises:
        UsageError: The address is malformed, other machines reach it without a token, or the
            token is too short.

    Example:
        >>> http_options("9100", None, print, {})
        HttpOptions(host='127.0.0.1', port=9100)
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match["port"]) > MAX_PORT:
        raise UsageError(
            f"--http is {address!r}, expected [HOST:]PORT with a port from 0 to {MAX_PORT}",
            hint="--http 8080",
        )
    host, port = (match["host"] or LOOPBACK).strip("[]"), int(match["port"])
    token = _token(token_file, on_notice, environ)
    if token is None and not is_loopback(host):
        raise UsageError(
            f"--http is {address}, which other machines reach, expected a token as well",
            hint=f"{NEW_TOKEN} and --token-file {TOKEN_FILE}",
        )
    return HttpOptions(host, port, token)


def page_options(host: str, port: int, token_file: Path | None, on_notice: Notice) -> HttpOptions:
    """Read `--ui-host`, `--ui-port` and `--token-file`; a token that is needed is made up.

    Args:
        host: A name or address of this machine.
        port: 0 chooses a free one.
        token_file: See `http_options`.
        on_notice: Told of a file that others can read, and of a token that lasts for one run.

    Raises:
        UsageError: The host is none, or the token is too short.

    Example:
        >>> page_options("127.0.0.1", 8080, None, print)
        HttpOptions(host='127.0.0.1', port=8080)
    """
    if re.fullmatch(r"[^\s/\[\]]+", host) is None:
        raise UsageError(
            f"--ui-host is {host!r}, expected an address or a name of this machine",
            hint="--ui-host 0.0.0.0",
        )
    token = _token(token_file, on_notice, os.environ)
    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(NEW_TOKEN_BYTES)
        on_notice(
            "the token of the page is new, and ends with this run; one that stays: "
            f"{NEW_TOKEN} and --token-file {TOKEN_FILE}"
        )
    return HttpOptions(host, port, token)


def _token(path: Path | None, on_notice: Notice, environ: Mapping[str, str]) -> str | None:
    """Return the token that a file has, else the environment; None for none."""
    if path is not None:
        token: str | None = _read_token(path, on_notice)
        source = f"--token-file {path}"
    else:
        token, source = environ.get(TOKEN_VARIABLE), f"${TOKEN_VARIABLE}"
    if token is not None:
        _check_token(token, source)
    return token


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a host.

    Example:
        >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "board")]
        [True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _read_token(path: Path, on_notice: Notice) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            others = os.fstat(file.fileno()).st_mode & (stat.S_IRGRP | stat.S_IROTH)
            token = file.readline(MAX_TOKEN + 2).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise UsageError(
            f"--token-file {path} cannot be read: {reason}", hint=f"ls -l {quoted(path)}"
        ) from None
    if others:
        on_notice(f"--token-file {path} can be read by other users of this machine: chmod 600")
    return token


def _check_token(token: str, source: str) -> None:
    """Refuse a token that no header can hold or that can be guessed; the error hides it."""
    if not MIN_TOKEN <= len(token) <= MAX_TOKEN or not re.fullmatch(r"[!-~]+", token):
        raise UsageError(
            f"{source} holds {len(token)} characters, expected one line of {MIN_TOKEN} to "
            f"{MAX_TOKEN} letters, digits or signs, no spaces",
            hint=NEW_TOKEN,
        )
