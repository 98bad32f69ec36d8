"""`mainspring erase`: a data subject goes, and a report says from where; the subject itself is not shown again."""

from __future__ import annotations

from collections.abc import Sequence

from mainspring.app import asking, document
from mainspring.app.person import person
from mainspring.loop.erasure import Erased, without_subject
from mainspring.loop.erasure import erase as erased
from mainspring.serving import push
from mainspring.store.deployments import Deployments
from mainspring.store.home import Home


def erase(home: Home, *, subject: str, loop: str | None, as_json: bool) -> int:
    """Erase *subject* from *loop*, or from all; exit code 1 where a file that can't be changed still has something.

    Beside a `mainspring up` its controller does it, as soon as no turn is under way.
    """
    done = _erased(home, subject, loop)
    left = any(each.left for each in done)
    if as_json:
        document.one("erase", "failed" if left else "done", loops=done)
        return 1 if left else 0
    _show(done)
    if loop is None and (others := without_subject(home)):
        print(f"not looked through, for they don't say whom a row is about (Privacy(subject=)): {', '.join(others)}")
    return 1 if left else 0


def _erased(home: Home, subject: str, loop: str | None) -> list[Erased]:
    if (api := asking.address(home)) is not None:
        told = asking.ask(home, api, "/api/erase", {"subject": subject, "loop": loop})
        return [Erased(**each) for each in told["loops"]]
    done = erased(home, subject, loop, Deployments(home).now(), person())
    push.notify(home)  # `mainspring serve` may run
    return done


def _show(done: Sequence[Erased]) -> None:
    for each in done:
        print(f"{each.loop}: {each.sentence}")
        if each.models or each.perhaps:
            print("  these models learnt from it; the next run trains one that doesn't: mainspring run FILE")
        for path in each.left:
            print(f"  still in {path}, {_mend(path)}")


def _mend(path: str) -> str:
    if path.startswith("tables/"):  # to remove it would break the table
        return "in rows that are about others: mend those in the source and run the loop, then erase again"
    return "which is signed or not text: remove it by hand when no version needs it"
