"""Who may call the endpoint, checked before it binds: beyond loopback only who has the token, and only over TLS."""

from __future__ import annotations

import re
import ssl
from typing import Any

from mainspring.app.config import Settings
from mainspring.core.errors import SettingsError, SourceNotFound, UsageError
from mainspring.serving.door import token_hash
from mainspring.store.secrets import secret

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SHORTEST = 16


def access(settings: Settings) -> dict[str, Any]:
    """What the serving process is told of the token (its hash) and of TLS; raises UsageError or SettingsError."""
    if settings.host not in LOOPBACK:
        _check_beyond(settings)
    return {"token_hash": None if settings.token is None else _hashed(settings.token), **_tls(settings)}


def _check_beyond(settings: Settings) -> None:
    if settings.token is None:
        raise UsageError(
            f"--host {settings.host} is not loopback, and everybody there could call the endpoint; "
            "add --token env:NAME or file:PATH, and --cert and --key"
        )
    if settings.cert is None and settings.tls != "proxy":
        raise UsageError(
            f"--host {settings.host} is not loopback, and the token would travel in the clear; add --cert and --key, "
            "or --tls proxy where a proxy in front of it encrypts"
        )


def _hashed(reference: str) -> str:
    if not re.match(r"(env|file):.", reference):
        raise SettingsError("--token must be a reference, env:NAME or file:PATH, not the token itself")
    try:
        token = secret(reference)
    except SourceNotFound as error:
        raise SettingsError(f"--token: {error}") from error
    if len(token) < _SHORTEST or not token.isascii():
        raise SettingsError(f"--token: {reference!r} must hold at least {_SHORTEST} ASCII characters; make a new one")
    return token_hash(token)


def _tls(settings: Settings) -> dict[str, Any]:
    if (settings.cert is None) != (settings.key is None):
        raise UsageError("--cert and --key go together: the certificate's file and its private key's, both PEM")
    if settings.cert is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.cert, settings.key)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise SettingsError(f"--cert {settings.cert}, --key {settings.key} can't be used: {reason}") from error
    return {"cert": settings.cert, "key": settings.key}
