"""A module's text as units: its top-level statements, each with what it binds and uses. Nothing is run."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mainspring.pipeline.names import Reader, Unit
from mainspring.pipeline.scopes import bound_by, loaded_by, meanings
from mainspring.pipeline.unreachable import prune


@dataclass(frozen=True, slots=True)
class Parsed:
    """The units of one module. binders: name -> the units that bind it. futures: its `from __future__` line, which goes
    with every unit. stars: the units that import all names of a module; repeated: names with several binders."""

    units: tuple[Unit, ...]
    binders: Mapping[str, tuple[int, ...]]
    futures: str
    stars: tuple[int, ...] = ()
    repeated: frozenset[str] = frozenset()
    error: str | None = None


@functools.lru_cache(maxsize=1024)
def parse(text: str) -> Parsed:
    """The units of a module's *text*; a text that isn't Python is one widened, nameless unit."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        where = getattr(error, "lineno", None) or 1
        return Parsed((), {}, "", error=f"line {where} isn't Python")
    lines = [f"{line}\n" for line in re.split(r"\r\n|\r|\n", text)]  # as Python counts them; splitlines has more
    futures = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    units = [unit for node in tree.body if node not in futures for unit in _units(node, text, lines, tree.body)]
    binders: dict[str, list[int]] = {}
    for index, unit in enumerate(units):
        for name in unit.binds:
            binders.setdefault(name, []).append(index)
    return Parsed(
        tuple(units),
        {name: tuple(found) for name, found in binders.items()},
        "\n".join(map(ast.unparse, futures)),
        tuple(index for index, unit in enumerate(units) if unit.stars),
        frozenset(name for name, found in binders.items() if len(found) > 1),
    )


def canonical(unit: Unit) -> str:
    """The unit's meaning as text: equal for two that differ in comments, docstrings or formatting only."""
    return meaning(unit.source)


@functools.lru_cache(maxsize=8192)
def meaning(source: str) -> str:
    """*source* without what doesn't count: comments, docstrings, formatting, what can never run."""
    tree = ast.parse(source)
    prune(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            node.body = [each for each in node.body if not (_is_text(each) or isinstance(each, ast.Pass))]
    return ast.dump(tree)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _units(node: ast.stmt, text: str, lines: list[str], body: list[ast.stmt]) -> Iterator[Unit]:
    if _is_text(node) or isinstance(node, ast.Pass) or _is_guard(node):
        return
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield _imported(ast.copy_location(ast.Import([alias]), node))
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield _imported(ast.copy_location(ast.ImportFrom(node.module, [alias], node.level), node))
    else:
        unit = Unit(node, _source(node, text, lines, body), node.lineno)
        Reader(unit).read()
        yield unit


def _is_guard(node: ast.stmt) -> bool:
    """`if __name__ == "__main__":` and `if TYPE_CHECKING:` never run where code is imported."""
    if not isinstance(node, ast.If) or node.orelse:
        return False
    return ast.unparse(node.test) in _GUARDS


_GUARDS = frozenset(
    {"__name__ == '__main__'", "'__main__' == __name__", "TYPE_CHECKING", "typing.TYPE_CHECKING", "t.TYPE_CHECKING"}
)


def _imported(node: ast.Import | ast.ImportFrom) -> Unit:
    unit = Unit(node, ast.unparse(node), node.lineno, inner_imports=list(loaded_by(node)), imports=meanings([node]))
    unit.loads = unit.inner_imports
    unit.stars += [target for name, target in bound_by(node) if name == "*"]
    unit.binds |= unit.imports.keys()
    return unit


def _source(node: ast.stmt, text: str, lines: list[str], body: list[ast.stmt]) -> str:
    """The statement as it was written, decorators and inner comments included."""
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    last = node.end_lineno or node.lineno
    shared = any(other is not node and other.lineno <= last and (other.end_lineno or 0) >= first for other in body)
    if shared:
        return ast.get_source_segment(text, node) or ast.unparse(node)
    return "".join(lines[first - 1 : last]).rstrip()
