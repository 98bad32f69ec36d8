"""A module's text as units: its top-level statements, each with what it binds and uses. Nothing is run."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mainspring.core.syntax import parsed
from mainspring.pipeline.names import Reader, Unit
from mainspring.pipeline.scopes import bound_by, loaded_by, meanings
from mainspring.pipeline.unreachable import decides, unreachable


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


@functools.lru_cache(maxsize=4096)
def parse(text: str) -> Parsed:
    """The units of a module's *text*; a text that isn't Python is one widened, nameless unit."""
    try:
        tree = parsed(text)
    except (SyntaxError, ValueError) as error:
        where = getattr(error, "lineno", None) or 1
        return Parsed((), {}, "", error=f"line {where} isn't Python")
    lines = [f"{line}\n" for line in re.split(r"\r\n|\r|\n", text)]  # as Python counts them; splitlines has more
    futures = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    beside = zip([None, *tree.body], tree.body, [*tree.body[1:], None], strict=False)
    units = [
        unit
        for before, node, after in beside
        if node not in futures
        for unit in _units(node, text, lines, [each for each in (before, after) if each is not None])
    ]
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
    if not unit.written:
        unit.written = _written(unit.node, unit.dead)
    return unit.written


def meaning(source: str) -> str:
    """*source* without what doesn't count: comments, docstrings, formatting, what can never run."""
    tree = parsed(source)
    return _written(tree, frozenset(map(id, unreachable(tree))))


def _written(node: object, dead: frozenset[int]) -> str:
    """*node* as text, without places, docstrings and statements that are *dead*."""
    kind = node.__class__
    if not isinstance(node, ast.AST):
        return f"{kind.__name__}:{node!r}"
    parts: list[str] = []
    for name in kind._fields:  # type: ignore[attr-defined]
        value = getattr(node, name, None)
        if value is None:
            parts.append("")
        elif value.__class__ is list:
            counting = _counting(value, dead) if dead and name in _BLOCKS else value
            if name == "body" and kind in _DOCUMENTED:
                counting = [each for each in counting if not _says_nothing(each)]
            parts.append(f"[{','.join([_written(each, dead) for each in counting])}]")
        else:
            parts.append(_written(value, dead))
    return f"{kind.__name__}({','.join(parts)})"


_BLOCKS = frozenset({"body", "orelse", "finalbody"})
_DOCUMENTED = frozenset({ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef})


def _counting(block: list[ast.stmt], dead: frozenset[int]) -> list[ast.stmt]:
    """The statements of *block* that run; those that don't leave what they decide."""
    if not any(id(each) in dead for each in block):
        return block
    marks = decides(each for each in block if id(each) in dead)
    left = [each for each in block if id(each) not in dead]
    return [*left, *([ast.Expr(ast.Constant(f"unreachable: {marks}"))] if marks else [])]


def _says_nothing(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass) or (_is_text(node) and "unreachable: " not in ast.dump(node))


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _units(node: ast.stmt, text: str, lines: list[str], beside: list[ast.stmt]) -> Iterator[Unit]:
    """The units of one statement; *beside*: its neighbours, which may share its lines."""
    if _is_text(node) or isinstance(node, ast.Pass) or _is_guard(node):
        return
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield _imported(ast.copy_location(ast.Import([alias]), node))
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield _imported(ast.copy_location(ast.ImportFrom(node.module, [alias], node.level), node))
    else:
        unit = Unit(node, _source(node, text, lines, beside), node.lineno, dead=frozenset(map(id, unreachable(node))))
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


def _source(node: ast.stmt, text: str, lines: list[str], beside: list[ast.stmt]) -> str:
    """The statement as it was written, decorators and inner comments included."""
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    last = node.end_lineno or node.lineno
    shared = any(other.lineno <= last and (other.end_lineno or 0) >= first for other in beside)
    if shared:
        return ast.get_source_segment(text, node) or ast.unparse(node)
    return "".join(lines[first - 1 : last]).rstrip()
