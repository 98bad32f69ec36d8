"""Whether modules read anything outside as they are imported, so that their values may differ while their code doesn't.

What runs at import is looked at, never run. Only what is known to be harmless passes: the project's own functions and
classes, and the libraries listed here. So a list that lacks a library costs time, never truth.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mainspring.pipeline.codebase import Codebase
from mainspring.pipeline.effects import Source, reads
from mainspring.pipeline.names import Chain, Unit, chain_of
from mainspring.pipeline.scopes import IMPORTS

_HARMLESS = frozenset(
    [
        "__future__", "abc", "attr", "attrs", "base64", "bisect", "catboost", "collections", "contextlib",
        "contextvars", "copy", "dataclasses", "decimal", "enum", "fractions", "functools", "hashlib", "heapq",
        "itertools", "json", "lightgbm", "logging", "mainspring", "math", "msgspec", "numbers", "operator",
        "pathlib", "pydantic", "queue", "re", "rich", "sklearn", "statistics", "string", "struct", "structlog",
        "textwrap", "tqdm", "types", "typing", "typing_extensions", "warnings", "weakref", "xgboost", "zoneinfo",
    ]
)  # fmt: skip
_READ_ONLY = frozenset(
    ["datetime", "numpy", "pandas", "polars", "pyarrow", "scipy", "sqlalchemy", "threading", "torch", "uuid"]
)
"""Their names may be read, as in a type, but only some of their functions be called."""
_CALLED = frozenset(
    [
        "polars.col", "polars.lit", "polars.when", "datetime.timedelta", "datetime.date", "datetime.time",
        "threading.Lock", "threading.RLock", "threading.Event", "threading.Condition", "threading.Semaphore",
        "threading.local", "sqlalchemy.Column", "sqlalchemy.MetaData", "sqlalchemy.String",
        "sqlalchemy.create_engine", "sqlalchemy.orm.mapped_column", "sqlalchemy.orm.relationship",
        "argparse.ArgumentParser", "asyncio.Lock", "requests.Session", "httpx.Client", "uuid.UUID",
        "typer.Typer",
    ]
)  # fmt: skip
_KEEPERS = frozenset({"dataclasses", "mainspring", "sklearn"})
_HARMFUL = (
    "sklearn.datasets", "pathlib.Path.home", "pathlib.Path.cwd", "mainspring.frame", "pydantic.BaseSettings",
    "rich.prompt", "xgboost.DMatrix", "xgboost.Booster", "lightgbm.Booster", "lightgbm.Dataset", "catboost.Pool",
)  # fmt: skip
_BUILTINS = frozenset(
    ["__import__", "breakpoint", "compile", "eval", "exec", "globals", "hash", "id", "input", "locals", "open", "vars"]
)
_ASKS = frozenset({"input", "open"})


def outside(project: Codebase, modules: Iterable[str]) -> str | None:
    """Where one of *modules* may read something outside as it is imported; None where none does."""
    return _first(project, [(name, index, False) for name in modules for index in _units(project, name)])


def may_read(project: Codebase, source: Source, index: int, by: tuple[ast.AST, ...] = (), named: bool = False) -> bool:
    """Whether something outside may go into what a unit, or the expressions *by* in it, makes as its module is
    imported; also by way of the values that it uses. named: only where a name says that it is read."""
    if by:
        runs = _Runs(project, source, source.parsed.units[index], called=False, by=by, passed=named)
        ahead = [*runs.calls(), *runs.data()]
        return next(runs.harmful(named), None) is not None or _first(project, ahead, True, named) is not None
    if (source.name, index) not in project.reading:
        project.reading[source.name, index] = _first(project, [(source.name, index, False)], True) is not None
    return project.reading[source.name, index]


def _first(
    project: Codebase, ahead: list[tuple[str, int, bool]], through_data: bool = False, named: bool = False
) -> str | None:
    """The first place at which these units, run or called, may read something outside."""
    seen = set(ahead)
    while ahead:
        name, index, called = ahead.pop()
        source = project.source(name)
        if source is None:
            continue
        runs = _Runs(project, source, source.parsed.units[index], called)
        for what, line in runs.harmful(named):
            return f"{source.text.path}, line {line}: {what}"
        for step in (*runs.calls(), *(runs.data() if through_data else ())):
            if step not in seen:
                seen.add(step)
                ahead.append(step)
    return None


def _units(project: Codebase, name: str) -> Iterable[int]:
    source = project.source(name)
    return () if source is None else range(len(source.parsed.units))


@dataclass(slots=True)
class _Runs(ast.NodeVisitor):
    """What runs of a unit at import; *called*: a function's body too, or a class's methods. by: only these of it."""

    project: Codebase
    source: Source
    node: Unit
    called: bool
    by: tuple[ast.AST, ...] = ()
    used: list[tuple[Chain, bool, bool, int]] = field(default_factory=list)
    passed: bool = False
    attributes: list[tuple[str, int]] = field(default_factory=list)
    dead: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        self.dead = self.node.dead
        if not isinstance(self.node.node, IMPORTS):
            self._each(self.by or [self.node.node])

    def harmful(self, named: bool = False) -> Iterator[tuple[str, int]]:
        """named: only what has a name by which is read."""
        for attribute, line in self.attributes:
            if reads((attribute,)):
                yield f".{attribute}", line
        for chain, called, _, line in self.used:
            if chain[0] in (_ASKS if named else _BUILTINS) and chain[0] not in self.source.parsed.binders:
                yield chain[0], line
            for dotted in self._libraries(chain):
                if reads(tuple(dotted.split("."))) if named else not _is_harmless(dotted, called):
                    yield dotted, line

    def calls(self) -> Iterator[tuple[str, int, bool]]:
        """The project's units whose bodies run because of this one: what it calls, or passes to something that may."""
        for chain, called, passed, _ in self.used:
            places = list(self.project.effects.places(self.source, chain)) if called or passed else []
            for name, index in self.project.effects.binders(places):
                yield name, index, True
                found = self.project.source(name)
                if found is not None and found.parsed.units[index].data:  # whatever function that is
                    yield from ((*step, True) for step in self.project.effects.reached([(name, index)]))

    def data(self) -> Iterator[tuple[str, int, bool]]:
        """The project's values that are used."""
        for chain in {chain for chain, *_ in self.used}:
            for name, index in self.project.effects.binders(self.project.effects.places(self.source, chain)):
                found = self.project.source(name)
                if found is not None and found.parsed.units[index].data:
                    yield name, index, False

    def visit(self, node: ast.AST) -> None:
        if id(node) not in self.dead:
            super(_Runs, self).visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        inside = node.body if self.called else []
        self._decorate(node.decorator_list)
        self._each([*node.args.defaults, *node.args.kw_defaults, *inside])

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._decorate([*node.decorator_list, *node.bases, *(each.value for each in node.keywords)])
        self._each(node.body)

    def _decorate(self, nodes: Iterable[ast.AST]) -> None:
        before, self.passed = self.passed, True
        self._each(nodes)
        self.passed = before

    def _only_keeps(self, chain: Chain | None) -> bool:
        """Whether what is called is known not to call the functions that it is given."""
        names = [] if chain is None else list(self._libraries(chain))
        return bool(names) and all(name.partition(".")[0] in _KEEPERS for name in names)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._each([*node.args.defaults, *node.args.kw_defaults, node.body])

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._each([node.target, node.value])

    def visit_Call(self, node: ast.Call) -> None:
        chain = chain_of(node.func)
        if chain is None:
            self.visit(node.func)
        else:
            self._use(chain, True, node.lineno)
        before, self.passed = self.passed, self.passed or not self._only_keeps(chain)
        self._each([*node.args, *node.keywords])
        self.passed = before

    def visit_Attribute(self, node: ast.Attribute) -> None:
        chain = chain_of(node)
        if chain is not None:
            self._use(chain, False, node.lineno)
        else:
            self.attributes.append((node.attr, node.lineno))
            self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._use((node.id,), False, node.lineno)

    def _use(self, chain: Chain, called: bool, line: int) -> None:
        self.used.append((chain, called, self.passed, line))
        self.attributes += [(part, line) for part in chain[1:]]

    def _each(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    def _libraries(self, chain: Chain) -> Iterator[str]:
        """The dotted names of libraries that *chain* may mean."""
        units = [self.source.parsed.units[index] for index in self.source.parsed.binders.get(chain[0], ())]
        for target in [target for unit in [*units, self.node] for target in unit.imports.get(chain[0], ())]:
            name = target.absolute(self.source.text.parent)
            if self.project.source(name) is None:
                yield ".".join([name, *([target.name] if target.name else []), *chain[1:]])
        if not units and not hasattr(builtins, chain[0]):
            for index in self.source.parsed.stars:
                for star in self.source.parsed.units[index].stars:
                    if self.project.source(name := star.absolute(self.source.text.parent)) is None:
                        yield ".".join([name, *chain])
        for target, rest in self.node.through if self.called else ():
            if self.project.source(name := target.absolute(self.source.text.parent)) is None:
                yield ".".join([name, *([target.name] if target.name else []), *rest])


def _is_harmless(dotted: str, called: bool) -> bool:
    root = dotted.partition(".")[0]
    if any(dotted == name or dotted.startswith(f"{name}.") for name in _HARMFUL):
        return False
    return root in _HARMLESS or dotted in _CALLED or (root in _READ_ONLY and not called)
