"""A data subject erased from all that a home keeps of its loops, with a report and an entry among the decisions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from mainspring.core.errors import NotInStore, StoreError
from mainspring.core.wording import count, listed
from mainspring.data import erasing
from mainspring.store import erased_records, traces
from mainspring.store.audit import ERASE, Audit
from mainspring.store.bundles import Bundles
from mainspring.store.deployments import DECLARED, Deployments
from mainspring.store.erasures import Erasures
from mainspring.store.home import Home
from mainspring.store.journal import Journal
from mainspring.store.protection import Protection, canonical, erased_digest


@dataclass(frozen=True, slots=True)
class Erased:
    """What went from one loop: rows by table, predictions, labels, artifacts and other documents. models: the versions
    that were trained or judged on the subject's rows; perhaps: on data that can't be read any more. left: files that
    hold something still, and can't be changed. shadows: rows that a shadowing candidate was shown."""

    loop: str
    tables: Mapping[str, int]
    predictions: int
    labels: int
    artifacts: int
    documents: int
    models: tuple[str, ...]
    left: tuple[str, ...]
    shadows: int = 0
    perhaps: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What was done, without whom it was done to."""
        named = {"rows": "the data", **{name: f"table {name}" for name in self.tables if name != "rows"}}
        rows = ", ".join(f"{number:,} of {named[name]}" for name, number in self.tables.items() if number) or "none"
        trained = f"; trained on them: {listed(list(self.models), 20)}" if self.models else ""
        if self.perhaps:
            trained += (
                f"; trained on data that can't be read any more, perhaps on them: {listed(list(self.perhaps), 20)}"
            )
        shown = f"{count(self.shadows, 'row')} of shadows, " if self.shadows else ""
        return (
            f"rows: {rows}; {count(self.predictions, 'prediction')}, {count(self.labels, 'label')}, {shown}"
            f"{count(self.artifacts, 'artifact')} and {count(self.documents, 'document')} cleared{trained}"
        )


def erase(home: Home, subject: str, loop: str | None, at: datetime, by: str = "unknown") -> list[Erased]:
    """Erase *subject*, a value of the loops' subject= columns, from *loop* or all loops that have one.

    Run again after an interruption it finishes: every part looks for what is still there.
    """
    _refuse_busy(home)
    cleared = [_cleared(home, name, subject, declared) for name, declared in _loops(home, loop).items()]
    done = [_looked_over(home, each) for each in cleared]  # then only: one loop's texts stand in another's rows
    for each, told in zip(cleared, done, strict=True):
        _written_down(home, told, each.forms, at, by)
    Audit(home).witness()
    return done


def without_subject(home: Home) -> list[str]:
    """The loops that don't say whom a row is about: their tables and records are not looked through."""
    declared = home.database.query("select loop, value from states where name = ? order by loop", (DECLARED,))
    return [row["loop"] for row in declared if not json.loads(row["value"]).get("roles", {}).get("subject")]


def _loops(home: Home, only: str | None) -> dict[str, Any]:
    """The loops that say whom a row is about, with what they declare."""
    deployments = Deployments(home)
    names = [row["loop"] for row in home.database.query("select loop from states where name = ?", (DECLARED,))]
    if only is not None and only not in names:
        raise NotInStore(f"no loop {only!r} in {home.path}; there are: {', '.join(sorted(names)) or 'none'}")
    found = {name: deployments.load_state(name, DECLARED) for name in sorted(names) if only in (None, name)}
    told = {name: declared for name, declared in found.items() if declared.get("roles", {}).get("subject")}
    if not told:
        which = "no loop" if only is None else f"loop {only!r} doesn't"
        says = "says" if only is None else "say"
        raise NotInStore(
            f"{which} {says} whom a row is about; write privacy=ms.Privacy(subject='COLUMN') in FILE and run it"
        )
    return told


