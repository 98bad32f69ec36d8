"""The garbage collector's pause: what is made in it is old afterwards, and what somebody keeps apart stays apart."""

from __future__ import annotations

import gc

from mainspring.core import collector


def test_what_is_made_in_a_pause_is_old_at_once_and_the_collector_goes_on() -> None:
    gc.collect()
    with collector.paused():
        made = [object.__new__(type("Made", (), {})) for _ in range(3)]

    old = {id(each) for each in gc.get_objects(generation=2)}
    assert {id(each) for each in made} <= old
    assert gc.isenabled()


def test_pauses_without_a_full_collection_between_put_none_off() -> None:
    """Each would begin the count to the next one anew: a process of many small runs would keep all its garbage."""
    gc.collect()
    with collector.paused():
        pass
    with collector.paused():
        made = [object.__new__(type("Made", (), {})) for _ in range(3)]

    assert not {id(each) for each in gc.get_objects(generation=2)} & {id(each) for each in made}


def test_what_somebody_froze_stays_frozen() -> None:
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with collector.paused():
            pass
        assert gc.get_freeze_count() >= frozen - 10
    finally:
        gc.unfreeze()
