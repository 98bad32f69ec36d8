"""Whose a data file is that is named while several calls are at work; what a folder holds."""

from __future__ import annotations

import contextvars
import threading
from pathlib import Path

from mainspring.pipeline import datafiles
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


def test_a_link_to_another_folder_beside_it_changes_what_a_folder_holds(tmp_path: Path) -> None:
    """A computed path may lead through it: data/{which}/cities.csv, where which is "latest"."""
    here = tmp_path / "steps.py"
    for day in ("monday", "tuesday"):
        (tmp_path / "data" / day).mkdir(parents=True)
        (tmp_path / "data" / day / "cities.csv").write_text(day)
    latest = tmp_path / "data" / "latest"
    latest.symlink_to("monday")
    before = datafiles.digest("data/", here)
    assert datafiles.counts(str(latest / "cities.csv"), "data/", here) and datafiles.digest("data/", here) == before

    latest.unlink()
    latest.symlink_to("tuesday")

    assert datafiles.digest("data/", here) != before
