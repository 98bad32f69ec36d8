"""`mainspring resume`: what an interrupted run was asked for, from the journal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mainspring.app import config
from mainspring.core.errors import UsageError
from mainspring.store.home import Home
from mainspring.store.journal import Journal, RunRecord


def asked(home: str | None, run: str | None) -> dict[str, Any]:
    """The arguments of `mainspring run` that go on with *run*, or with the newest run that was interrupted.

    Raises UsageError where there is none, or where its pipeline has had another run since.
    """
    journal = Journal(Home.open(config.read(home=home).home))
    found = journal.run(run) if run is not None else _newest(journal)
    if found.status != "interrupted":
        raise UsageError(f"run {found.id} of {found.pipeline} is {found.status}, not interrupted; run its FILE again")
    later = journal.runs(found.pipeline, 1)[0]
    if later.id != found.id:
        raise UsageError(f"run {found.id} of {found.pipeline} was followed by {later.id}; run its FILE again")
    file = str(found.owner.get("file", ""))
    path = file.rpartition(":")[0] if ".py:" in file else file
    if not Path(path).is_file():
        where = f"its FILE {path} is gone" if path else "it was started from Python"
        raise UsageError(f"run {found.id} of {found.pipeline} can't be gone on with: {where}; run it again there")
    chosen = found.selection or {}
    return {
        "file": f"{path}:{found.pipeline}",
        "settings": [_setting(found, name, value) for name, value in found.parameters.items()],
        "start": chosen.get("from"),
        "until": chosen.get("until"),
        "only": tuple(chosen.get("only", ())),
        "force": tuple(chosen.get("force", ())),
    }


def _newest(journal: Journal) -> RunRecord:
    found = next((run for run in journal.runs(limit=1000) if run.status == "interrupted"), None)
    if found is None:
        raise UsageError("no run was interrupted; `mainspring runs` lists them all")
    return found


def _setting(run: RunRecord, name: str, value: Any) -> str:
    if isinstance(value, dict):
        raise UsageError(f"run {run.id} has a value for {name} that only Python can give; run it again there")
    return f"{name}={str(value).lower() if isinstance(value, bool) else value}"
