"""The order of a run: which step may be taken up next, as the ones before it get over. No I/O."""

from __future__ import annotations

import heapq

from mainspring.pipeline.graph import Graph, Node


class Schedule:
    """Hands out each step once all that it waits for is over, in the graph's order."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._names = graph.names
        self._place = {name: index for index, name in enumerate(graph.names)}
        self._open = {name: set(node.waits) for name, node in graph.nodes.items()}
        self._ready = [self._place[name] for name, waits in self._open.items() if not waits]
        self._taken_up: set[str] = set()

    def next(self) -> Node | None:
        """The next step that waits for nothing any more; None while there is none."""
        while self._ready:
            name = self._names[heapq.heappop(self._ready)]
            if name not in self._taken_up and not self._open[name]:
                self._taken_up.add(name)
                return self._graph.nodes[name]
        return None

    def over(self, name: str) -> None:
        """Those who wait for *name* may go on."""
        for dependant in self._graph.dependants[name]:
            self._open[dependant].discard(name)
            if not self._open[dependant] and dependant not in self._taken_up:
                heapq.heappush(self._ready, self._place[dependant])

    def again(self, name: str, missing: set[str]) -> None:
        """*name* is to be taken up once more, when what is *missing* is over; what waits for it waits again."""
        self._taken_up.discard(name)
        self._open[name] = set(missing)
        for dependant in self._graph.dependants[name]:
            if dependant not in self._taken_up:
                self._open[dependant].add(name)
        if not missing:
            heapq.heappush(self._ready, self._place[name])
