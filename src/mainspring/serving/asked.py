"""What a door has read out of a body, and the small doors: our own /predict and KServe's V1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from mainspring.core.errors import InvalidRequest, InvalidRows, WrongFormat
from mainspring.serving import bodies, invocations
from mainspring.serving.bodies import Headers, Reply
from mainspring.serving.loaded import Loaded
from mainspring.serving.served import Answer

MOST_IDS = 100
"""As many prediction ids fit a header; doors whose protocol has no place for ids tell them there."""
_TRUTHS = {b"true": True, b"True": True, b"1": True, b"false": False, b"False": False, b"0": False}
_FIELDS = frozenset({"rows", "strict", "explain"})
_NO_JSON = ("text/csv", "multipart/", "image/", "audio/", "video/", "application/vnd.", "application/x-parquet")


class Body(msgspec.Struct, frozen=True):
    """A request's body as it came, with its headers and query."""

    content: bytes
    headers: Headers
    query: bytes = b""

    def asks_for(self, flag: bytes) -> bool:
        """Whether the query has flag=true; raises InvalidRequest for anything but true and false."""
        if not self.query:
            return False
        said = [value for name, _, value in (part.partition(b"=") for part in self.query.split(b"&")) if name == flag]
        if any(value not in _TRUTHS for value in said):
            told = f"{flag.decode()}={said[-1].decode('latin-1')[:40]}"
            raise InvalidRequest(f"{told!r} in the query is neither true nor false")
        return any(_TRUTHS[value] for value in said)

    def json(self, *, nan: bool = False) -> Any:
        """The JSON value; a body that says it is something else is refused. nan: whether NaN is a missing value."""
        return bodies.parse(self.as_json(), nan=nan)

    def as_json(self) -> bytes:
        """The content, unread; a body that says it is something else than JSON is refused."""
        said = bodies.media_type(self.headers)
        if said.startswith(_NO_JSON) and not said.endswith("json"):
            raise WrongFormat(f"content type {said[:60]!r} is not read here; send application/json")
        return self.content


class Asked(msgspec.Struct, frozen=True):
    """Rows to answer. tell: how. unit: what the release sticks to, where the body names it."""

    rows: list[Any]
    tell: Callable[[Answer], Reply]
    strict: bool = False
    explain: bool = False
    unit: str | None = None


Read = Callable[[Body, Loaded], Asked]
"""What makes a door: a body, for the version that answers most -> what it asks."""


def own(body: Body, loaded: Loaded) -> Asked:
    """/predict/{loop}: {"rows": [...]}, a list of rows, or one row."""
    typed = loaded.columns.typed(body.as_json())
    if typed is not None:
        return Asked(typed, _told, body.asks_for(b"strict"), body.asks_for(b"explain"))
    given = body.json()
    if not isinstance(given, dict | list):
        raise InvalidRequest('the body must be {"rows": [{...}]}, a list of rows, or one row as an object')
    strict, explain = body.asks_for(b"strict"), body.asks_for(b"explain")
    if isinstance(given, dict):
        if not isinstance(given.get("rows"), list):
            if "rows" in given and given.keys() <= _FIELDS:
                raise InvalidRows(f"rows must be a list of objects, not {str(given['rows'])[:60]!r}")
            return Asked([given], _told, strict, explain)
        if unknown := sorted(given.keys() - _FIELDS):
            raise InvalidRequest(
                f"{str(unknown[0])[:60]!r} beside rows is unknown; there are strict and explain, and the header "
                "Mainspring-Unit for the unit"
            )
        strict, explain = _flag(given, "strict") or strict, _flag(given, "explain") or explain
        given = given["rows"]
    for number, row in enumerate(given):
        if not isinstance(row, dict):
            raise InvalidRows(f"row {number} is {str(row)[:60]!r}, not an object with a value for each column")
    return Asked(given, _told, strict, explain)


def _flag(given: dict[str, Any], name: str) -> bool:
    said = given.get(name)
    if said is None or isinstance(said, bool):
        return bool(said)
    raise InvalidRequest(f"{name} is {str(said)[:40]!r}, neither true nor false")


def mlflow(body: Body, loaded: Loaded) -> Asked:
    """MLflow's scoring protocol, JSON or CSV."""
    inputs = loaded.manifest.inputs
    if bodies.media_type(body.headers) == "text/csv":
        return Asked(invocations.rows_of_csv(bodies.text(body.content), inputs), predictions_only)
    return Asked(invocations.rows_of(body.json(nan=True), inputs.names), predictions_only)


def kserve(body: Body, loaded: Loaded) -> Asked:
    """KServe's V1: {"instances": [...]}, each a row as an object or as a list in the order of the columns."""
    given = body.json()
    if not isinstance(given, dict) or ("instances" in given) == ("inputs" in given):
        raise InvalidRequest('the body must be {"instances": [...]}')
    form = "instances" if "instances" in given else "inputs"
    return Asked(invocations.rows_of({form: given[form]}, loaded.manifest.inputs.names), predictions_only)


def predictions_only(answer: Answer) -> Reply:
    """{"predictions": [...]}, which is all that MLflow's protocol and KServe's V1 have room for."""
    headers = recorded(answer)
    if len(answer.ids) <= MOST_IDS:
        headers.append((b"mainspring-ids", ",".join(answer.ids).encode()))
    return Reply(bodies.encode({"predictions": answer.said.labels}), headers=headers)


def recorded(answer: Answer) -> Headers:
    """The header of an answer that could not be recorded."""
    return [] if answer.recorded else [(b"mainspring-recorded", b"no")]


def _told(answer: Answer) -> Reply:
    said = answer.said
    told: dict[str, Any] = {"model": answer.loaded.name, "ids": answer.ids, "predictions": said.labels}
    if not answer.loaded.regression:
        told["classes"] = answer.loaded.classes
        if said.probabilities is not None:
            told["probabilities"] = said.probabilities
    if answer.explanations is not None:
        told["explanations"] = answer.explanations
    return Reply(bodies.encode(told), headers=recorded(answer))
