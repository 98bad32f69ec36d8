"""One run under way: which steps are over, which are ready, which are at work, and what is still to be written down."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

from mainspring.core.errors import HomeDamaged, MainspringError, NotInStore, StepFailed
from mainspring.execution.freshness import Freshness
from mainspring.execution.outcome import Event, Outputs, Report, StepResult, StepState
from mainspring.execution.schedule import Schedule
from mainspring.execution.task import Fan, Task, elements
from mainspring.execution.work import Done, Failed, Stopped, explained, sentence, work
from mainspring.pipeline.fingerprint import Parts
from mainspring.pipeline.graph import Graph, Node
from mainspring.store.catalog import Artifact, Catalog
from mainspring.store.journal import Claim, Hit, Journal

_LOOK_SECONDS = 0.25


class _Lost(Exception):
    """A kept output that was sound can't be read after all; its step must run again."""

    def __init__(self, name: str, error: MainspringError) -> None:
        self.name, self.error = name, error


class Turn:
    """Walks one run through its graph. Only the thread that calls `run` touches the journal and this object."""

    def __init__(
        self,
        graph: Graph,
        chosen: frozenset[str],
        journal: Journal,
        catalog: Catalog,
        freshness: Freshness,
        claim: Claim,
        services: dict[str, Any],
        report: Report,
        executor: Executor | None,
    ) -> None:
        self._graph, self._chosen = graph, chosen
        self._journal, self._catalog, self._freshness, self._claim = journal, catalog, freshness, claim
        self._services = services
        self._report, self._executor, self._own_pool = report, executor, False
        self._finished = journal.finished(claim.run) if claim.resumed else {}
        self._names = graph.names
        self._schedule = Schedule(graph)
        self._artifacts: dict[str, Artifact] = {}
        self._values: dict[str, Any] = {}
        self._users = {name: len(users) for name, users in graph.dependants.items()}
        self._results: dict[str, StepResult] = {}
        self._errors: dict[str, BaseException] = {}
        self._remade: set[str] = set()
        self._fans: dict[str, Fan] = {}
        self._queue: deque[Task] = deque()
        self._running: dict[Future[Done | Failed], Task] = {}
        self._writes: list[Callable[[], None]] = []
        self._stop = threading.Event()
        self._looked = 0.0
        self.cancelled = False

    # ----------------------------------------------------------------------------------------------- seen from outside

    @property
    def error(self) -> BaseException | None:
        """The error of the first step, in the graph's order, that failed."""
        return next((self._errors[name] for name in self._names if name in self._errors), None)

    def run(self) -> None:
        """Until every step is over, or the run is cancelled."""
        while True:
            self._settle()
            tasks = self._next()
            self._flush()
            if self.cancelled or not (tasks or self._running):
                break
            self._start(tasks)
            self._collect()
        self.drain()

    def drain(self) -> None:
        """Let what is at work end, and write it down; nothing more is started."""
        self._stop.set()
        self._queue.clear()
        while self._running:
            self._collect()
        self._flush()

    def close(self) -> None:
        """Give back the threads."""
        self._stop.set()
        if self._executor is not None and self._own_pool:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def outputs(self) -> Outputs:
        artifacts = {name: self._artifacts[name] for name in self._names if name in self._artifacts}
        return Outputs(self._catalog, artifacts, self._values)

    def results(self) -> tuple[StepResult, ...]:
        return tuple(self._results[name] for name in self._names if name in self._results)

    def tell(self, kind: str, step: str = "", message: str = "", **figures: Any) -> None:
        self._report(Event(kind, self._claim.run, step, message, **figures))

    # ---------------------------------------------------------------------------------------------- what becomes ready

    def _settle(self) -> None:
        """Take up every step whose inputs are over: from the cache, skipped, or queued to be run."""
        while (node := self._schedule.next()) is not None:
            try:
                self._take_up(node)
            except _Lost as lost:
                self._remake(lost, node)
            except MainspringError as error:
                self._fail(node, node.name, error)

    def _take_up(self, node: Node) -> None:
        if node.name not in self._chosen:
            return self._take_last(node)
        without = next((name for name in node.waits if name not in self._artifacts), None)
        if without is not None:
            return self._skip(node, f"{without} {'failed' if without in self._errors else 'was skipped'}")
        outputs = _Read(self)
        refused = node.step.when.refuses(outputs) if node.step.when else None
        if refused is not None:
            return self._skip(node, refused)
        used = [name for name in node.waits if name in node.inputs or name in node.step.each.values()]
        parts = self._freshness.parts(node, {name: self._artifacts[name] for name in used}, outputs)
        hit, reasons = self._freshness.hit(node, parts, self._finished.get(node.name))
        if hit is not None:
            return self._cached(node, parts, hit)
        reason = "; ".join(str(each) for each in reasons[:3])
        if node.element is None:
            self._queue.append(Task(node, node.name, parts, reason))
            return None
        return self._fan_out(node, parts, reason)

    def _take_last(self, node: Node) -> None:
        """A step before the selection: its last output, whatever has changed since."""
        if not any(name in self._chosen for name in self._graph.dependants[node.name]):
            return self._over(node.name, None)
        record = self._freshness.latest.get(node.name)
        if record is None or record.output is None or not self._catalog.sound(record.output):
            raise StepFailed(f"step {node.name!r} isn't selected and has no kept output; run it first, without --from")
        return self._over(node.name, record.output)

    def _cached(self, node: Node, parts: Parts, hit: Hit) -> None:
        self._note(self._journal.step_cached, node.name, parts.fingerprint, parts.to_json(), hit)
        self._result(node.name, "cached", 0.0, f"from run {hit.run}")
        self._over(node.name, hit.output)

    def _skip(self, node: Node, reason: str) -> None:
        self._note(self._journal.step_skipped, node.name, reason)
        self._result(node.name, "skipped", 0.0, reason)
        self._over(node.name, None)

    def _over(self, name: str, artifact: Artifact | None) -> None:
        """*name* is settled: those who wait for it may go on, and what only it needed is let go."""
        if artifact is not None:
            self._artifacts[name] = artifact
        self._schedule.over(name)
        for source in self._graph.nodes[name].waits:
            self._users[source] -= 1
            if not self._users[source]:
                self._values.pop(source, None)

    def _result(self, name: str, state: StepState, seconds: float, reason: str) -> None:
        self._results[name] = StepResult(name, state, seconds, reason)
        self.tell(state, name, reason, seconds=seconds)

    # --------------------------------------------------------------------------------------------------- fan-out, lost

    def _fan_out(self, node: Node, parts: Parts, reason: str) -> None:
        values = elements(node, self._each(node))
        fan = self._fans[node.name] = Fan(parts, [None] * len(values))
        self._note(self._journal.step_started, node.name, parts.fingerprint, parts.to_json(), reason)
        tasks = []
        for index, element in enumerate(values):
            own, name = self._freshness.element_parts(node, parts, element), f"{node.name}[{index}]"
            if not fan.add(index, own):
                continue
            hit, _ = self._freshness.hit(node, own, self._finished.get(name))
            if hit is None:
                tasks.append(Task(node, name, own, reason, index, element))
            else:
                self._note(self._journal.step_cached, name, own.fingerprint, own.to_json(), hit)
                fan.fill(own, hit.output)
        self._queue.extend(tasks)
        if not tasks:
            self._gather(node)

    def _each(self, node: Node) -> Any:
        """The list that *node* runs over: written there, a step's output, or a run parameter."""
        values = node.step.each[node.element or ""]
        if not isinstance(values, str):
            return values
        return self.value(values) if values in self._graph.nodes else self._freshness.arguments(node)[values]

    def _gather(self, node: Node) -> None:
        """The step is over when all its elements are: their outputs in a list, in order."""
        fan = self._fans.pop(node.name)
        output = self._catalog.gather([each for each in fan.outputs if each is not None])
        self._finish(node, node.name, output, fan.seconds, 1, keep=True)
        self._result(node.name, "run", fan.seconds, f"{len(fan.outputs)} elements")
        self._over(node.name, output)

    def _remake(self, lost: _Lost, consumer: Node) -> None:
        """Run the step whose output is lost again, and *consumer* after it."""
        if lost.name in self._remade or lost.name not in self._chosen:
            return self._fail(consumer, consumer.name, lost.error)
        self._remade.add(lost.name)
        self._freshness.force.add(lost.name)
        self._finished.pop(lost.name, None)
        self._fans.pop(consumer.name, None)
        self._queue = deque(task for task in self._queue if task.node is not consumer)
        self._artifacts.pop(lost.name, None)
        self._schedule.again(lost.name, consumer.name)
        for source in self._graph.nodes[lost.name].waits:
            self._users[source] += 1
        return None

    # ------------------------------------------------------------------------------------------------------ at work

    def _next(self) -> list[tuple[Task, dict[str, Any]]]:
        """The tasks to start now, with their arguments; their rows are written before they start."""
        tasks: list[tuple[Task, dict[str, Any]]] = []
        while self._queue and len(self._running) + len(tasks) < self._width():
            task = self._queue.popleft()
            try:
                tasks.append((task, self._arguments(task)))
            except _Lost as lost:
                self._remake(lost, task.node)
                self._settle()
            except MainspringError as error:
                self._fail(task.node, task.name, error)
                self._settle()
            else:
                parts = task.parts
                self._note(self._journal.step_started, task.name, parts.fingerprint, parts.to_json(), task.reason)
        return tasks

    def _width(self) -> int:
        given = getattr(self._executor, "_max_workers", None)
        return given if isinstance(given, int) else max(2, min(4, os.cpu_count() or 1))

    def _arguments(self, task: Task) -> dict[str, Any]:
        node = task.node
        arguments = {**node.step.parameters, **self._freshness.arguments(node)}
        for name in node.step.services:
            arguments[name] = self._progress(task) if name == "progress" else self._service(node, name)
        task.inputs = {name: self.value(name) for name in node.inputs}
        arguments.update(task.inputs)
        if node.element is not None:
            arguments[node.element] = task.element
        return arguments

    def _service(self, node: Node, name: str) -> Any:
        if name not in self._services:
            has = ", ".join(self._services)
            raise StepFailed(f"step {node.name!r} asks for the service {name!r}; this run has {has} and progress")
        return self._services[name]

    def value(self, name: str) -> Any:
        """The output of *name*, for one more user: its own copy while others still need it, so that nobody sees what
        another does to it; the object in memory for the last, and a frame for all."""
        artifact = self._artifacts[name]
        shared = self._users[name] <= 1 or artifact.format == "frame"
        if shared and name in self._values:
            return self._values[name]
        try:
            value = self._catalog.load(artifact)
        except (HomeDamaged, NotInStore) as error:
            raise _Lost(name, error) from error
        if shared and artifact.content is None:
            self._values[name] = value
        return value

    def _start(self, tasks: list[tuple[Task, dict[str, Any]]]) -> None:
        alone = self._executor is None and not self._running and len(tasks) == 1
        if not alone and self._executor is None and tasks:
            self._executor, self._own_pool = ThreadPoolExecutor(self._width(), "mainspring-step"), True
        for task, arguments in tasks:
            self.tell("started", task.name, task.reason)
            call = partial(work, task.node.step, arguments, self._catalog, self._stop, partial(self._retried, task))
            if alone:
                self._here(task, call)
            elif self._executor is not None:
                self._running[self._executor.submit(call)] = task

    def _here(self, task: Task, call: Callable[[], Done | Failed]) -> None:
        """Run a lone task in this thread."""
        try:
            self._done(task, call())
        except Stopped:
            self._halt()

    def _collect(self) -> None:
        """Take in what has ended, and look whether the run is to stop."""
        if self._running:
            ended, _ = wait(self._running, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
            for future in ended:
                task = self._running.pop(future)
                try:
                    self._done(task, future.result())
                except Stopped:
                    self._halt()
        self._look()

    def _look(self) -> None:
        if time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._looked = time.monotonic()
            if self._journal.cancelled(self._claim):
                self._halt()

    def _halt(self) -> None:
        self.cancelled = True
        self._stop.set()
        self._queue.clear()

    def _progress(self, task: Task) -> Callable[[str, int, int], None]:
        """Tells how far a step is; also where a step that runs long notices that it is to stop."""
        given, here = self._services.get("progress"), threading.get_ident()

        def progress(what: str, done: int = 0, of: int = 0) -> None:
            if threading.get_ident() == here:
                self._look()
            if self._stop.is_set():
                raise Stopped
            self.tell("progress", task.name, what, done=done, of=of)
            if given is not None:
                given(what, done, of)

        return progress

    def _retried(self, task: Task, attempt: int, error: str) -> None:
        self.tell("retry", task.name, f"attempt {attempt} of {task.node.step.retries + 1} failed: {error}")

    # ------------------------------------------------------------------------------------------------- what has ended

    def _done(self, task: Task, result: Done | Failed) -> None:
        if isinstance(result, Failed):
            element = {} if task.index is None else {task.node.element or "": task.element}
            error = explained(task.node.step, task.name, {**task.inputs, **element}, result)
            self._fail(task.node, task.name, error, result)
            return
        self._finish(task.node, task.name, result.artifact, result.seconds, result.attempt, keep=task.node.step.cache)
        if task.index is None:
            if result.artifact.content is None:
                self._values[task.name] = result.value
            self._result(task.name, "run", result.seconds, task.reason)
            self._over(task.name, result.artifact)
        else:
            self._element_done(task, result)

    def _element_done(self, task: Task, result: Done) -> None:
        self.tell("run", task.name, task.reason, seconds=result.seconds)
        fan = self._fans.get(task.node.name)
        if fan is None:
            return
        fan.seconds += result.seconds
        fan.fill(task.parts, result.artifact)
        if fan.full:
            self._gather(task.node)

    def _finish(self, node: Node, name: str, output: Artifact, seconds: float, attempt: int, *, keep: bool) -> None:
        keep_as = node.name if keep and node.step.cache else None
        self._note(self._journal.step_finished, name, output, seconds=seconds, attempt=attempt, keep_as=keep_as)

    def _fail(self, node: Node, name: str, error: BaseException, result: Failed | None = None) -> None:
        """A failed step, or element of one, ends the step; the branches beside it go on."""
        words = str(error) if isinstance(error, MainspringError) else sentence(error)
        trace, attempt, seconds = ("", 1, 0.0) if result is None else (result.trace, result.attempt, result.seconds)
        for row in dict.fromkeys([name, node.name]):
            self._note(self._journal.step_failed, row, words, trace, attempt=attempt, seconds=seconds)
        self._fans.pop(node.name, None)
        self._queue = deque(task for task in self._queue if task.node is not node)
        if node.name not in self._errors:
            self._errors[node.name] = error
            self._result(node.name, "failed", seconds, words)
            self._over(node.name, None)

    def _note(self, write: Callable[..., None], name: str, *figures: Any, **named: Any) -> None:
        """Have *write* put down with the next transaction."""
        self._writes.append(partial(write, self._claim, name, *figures, **named))

    def _flush(self) -> None:
        """Write down, in one transaction, all that has happened since the last; then ask whether to go on."""
        if self._writes:
            with self._journal.writing(self._claim):
                for write in self._writes:
                    write()
            self._writes.clear()
        if not self._stop.is_set():
            self._looked = 0.0
            self._look()


class _Read(Mapping[str, Any]):
    """The outputs of the steps that are over, each read when asked for."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def __getitem__(self, name: str) -> Any:
        return self._turn.value(name)

    def __iter__(self) -> Any:
        return iter(self._turn._artifacts)

    def __len__(self) -> int:
        return len(self._turn._artifacts)
