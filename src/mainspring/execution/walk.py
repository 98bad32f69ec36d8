"""One run under way: which steps are over, which are ready, which are at work, and what the ledger is to write."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from mainspring.core.errors import HomeDamaged, MainspringError, NotInStore, StepFailed
from mainspring.execution import logs
from mainspring.execution.crew import LOOK_SECONDS, Crew
from mainspring.execution.freshness import Freshness, untold
from mainspring.execution.outcome import Event, Outputs, Report, StepResult, StepState
from mainspring.execution.schedule import Schedule
from mainspring.execution.task import Failure, Fan, Task, elements
from mainspring.execution.work import Bench, Call, Done, Failed, Input, Lost, Stopped, explained
from mainspring.pipeline.fingerprint import UNTOLD, Parts
from mainspring.pipeline.graph import Graph, Node
from mainspring.store.catalog import Artifact
from mainspring.store.home import Home
from mainspring.store.journal import Claim, Hit, Journal
from mainspring.store.ledger import Ledger


class _Gone(Exception):
    """A kept output that was sound can't be read after all; its step must run again."""

    def __init__(self, name: str, error: MainspringError) -> None:
        self.name, self.error = name, error


class Walk:
    """Walks one run through its graph, in the thread that calls `run`; steps beside it only tell how far they are."""

    def __init__(
        self,
        graph: Graph,
        chosen: frozenset[str],
        home: Home,
        journal: Journal,
        claim: Claim,
        ledger: Ledger,
        freshness: Freshness,
        bench: Bench,
        services: Mapping[str, Any],
        report: Report | None,
    ) -> None:
        self._graph, self._chosen, self._home = graph, chosen, home
        self._journal, self._claim, self._ledger, self._freshness = journal, claim, ledger, freshness
        self._bench, self._services, self._report = bench, services, report
        self._finished = journal.finished(claim.run) if claim.resumed else {}
        self._untold = untold(journal.parts(claim.run, UNTOLD)) if claim.resumed else {}
        self._names = graph.names
        self._schedule = Schedule(graph)
        self._artifacts: dict[str, Artifact] = {}
        self._users = {name: len(users) for name, users in graph.dependants.items()}
        self._results: dict[str, StepResult] = {}
        self._errors: dict[str, BaseException] = {}
        self._remade: dict[str, int] = {}
        self._remakes = 0
        self._fans: dict[str, Fan] = {}
        self._queue: list[tuple[int, int, Task]] = []
        self._numbers = itertools.count()
        self._looked = 0.0
        self._telling = threading.Lock()
        self._thread = threading.current_thread()
        self._logs = logs.path(home, claim.run, "").parent
        self.cancelled = False
        self.stopping = False
        """Nothing more is started; what is at work ends."""

    # ----------------------------------------------------------------------------------------------- seen from outside

    @property
    def error(self) -> BaseException | None:
        """The error of the first step, in the graph's order, that failed."""
        return next((self._errors[name] for name in self._names if name in self._errors), None)

    def run(self, crew: Crew) -> None:
        """Until every step is over, or the run is cancelled or to stop."""
        while True:
            self._settle()
            self._look()
            if self.cancelled or self.stopping:
                break
            self._start(crew)
            if crew.idle and not self._queue:
                break
            self._collect(crew)
        if self.cancelled:
            crew.dismiss()
        elif self.stopping:
            crew.recall()
            self.tell("stopping", message="what is at work ends, then the run stops; Ctrl-C again stops it at once")
        self.drain(crew)

    def drain(self, crew: Crew) -> None:
        """Let what is at work end, and have all of it written down; nothing more is started."""
        self._queue.clear()
        while crew.busy:
            self._collect(crew)
        self._collect(crew)
        self._ledger.settle()

    def outputs(self) -> Outputs:
        artifacts = {name: self._artifacts[name] for name in self._names if name in self._artifacts}
        kept = self._bench.values
        values = {name: kept[each.digest] for name, each in artifacts.items() if each.digest in kept}
        return Outputs(self._bench.catalog, artifacts, values)

    def results(self) -> tuple[StepResult, ...]:
        return tuple(self._results[name] for name in self._names if name in self._results)

    def tell(self, kind: str, step: str = "", message: str = "", **figures: Any) -> None:
        if self._report is not None:
            with self._telling:  # the ledger's thread tells what is durable, this one and steps beside it the rest
                self._report(Event(kind, self._claim.run, step, message, **figures))

    def _told(self, kind: str, name: str, message: str, seconds: float) -> None:
        """The end of a step, told once it is durable."""
        if self._report is not None:
            self._ledger.tell(lambda: self.tell(kind, name, message, seconds=seconds))

    def said(self, task: str, what: str, done: int, of: int) -> None:
        """A step tells how far it is; also where one in this process notices that it is to stop."""
        self.tell("progress", task, what, done=done, of=of)
        if (given := self._services.get("progress")) is not None:
            given(what, done, of)

    def said_here(self, task: str, what: str, done: int, of: int) -> None:
        """The same for a step of this process, which may have to stop."""
        if threading.current_thread() is self._thread:
            self._look()
        if self.cancelled:
            raise Stopped
        self.said(task, what, done, of)

    def printed(self, task: str, text: str) -> None:
        """A step of another process has printed *text*."""
        self.tell("output", task, text)

    # ---------------------------------------------------------------------------------------------- what becomes ready

    def _settle(self) -> None:
        """Take up every step whose inputs are over: from the cache, skipped, or queued to be run."""
        while (node := self._schedule.next()) is not None:
            try:
                self._take_up(node)
            except _Gone as gone:
                self._remake(gone, node)
            except MainspringError as error:
                self._fail(_nothing_of(node), error)

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
            self._cached(node, node.name, parts, hit)
            self._result(node.name, "cached", 0.0, f"from run {hit.run}")
            return self._over(node.name, hit.output)
        reason = "; ".join(list(dict.fromkeys(map(str, reasons)))[:3])
        if node.element is None:
            return self._enqueue(Task(node, node.name, parts, reason))
        return self._fan_out(node, parts, reason)

    def _take_last(self, node: Node) -> None:
        """A step before the selection: its last output, whatever has changed since."""
        if not any(name in self._chosen for name in self._graph.dependants[node.name]):
            return self._over(node.name, None)
        record = self._freshness.latest.get(node.name)
        if record is None or record.output is None or not self._bench.catalog.sound(record.output):
            raise StepFailed(f"step {node.name!r} isn't selected and has no kept output; run it first, without --from")
        return self._over(node.name, record.output)

    def _cached(self, node: Node, name: str, parts: Parts, hit: Hit) -> list[str]:
        """Gives the data files that no code tells and *name* named in this run before it was resumed."""
        own = name in self._finished and self._finished[name][1] is hit
        named = self._untold.get(name, []) if own else []
        self._ledger.cached(name, parts.fingerprint, self._freshness.told(node, parts, named).to_json(), hit)
        return named

    def _skip(self, node: Node, reason: str) -> None:
        self._ledger.skipped(node.name, reason)
        self._result(node.name, "skipped", 0.0, reason)
        self._over(node.name, None)

    def _over(self, name: str, artifact: Artifact | None) -> None:
        """*name* is settled: those who wait for it may go on, and what only it needed is let go."""
        if artifact is not None:
            self._artifacts[name] = artifact
        self._schedule.over(name)
        for source in self._graph.nodes[name].waits:
            self._users[source] -= 1
            if not self._users[source] and source in self._artifacts:
                self._bench.values.pop(self._artifacts[source].digest, None)

    def _result(self, name: str, state: StepState, seconds: float, reason: str) -> None:
        self._results[name] = StepResult(name, state, seconds, reason)
        self._told(state, name, reason, seconds)

    # --------------------------------------------------------------------------------------------------- fan-out, lost

    def _fan_out(self, node: Node, parts: Parts, reason: str) -> None:
        values = elements(node, self._each(node))
        fan = self._fans[node.name] = Fan(parts, [None] * len(values))
        self._ledger.started(node.name, parts.fingerprint, parts.to_json(), reason)
        for index, element in enumerate(values):
            own, name = self._freshness.element_parts(node, parts, element), f"{node.name}[{index}]"
            if not fan.add(index, own):
                continue
            hit, _ = self._freshness.hit(node, own, self._finished.get(name))
            if hit is None:
                self._enqueue(Task(node, name, own, reason, index, element))
            else:
                fan.named.update(dict.fromkeys(self._cached(node, name, own, hit)))
                fan.fill(own, hit.output)
        if fan.over:
            self._gather(node)

    def _each(self, node: Node) -> Any:
        """The list that *node* runs over: written there, a step's output, or a run parameter."""
        values = node.step.each[node.element or ""]
        if not isinstance(values, str):
            return values
        return self.value(values) if values in self._graph.nodes else self._freshness.arguments(node)[values]

    def _gather(self, node: Node) -> None:
        """The step is over when all its elements are: their outputs in a list, in order, or the first that failed."""
        fan = self._fans.pop(node.name)
        if fan.failure is not None:
            self._ended(node, fan.failure)
            return
        output, objects = self._bench.catalog.gather([each for each in fan.outputs if each is not None])
        self._finish(node, node.name, Done(output, objects, fan.seconds, tuple(fan.named)), 1, fan.parts)
        self._result(node.name, "run", fan.seconds, f"{len(fan.outputs)} elements")
        self._over(node.name, output)

    def _remake(self, lost: _Gone | Lost, consumer: Node, since: int | None = None) -> None:
        """Run the step whose output is lost again, and *consumer* after it. since: how many had been made again when
        *consumer* was begun: what it lost may have come back."""
        name = lost.name
        remade = self._remade.get(name)
        if name not in self._chosen or (remade is not None and (since is None or since >= remade)):
            self._fail(_nothing_of(consumer), lost.error)
            return
        if remade is None:
            self._remakes += 1
            self._remade[name] = self._remakes
            self._freshness.lost.add(name)
            self._finished.pop(name, None)
            self._artifacts.pop(name, None)
            for source in self._graph.nodes[name].waits:
                self._users[source] += 1
            self._again(self._graph.nodes[name])
            for node in {task.node.name: task.node for _, _, task in self._queue if name in task.node.waits}.values():
                self._again(node)
        self._again(consumer)

    def _again(self, node: Node) -> None:
        """Take *node* up once more, when all that it waits for is there."""
        self._forget(node)
        self._schedule.again(node.name, {name for name in node.waits if name not in self._artifacts})

    # ------------------------------------------------------------------------------------------------------ at work

    def _enqueue(self, task: Task) -> None:
        heapq.heappush(self._queue, (-task.node.step.priority, next(self._numbers), task))

    def _forget(self, node: Node) -> None:
        """Start nothing more of *node*, and gather nothing of it."""
        self._fans.pop(node.name, None)
        self._queue = [entry for entry in self._queue if entry[2].node is not node]
        heapq.heapify(self._queue)

    def _start(self, crew: Crew) -> None:
        """Begin as many of the tasks that are ready as there is room for."""
        for task in crew.due():
            if task.index is None or task.node.name in self._fans:
                self._enqueue(task)
        while self._queue and crew.room(self._queue[0][2]):
            task = heapq.heappop(self._queue)[2]
            if any(name not in self._artifacts for name in task.node.waits):
                self._again(task.node)  # an input is being made again
                continue
            try:
                call = self._call(task)
            except MainspringError as error:
                self._fail(task, error)
                self._settle()
                continue
            if task.attempt == 1:
                self._ledger.started(task.name, task.parts.fingerprint, task.parts.to_json(), task.reason)
            if task.node.step.effects:
                self._ledger.settle()
            else:
                self._ledger.push()
            self.tell("started", task.name, task.reason)
            crew.start(task, call, alone=not self._queue)

    def _call(self, task: Task) -> Call:
        node, step = task.node, task.node.step
        arguments = {**step.parameters, **self._freshness.arguments(node)}
        for name in step.services:
            if name != "progress":
                arguments[name] = self._service(node, name)
        if node.element is not None:
            arguments[node.element] = task.element
        task.attempt += 1
        task.since = self._remakes
        once = node.element is None and not step.retries
        inputs = {name: Input(name, self._artifacts[name], once and self._users[name] <= 1) for name in node.inputs}
        return Call(
            task.name,
            step.function,
            arguments,
            inputs,
            f"{self._logs}/{task.name}.log",
            () if node.element is None else (node.element,),
            "progress" in step.services,
            step.seed,
            task.attempt,
            self._later() if isinstance(step.function, str) else frozenset(),
        )

    def _later(self) -> frozenset[str]:
        """The values that steps at work or to come take: stages of ours are given the object in memory."""
        return frozenset(each.digest for name, each in self._artifacts.items() if self._users[name])

    def _service(self, node: Node, name: str) -> Any:
        if name not in self._services:
            has = ", ".join(self._services)
            raise StepFailed(f"step {node.name!r} asks for the service {name!r}; this run has {has} and progress")
        return self._services[name]

    def value(self, name: str) -> Any:
        """The output of *name*, for the engine's own eyes."""
        try:
            return self._bench.value(self._artifacts[name], last=False)
        except (HomeDamaged, NotInStore) as error:
            raise _Gone(name, error) from error

    def _look(self) -> None:
        """Whether somebody has asked the run to stop."""
        if self._ledger.cancelled:
            self.cancelled = True
        elif time.monotonic() - self._looked >= LOOK_SECONDS:
            self._looked = time.monotonic()
            self.cancelled = self.cancelled or self._journal.cancelled(self._claim)

    # ------------------------------------------------------------------------------------------------- what has ended

    def _collect(self, crew: Crew) -> None:
        if crew.busy:
            self._ledger.push()  # what is over must not wait for what takes long
        for task, result in crew.ended():
            if isinstance(result, Done):
                self._done(task, result)
            elif isinstance(result, Failed):
                self._failed(crew, task, result)
            elif isinstance(result, Lost):
                self._remake(result, task.node, task.since)
            else:
                self.cancelled = self.cancelled or not self.stopping

    def _done(self, task: Task, result: Done) -> None:
        self._finish(task.node, task.name, result, task.attempt, task.parts)
        if task.node.step.effects:
            self._ledger.settle()
        if task.index is None:
            self._result(task.name, "run", result.seconds, task.reason)
            self._over(task.name, result.artifact)
        else:
            self._element_done(task, result)

    def _element_done(self, task: Task, result: Done) -> None:
        self._told("run", task.name, task.reason, result.seconds)
        self._bench.values.pop(result.artifact.digest, None)
        fan = self._fans.get(task.node.name)
        if fan is None:
            return
        fan.seconds += result.seconds
        fan.named.update(dict.fromkeys(result.named))
        fan.fill(task.parts, result.artifact)
        if fan.over:
            self._gather(task.node)

    def _finish(self, node: Node, name: str, done: Done, attempt: int, parts: Parts) -> None:
        """Nothing is cached that depends on a data file which the fingerprint doesn't know."""
        told = self._freshness.told(node, parts, done.named)
        self._ledger.finished(
            name, done.artifact, seconds=done.seconds, attempt=attempt, objects=done.objects,
            keep_as=node.name if node.step.cache and told is parts else None,
            parts=None if told is parts else told.to_json(),
        )  # fmt: skip

    def _failed(self, crew: Crew, task: Task, result: Failed) -> None:
        step = task.node.step
        if result.again and task.attempt <= step.retries and not (self.stopping or self.cancelled):
            self.tell("retry", task.name, f"attempt {task.attempt} of {step.retries + 1} failed: {result.words}")
            crew.again(task, step.backoff * 2 ** (task.attempt - 1))
        else:
            error = explained(step, task.name, task.attempt, result)
            self._fail(task, error, Failure(error, result.trace, result.seconds, task.attempt))

    def _fail(self, task: Task, error: BaseException, failure: Failure | None = None) -> None:
        """A failed step; the branches beside it go on, and so do the elements beside one that failed."""
        name, failure = task.node.name, failure or Failure(error)
        fan = None if task.index is None else self._fans.get(name)
        if task.name != name:
            self._written(task.name, failure)
        if fan is not None:
            self._told("failed", task.name, str(error), failure.seconds)
            fan.fail(task.parts, failure)
            if fan.over:
                self._gather(task.node)
        elif name not in self._errors:
            self._forget(task.node)
            self._ended(task.node, failure)

    def _ended(self, node: Node, failure: Failure) -> None:
        """*node* has failed, and nothing of it is left to do."""
        self._written(node.name, failure)
        self._errors[node.name] = failure.error
        self._result(node.name, "failed", failure.seconds, str(failure.error))
        self._over(node.name, None)

    def _written(self, row: str, failure: Failure) -> None:
        self._ledger.failed(row, str(failure.error), failure.trace, attempt=failure.attempt, seconds=failure.seconds)


def _nothing_of(node: Node) -> Task:
    """A task of *node* that never began."""
    return Task(node, node.name, Parts({}, {}, {}, {}), "")


class _Read(Mapping[str, Any]):
    """The outputs of the steps that are over, each read when asked for."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk

    def __getitem__(self, name: str) -> Any:
        return self._walk.value(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._walk._artifacts)

    def __len__(self) -> int:
        return len(self._walk._artifacts)
