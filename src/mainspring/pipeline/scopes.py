"""Scopes as Python has them: which names a statement binds, and what its imports make them mean."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

IMPORTS = (ast.Import, ast.ImportFrom)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Import:
    """What an import makes a name mean: module *module* (*level* dots before it), or *name* in it."""

    module: str
    name: str | None = None
    level: int = 0

    def absolute(self, parent: str) -> str:
        """The module's full name, seen from package *parent*."""
        if not self.level:
            return self.module
        kept = parent.split(".")[: len(parent.split(".")) - (self.level - 1)] if parent else []
        return ".".join([*kept, *([self.module] if self.module else [])])


Meanings = dict[str, tuple[Import, ...]]
"""Names and the imports that may have bound them: `try: import fast as f` / `except: import slow as f` has two."""


def meanings(nodes: Iterable[ast.AST]) -> Meanings:
    """What the import statements among *nodes* make their names mean; stars apart."""
    found: Meanings = {}
    for node in nodes:
        if isinstance(node, IMPORTS):
            for name, target in bound_by(node):
                if name != "*":
                    found[name] = (*found.get(name, ()), target)
    return found


def same_scope(node: ast.AST) -> list[ast.AST]:
    """*node* and what lies in it, not entering functions, classes and comprehensions."""
    ahead, found = [node], list[ast.AST]()
    while ahead:
        at = ahead.pop()
        found.append(at)
        if at.__class__ in _LEAVES or isinstance(at, _OWN_SCOPE):
            continue
        inside: list[ast.AST] = []
        for child in children(at):
            if isinstance(child, _COMPREHENSION):
                named = [part for part in ast.walk(child) if isinstance(part, ast.NamedExpr)]
                inside += [part.target for part in named]
            else:
                inside.append(child)
        inside.reverse()
        ahead += inside
    return found


_DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
_OWN_SCOPE = (*_DEFINITIONS, ast.Lambda)
_COMPREHENSION = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_LEAVES = frozenset({ast.Name, ast.Constant})


def children(node: ast.AST) -> list[ast.AST]:
    """The nodes directly in *node* that say something by themselves: no operators, contexts and constants."""
    found: list[ast.AST] = []
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list):
            found += [each for each in value if isinstance(each, ast.AST) and each.__class__ not in _PLAIN]
        elif isinstance(value, ast.AST) and value.__class__ not in _PLAIN:
            found.append(value)
    return found


_PLAIN = frozenset(
    {ast.Constant}.union(*(kind.__subclasses__() for kind in (ast.expr_context, ast.operator, ast.cmpop, ast.boolop,
                                                              ast.unaryop)))
)  # fmt: skip


def bound(node: ast.AST) -> list[str]:
    """The names that *node* binds in its own scope."""
    return bound_in(same_scope(node))


def bound_in(parts: Iterable[ast.AST]) -> list[str]:
    """The names that these nodes of one scope bind."""
    names: list[str] = []
    for part in parts:
        if isinstance(part, ast.Name):
            if isinstance(part.ctx, ast.Store):
                names.append(part.id)
        elif part.__class__ in _BIND_NOTHING:
            continue
        elif isinstance(part, _DEFINITIONS):
            names.append(part.name)
        elif isinstance(part, IMPORTS):
            names += [name for name, _ in bound_by(part) if name != "*"]
        elif isinstance(part, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
            names += [part.name] if part.name else []
        elif isinstance(part, ast.MatchMapping) and part.rest:
            names.append(part.rest)
    return names


_BIND_NOTHING = frozenset(
    {ast.Call, ast.Attribute, ast.BinOp, ast.Expr, ast.Return, ast.Assign, ast.arguments, ast.arg}
)
"""The most frequent nodes that bind no name themselves."""


def parameters(arguments: ast.arguments) -> list[str]:
    return [argument.arg for argument in _arguments(arguments)]


def defaults(arguments: ast.arguments) -> list[ast.expr]:
    return [*arguments.defaults, *(default for default in arguments.kw_defaults if default is not None)]


def annotated(arguments: ast.arguments) -> list[ast.expr]:
    return [argument.annotation for argument in _arguments(arguments) if argument.annotation is not None]


def _arguments(arguments: ast.arguments) -> list[ast.arg]:
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return [argument for argument in every if argument is not None]


def bound_by(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, Import]]:
    """The names that an import statement binds, and what each then means."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            name = None if alias.name == "*" else alias.name
            yield alias.asname or alias.name, Import(node.module or "", name, node.level)
        else:
            root = alias.name.split(".")[0]
            yield alias.asname or root, Import(alias.name if alias.asname else root)


def loaded_by(node: ast.Import | ast.ImportFrom) -> Iterator[Import]:
    """The modules, or names in modules, that must be there when an import statement runs."""
    for alias in node.names:
        if isinstance(node, ast.Import):
            yield Import(alias.name)
        else:
            yield Import(node.module or "", None if alias.name == "*" else alias.name, node.level)
