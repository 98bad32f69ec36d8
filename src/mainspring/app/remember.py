"""Writes FILE's manifest once it was loaded and nothing is stale, if loading it again would surely give the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mainspring.app import manifest, world
from mainspring.app.files import imported_before
from mainspring.app.pipeline import Pipeline
from mainspring.app.project import Loop
from mainspring.app.running import Surroundings
from mainspring.core.declarations import CsvSource, ParquetSource
from mainspring.core.sources import opened_at
from mainspring.execution import keeping
from mainspring.loop import turn
from mainspring.pipeline import importing
from mainspring.pipeline.codebase import Codebase
from mainspring.pipeline.running import written_since_start
from mainspring.store.manifests import Manifests

_PLAIN = (bool, int, float, str, type(None))

Declared = Sequence[tuple[Loop | Pipeline, Mapping[str, Any]]]


def remember(where: Surroundings, home: str | None, reference: str, settings: Sequence[str], declared: Declared) -> str:
    """Keep or drop the manifest of what *reference* declares, each with its run parameters. Gives the place by which
    FILE must be loaded each time, if that is known."""
    asked = manifest.key(reference, settings)
    if asked is None:
        return ""
    why, content = _content(where, home, asked[0], declared)
    Manifests(where.home).keep(str(asked[0]), asked[1], content)
    return why


def _content(
    where: Surroundings, home: str | None, file: Path, declared: Declared
) -> tuple[str, dict[str, Any] | None]:
    codebase, found = Codebase(), []
    modules = codebase.take_imported(imported_before())
    why = importing.outside(codebase, modules)
    if why is not None:
        return why, None
    plain = all(isinstance(value, _PLAIN) for _, parameters in declared for value in parameters.values())
    if not plain or not all(_tellable(each, where) for each, _ in declared):
        return "", None
    data: dict[tuple[str, str], None] = {}
    files = {text.path for text in codebase.known()}
    for each, parameters in declared:
        kept = keeping.unchanged(each.graph_in(where), home=where.home, pipeline=each.name, parameters=parameters)
        if kept is None:
            return "", None
        steps = tuple(
            manifest.Step(step.name, step.parts.fingerprint, step.parts.to_json(), step.hit, step.widened)
            for step in kept.steps
        )
        found.append(manifest.Pipeline(each.name, isinstance(each, Loop), dict(parameters), steps))
        data.update(dict.fromkeys(kept.codebase.files))
        files.update(text.path for text in kept.codebase.known())
    named = _named(file, files, tuple(data), [each for each, _ in declared])
    if any(written_since_start(path) for path in named.files):
        return "", None
    content = {
        "named": named.to_json(),
        "state": world.state(named, file, home),
        "loops": {
            each.name: manifest.loop_state(where.home, each.name) for each, _ in declared if isinstance(each, Loop)
        },
        "pipelines": [each.to_json() for each in found],
    }
    return "", content


def _tellable(declared: Loop | Pipeline, where: Surroundings) -> bool:
    """Whether what its steps depend on outside can be told without FILE: files of rows, and the home."""
    source = declared.declaration.source if isinstance(declared, Loop) else None
    if source is not None and (not isinstance(source, CsvSource | ParquetSource) or "://" in source.path):
        return False
    states = (node.step.state for node in declared.graph_in(where).nodes.values())
    return all(state is None or isinstance(state, turn.SourcePosition | turn.Rival | turn.Worse) for state in states)


def _named(
    file: Path, looked_at: set[str], data: tuple[tuple[str, str], ...], declared: Sequence[Loop | Pipeline]
) -> world.Named:
    files = sorted({str(file), *(path for path in looked_at if Path(path).is_file())})
    folders = dict.fromkeys([*world.search_path(file), *(str(Path(path).parent) for path in files)])
    looked_for = [each.declaration.source for each in declared if isinstance(each, Loop)]
    sources = [opened_at(source.path, source.folder) for source in looked_for]
    return world.Named(tuple(files), tuple(folders), data, tuple(sources))