def _refuse_busy(home: Home) -> None:
    Journal(home).look()
    busy = home.database.query("select id, pipeline from runs where status = 'running' limit 1")
    if busy:
        raise StoreError(f"run {busy[0]['id']} of {busy[0]['pipeline']} is under way; erase when it has ended")


@dataclass(frozen=True, slots=True)
class _Cleared:
    """What went from one loop, and what is looked for in all files: *texts*, but no name of its *own*."""

    done: Erased
    forms: Sequence[str]
    texts: set[str]
    own: set[str]


def _cleared(home: Home, loop: str, subject: str, declared: Any) -> _Cleared:
    column, forms = declared["roles"]["subject"], _forms(declared, subject)
    versions, unread = erasing.versions_with(home, loop, column, forms)
    models, perhaps = _trained(home, loop, versions), _trained(home, loop, unread)
    told = Erasures(home, loop).begin(forms, {"models": models, "perhaps": perhaps})
    unit = _unit(home, loop) == column
    chosen = erased_records.of_subject(column, forms, key=declared["roles"].get("key") == column, unit=unit)
    texts = {*forms, *erasing.texts_of(home, loop, column, forms, *erased_records.rows_of(home, loop, chosen))}
    artifacts = traces.drop_artifacts(home, loop) if versions else 0
    own = {loop, *declared["roles"].values(), *erasing.columns_of(home, loop)}
    traced = traces.erase_traces(home, texts, own)
    records = erased_records.erase_records(home, loop, chosen, forms if unit else ())
    erased_records.erase_damage(home, loop)
    tables = erasing.erase_rows(home, loop, column, forms)
    done = Erased(
        loop, tables, records.predictions, records.labels, artifacts, traced.documents, tuple(told["models"]), (),
        records.shadows, tuple(sorted({*told.get("perhaps", ())} - {*told["models"]})),
    )  # fmt: skip
    return _Cleared(done, forms, texts, own)


def _looked_over(home: Home, cleared: _Cleared) -> Erased:
    """What went, with what is left now."""
    traced, done = traces.erase_traces(home, cleared.texts, cleared.own), cleared.done
    return replace(done, documents=done.documents + traced.documents, left=tuple(traced.left))


def _forms(declared: Any, subject: str) -> list[str]:
    """All that the subject may be kept as: as given, and by every key."""
    rules = {name: tuple(rule) for name, rule in declared.get("privacy", {}).get("rules", {}).items()}
    forms = Protection(rules).forms(declared["roles"]["subject"], subject)
    return list(dict.fromkeys(canonical(form) for form in (subject, *forms)))


def _unit(home: Home, loop: str) -> str | None:
    """The column that releases stick to."""
    versions = Deployments(home).versions(loop)
    if not versions:
        return None
    manifest = Bundles(home).manifest(versions[-1].digest)
    return manifest.unit or manifest.roles.key


def _trained(home: Home, loop: str, versions: set[int]) -> list[str]:
    """The models that were trained or judged on one of the data *versions*."""
    bundles, found = Bundles(home), []
    for version in Deployments(home).versions(loop):
        lineage = bundles.manifest(version.digest).lineage
        if lineage.get("dataset_version") in versions:
            found.append(version.name)
    return found


def _written_down(home: Home, done: Erased, forms: Sequence[str], at: datetime, by: str) -> None:
    deployments = Deployments(home)
    data = {"subject": sorted(erased_digest(form) for form in forms), "models": done.models,
            "perhaps": done.perhaps, "left": done.left, "tables": dict(done.tables), "predictions": done.predictions,
            "labels": done.labels, "shadows": done.shadows}  # fmt: skip
    with deployments.transaction():
        deployments.decide(
            done.loop, at=at, kind="erase", decision="erased", version=None, reason=done.sentence, data=data
        )
        Audit(home).add(ERASE, done.loop, None, by=by, reason=done.sentence)
        Erasures(home, done.loop).end()
