"""Warnings that are kept apart by thread, and a process whose filters are afterwards as they were."""

from __future__ import annotations

import threading
import warnings

import pytest

from mainspring.core.quiet import heard


def test_threads_that_overlap_hear_only_their_own_and_leave_the_filters_as_they_were() -> None:
    before, inside, leave = list(warnings.filters), threading.Event(), threading.Event()
    theirs: list[str] = []

    def other() -> None:
        with heard() as said:
            inside.set()
            leave.wait(5)
            warnings.warn("theirs", DeprecationWarning, stacklevel=1)
        theirs.extend(map(str, said))

    thread = threading.Thread(target=other)
    with heard() as mine:
        thread.start()
        assert inside.wait(5)
        warnings.warn("mine", UserWarning, stacklevel=1)
    leave.set()
    thread.join()

    assert list(map(str, mine)) == ["mine"] and theirs == ["theirs"]
    assert list(warnings.filters) == before


def test_a_worker_is_heard_by_who_started_it() -> None:
    with heard() as said:
        worker = threading.Thread(target=lambda: warnings.warn("from a worker", stacklevel=1))
        worker.start()
        worker.join()

    assert list(map(str, said)) == ["from a worker"]


def test_the_inner_of_two_hears_and_the_outer_goes_on() -> None:
    with heard() as outer:
        with heard() as inner:
            warnings.warn("first", stacklevel=1)
        warnings.warn("second", stacklevel=1)

    assert (list(map(str, inner)), list(map(str, outer))) == (["first"], ["second"])


def test_outside_nothing_is_swallowed() -> None:
    with heard():
        pass

    with pytest.warns(UserWarning, match="still told"):
        warnings.warn("still told", UserWarning, stacklevel=1)
