"""`mainspring audit`: what people did by hand, and whether the log of it is as it was written."""

from __future__ import annotations

from mainspring.app import document
from mainspring.app import show as showing
from mainspring.app.config import existing
from mainspring.core.wording import count
from mainspring.store.audit import Audit


def audit(*, home: str | None, action: str, as_json: bool) -> int:
    """Show or verify the log. Exit code 1: it was changed, or a part of it is gone."""
    log = Audit(existing(home))
    return _verify(log, as_json) if action == "verify" else _show(log, as_json)


def _show(log: Audit, as_json: bool) -> int:
    if as_json:
        return document.one("audit", "done", entries=log.entries())
    showing.acts(log.entries())
    return 0


def _verify(log: Audit, as_json: bool) -> int:
    faults, entries = log.faults(), len(log.entries())
    if as_json:
        told = {"entries": entries, "faults": faults, "witnessed": log.is_witnessed}
        document.one("audit-verify", "failed" if faults else "done", **told)
    elif faults:
        print("the audit log isn't as it was written:", *(f"- {fault}" for fault in faults), sep="\n")
        print("restore the home's database from a backup made before that, and find out who could write it")
    else:
        end = "" if log.is_witnessed or not entries else "; nothing outside of the home says how far it went"
        print(f"{count(entries, 'entry', 'entries')}: the log is as it was written{end}")
    return 1 if faults else 0
