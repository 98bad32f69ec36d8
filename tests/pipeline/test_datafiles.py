"""Whose a data file is that is named while several calls are at work."""

from __future__ import annotations

import contextvars
import threading
from pathlib import Path

from mainspring.pipeline.datafiles import file, naming


def test_what_a_task_left_over_by_an_earlier_call_names_counts_for_the_calls_at_work(tmp_path: Path) -> None:
    """A loop or pool that a step leaves running keeps the context in which it began."""
    named = tmp_path / "cities.csv"
    named.touch()
    with naming() as before:
        left_over = contextvars.copy_context()

    with naming() as mine:
        left_over.run(file, named)

    assert (list(before), list(mine)) == ([], [str(named)])


def test_what_a_thread_of_a_call_names_counts_for_each_call_at_work_and_for_none_that_is_over(tmp_path: Path) -> None:
    named = tmp_path / "cities.csv"
    named.touch()
    with naming() as over:
        pass

    with naming() as outer, naming() as mine:
        thread = threading.Thread(target=file, args=(named,))
        thread.start()
        thread.join()

    assert (list(over), list(outer), list(mine)) == ([], [str(named)], [str(named)])
