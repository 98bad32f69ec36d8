"""Statements that can never run: behind a `return`, under `if False:` or `if TYPE_CHECKING:`."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
_ENDS = ast.Return | ast.Raise | ast.Continue | ast.Break


def unreachable(tree: ast.AST) -> Iterator[ast.stmt]:
    """The statements in *tree* that never run; what lies inside them isn't listed again."""
    ahead = [tree]
    while ahead:
        node = ahead.pop()
        for name in _BLOCKS:
            block = getattr(node, name, None)
            if isinstance(block, list):
                dead = list(_dead(node, name, block))
                yield from dead
                ahead += block if not dead else [each for each in block if each not in dead]


def decides(statements: Iterable[ast.stmt]) -> list[str]:
    """What statements decide although they never run: which names are local, and what is a generator."""
    return sorted({mark for each in statements for mark in _decides(each)})


def _dead(node: ast.AST, name: str, block: list[ast.stmt]) -> Iterator[ast.stmt]:
    if isinstance(node, ast.If | ast.While) and name in ("body", "orelse"):
        value = _constant(node.test)
        if value is not None and value is (name == "orelse") and not (isinstance(node, ast.While) and value):
            yield from block
            return
    ended = False
    for statement in block:
        if ended or _is_never(statement):
            yield statement
        ended = ended or _ends(statement)


def _is_never(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and not statement.orelse and _constant(statement.test) is False


def _ends(statement: ast.stmt) -> bool:
    """Whether nothing behind *statement* runs."""
    if isinstance(statement, ast.If):
        return bool(statement.orelse) and all(any(map(_ends, block)) for block in (statement.body, statement.orelse))
    return isinstance(statement, _ENDS)


def _constant(test: ast.expr) -> bool | None:
    """What *test* always is; None when that depends."""
    if isinstance(test, ast.Constant):
        return bool(test.value)
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inner = _constant(test.operand)
        return None if inner is None else not inner
    typing = isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"
    qualified = isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING" and isinstance(test.value, ast.Name)
    return False if typing or qualified else None


def _decides(statement: ast.stmt) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.Yield | ast.YieldFrom):
            yield "yield"
        elif isinstance(node, ast.Global | ast.Nonlocal | ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef):
            yield ast.unparse(node).partition("\n")[0]
