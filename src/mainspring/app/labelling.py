"""`mainspring feedback NAME FILE`: labels and events in bulk from any source, handed to the endpoint in parts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TextIO

import httpx

from mainspring.app.config import Settings
from mainspring.core.errors import ServiceError, SourceError
from mainspring.data.named import named
from mainspring.data.sources import reader
from mainspring.store.secrets import secret

FIELDS = ("id", "key", "time", "label", "event", "at", "propensity")
_AT_ONCE = 1000
_PATIENCE_SECONDS = 30.0


@dataclass(slots=True)
class Labelled:
    """What became of the labels. refused: those without a prediction, or that can't be; kept: their file."""

    rows: int = 0
    new: int = 0
    known: int = 0
    corrected: int = 0
    refused: int = 0
    kept: str | None = None
    first_refusal: str = ""


def feedback(settings: Settings, name: str, data: str, *, url: str | None, refused: str | None) -> Labelled:
    """Give the rows of *data* to the endpoint as labels of loop *name*, a part at a time; each counts for itself.

    Again after a kill it does no harm: what was taken is known. Those refused go, with the reason, into a file that may
    be given again.
    """
    path = Path(refused or f"{name}-refused.jsonl")
    found = Labelled()
    with closing(_Endpoint(settings, url, name)) as endpoint, open(path, "w", encoding="utf-8") as file:
        for part in _parts(_labels(data)):
            _count(found, endpoint.take(part), part, file)
    if found.refused:
        found.kept = str(path)
    else:
        path.unlink()
    return found


def _labels(data: str) -> Iterator[dict[str, Any]]:
    for frame, _ in reader(named(data), ("id",)).read(None):
        names = [name for name in FIELDS if name in frame.columns]
        if not {"label", "event"} & set(names) or not {"id", "key"} & set(names):
            raise SourceError(
                f"{data} has the columns {', '.join(frame.columns[:20])}; labels need id or key, and label or event "
                "(and may have time, at, propensity)"
            )
        for row in frame.select(names).iter_rows(named=True):
            said = {name: _plain(value, name) for name, value in row.items() if value is not None}
            yield said if "event" in said else {"label": None, **said}


def _plain(value: Any, name: str) -> Any:
    if isinstance(value, datetime):
        instant = value.replace(tzinfo=UTC) if value.tzinfo is None and name == "at" else value
        return instant.isoformat()
    return value.isoformat() if isinstance(value, date) else value


def _parts(labels: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Labels in parts in which no prediction can have two: of two labels for one, the later row is the later label."""
    part: list[Mapping[str, Any]] = []
    there: set[Any] = set()
    for label in labels:
        about = label.get("id", label.get("key")) if "label" in label else None
        if len(part) == _AT_ONCE or about in there:
            yield part
            part, there = [], set()
        part.append(label)
        if about is not None:
            there.add(about)
    if part:
        yield part


def _count(found: Labelled, told: Mapping[str, Any], part: list[Mapping[str, Any]], file: TextIO) -> None:
    found.rows += len(part)
    found.new += told["new"]
    found.known += told["known"]
    found.corrected += told["corrected"]
    found.refused += len(told["refused"])
    for refusal in told["refused"]:
        found.first_refusal = found.first_refusal or refusal["message"]
        file.write(json.dumps({**part[refusal["place"]], "why": refusal["message"]}, ensure_ascii=False) + "\n")


class _Endpoint:
    """The endpoint's door for feedback, asked again while it starts."""

    def __init__(self, settings: Settings, url: str | None, name: str) -> None:
        scheme = "http" if settings.cert is None else "https"
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self._url = f"{(url or f'{scheme}://{host}:{settings.port}').rstrip('/')}/feedback/{name}?each=true"
        headers = {} if settings.token is None else {"authorization": f"Bearer {secret(settings.token)}"}
        self._client = httpx.Client(headers=headers, timeout=60, verify=settings.cert or True)

    def take(self, part: list[Mapping[str, Any]]) -> dict[str, Any]:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                answer = self._client.post(self._url, json=part)
                busy = answer.status_code in (429, 503)
                said = f"it answers {answer.status_code}: {answer.text[:300]}"
            except httpx.HTTPError as error:
                busy, said = True, f"it doesn't answer: {error}"
            else:
                if answer.status_code == 200:
                    told: dict[str, Any] = answer.json()
                    return told
            if not busy or time.monotonic() > deadline:
                raise ServiceError(
                    f"{self._url} took no more labels ({said}); once it does (`mainspring up`, `mainspring serve`), "
                    "run this again: what was taken counts once"
                )
            time.sleep(1.0)

    def close(self) -> None:
        self._client.close()
