"""Asks the controller of the `mainspring up` that runs on a home: what must not happen beside it, it does itself."""

from __future__ import annotations

import fcntl
import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mainspring.core.errors import Conflict, ServiceError
from mainspring.store.home import Home


def lock_of(home: Home) -> Path:
    """The file that `mainspring up` holds locked; in it, the address of its API."""
    return home.folder("run") / "up.lock"


def address(home: Home) -> str | None:
    """Where the API of the running service is; None where none runs."""
    with open(lock_of(home), "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except OSError:
            file.seek(0)
            told = file.read().strip()
    if not told:
        raise ServiceError(f"`mainspring up` is just starting on {home.path}; try again in a moment")
    return told


def ask(home: Home, api: str, path: str, body: dict[str, Any]) -> Any:
    """What the controller at *api* answers; raises Conflict with what it refuses. It takes the time that it takes."""
    connection = http.client.HTTPConnection(urlsplit(api).netloc)
    try:
        token = (home.folder("run") / "token").read_text(encoding="utf-8").strip()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        told = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ServiceError(
            f"`mainspring up` doesn't answer at {api} ({error}); see what it prints, or stop it and try again"
        ) from error
    finally:
        connection.close()
    if answer.status != 200:
        raise Conflict(told["error"]["message"])
    return told
