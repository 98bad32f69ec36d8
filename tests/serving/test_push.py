"""A push is acknowledged once the endpoint has caught up; without an endpoint nobody waits long."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from mainspring.serving.push import Listener, notify
from mainspring.store.home import Home


def answering(listener: Listener, done: list[int], stop: threading.Event) -> None:
    while not stop.is_set():
        asked = listener.wait(0.05)
        done.append(len(asked))
        for acknowledge in asked:
            acknowledge()


def test_pushes_are_acknowledged(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    listener, done, stop = Listener(home), [], threading.Event()
    thread = threading.Thread(target=answering, args=(listener, done, stop))
    thread.start()
    acknowledged = [notify(home) for _ in range(5)]
    stop.set()
    thread.join()
    listener.close()

    assert acknowledged == [True] * 5 and sum(done) == 5
    assert not any(path.is_socket() for path in home.folder("run").iterdir()), "no socket is left behind"


def test_without_an_endpoint_the_answer_is_no_at_once(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    began = time.monotonic()

    assert notify(home) is False
    Listener(home)  # died without a word: its socket stays, nobody reads it
    assert time.monotonic() - began < 1


def test_an_endpoint_that_does_not_answer_costs_the_timeout(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    listener = Listener(home)

    assert notify(home, timeout_seconds=0.1) is False
    assert len(listener.wait(0)) == 1
    listener.close()


def test_a_home_deep_in_the_tree_can_be_pushed_too(tmp_path: Path) -> None:
    home = Home.open(tmp_path / ("deep" * 20) / ("deeper" * 20) / "home")
    listener, done, stop = Listener(home), [], threading.Event()
    thread = threading.Thread(target=answering, args=(listener, done, stop))
    thread.start()
    acknowledged = notify(home)
    stop.set()
    thread.join()
    listener.close()

    assert acknowledged is True


def test_a_new_endpoint_takes_the_name_over_and_the_old_one_does_not_take_it_away(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    old = Listener(home)
    new = Listener(home)
    old.close()

    assert (home.folder("run") / "serving.sock").exists()
    new.close()
