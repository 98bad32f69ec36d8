"""What a statement binds, uses and changes: scopes as Python has them, read from the syntax tree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

Chain = tuple[str, ...]
"""A name and the attributes read from it: `helpers.ages.fix` is ("helpers", "ages", "fix")."""

_EXECUTE = frozenset({"exec", "eval", "globals", "vars", "locals", "compile"})
_IMPORT = frozenset({"__import__", "import_module"})
_SHOWS = frozenset({"print", "display", "help", "len", "repr", "type", "isinstance"})
_TAKES_OUT = frozenset({"pop", "popitem", "setdefault"})
_CONFIGURES = re.compile(r"(set|seed|enable|disable|use|register|filter|simplefilter|config|option)", re.IGNORECASE)


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


@dataclass(slots=True)
class Unit:
    """One top-level statement (of an import, one name).

    binds: the names it defines. imports: those of them that an import gives. uses: what it reads of other units.
    through: attributes read from imports inside functions. changes: names whose objects it alters as it runs; deferred:
    those that its functions alter when they are called. configures: calls made for their effect on an object or module.
    passes: (function called for its effect, name given to it). calls: what it calls, or is decorated with, for that.
    dynamic: names used that can't be followed (exec, an import by a computed name).
    """

    node: ast.stmt
    source: str
    line: int
    binds: set[str] = field(default_factory=set)
    imports: dict[str, Import] = field(default_factory=dict)
    inner_imports: list[Import] = field(default_factory=list)
    stars: list[Import] = field(default_factory=list)
    uses: set[Chain] = field(default_factory=set)
    through: set[tuple[Import, Chain]] = field(default_factory=set)
    changes: set[str] = field(default_factory=set)
    configures: set[Chain] = field(default_factory=set)
    passes: set[tuple[str, str]] = field(default_factory=set)
    deferred: set[str] = field(default_factory=set)
    calls: set[str] = field(default_factory=set)
    dynamic: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """What a person calls it: the function's or class's name, else the names it binds."""
        named = getattr(self.node, "name", None) or ", ".join(sorted(self.binds))
        return named or ast.unparse(self.node).partition("\n")[0][:60]

    @property
    def defines(self) -> bool:
        """Whether it is a function or a class: its body counts when it is called, not where it stands."""
        return isinstance(self.node, ast.FunctionDef | ast.AsyncFunctionDef)

    @property
    def rebinds(self) -> bool:
        """Whether it gives its name a new meaning whatever that was before."""
        plain = isinstance(
            self.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom
        )
        simple = isinstance(self.node, ast.Assign) and all(isinstance(target, ast.Name) for target in self.node.targets)
        return (plain or simple) and not any(chain[0] in self.binds for chain in self.uses if not self.defines)


class Reader(ast.NodeVisitor):
    """Fills in a unit. A scope maps the local names of one function to None, or to what an import made of them."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.scopes: list[dict[str, Import | None]] = []

    def read(self) -> None:
        node = self.unit.node
        self.unit.binds |= set(_bound(node))
        for inner in _same_scope(node):
            if isinstance(inner, ast.Import | ast.ImportFrom):
                self.unit.inner_imports += loaded_by(inner)
                for name, target in bound_by(inner):
                    if name == "*":
                        self.unit.stars.append(target)
                    else:
                        self.unit.imports[name] = target
        self.visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._use((node.id,))
        elif not self._local(node.id) and (self.scopes or isinstance(node.ctx, ast.Del)):
            self._change(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        chain = _chain(node)
        if chain is None:
            self.generic_visit(node)
            return
        self._use(chain)
        if not isinstance(node.ctx, ast.Load):
            self._change(chain[0])

    def visit_Subscript(self, node: ast.Subscript) -> None:
        root = _root(node)
        if root is not None and not isinstance(node.ctx, ast.Load):
            self._change(root)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        root = _root(node.target)
        if root is not None:
            self._use((root,))
            self._change(root)
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self._effect(node.value)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        chain = _chain(node.func)
        if chain is not None and not self._local(chain[0]):
            self._called(node, chain)
        if isinstance(node.func, ast.Attribute) and node.func.attr in _TAKES_OUT:
            root = _root(node.func)
            if root is not None:
                self._change(root)
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        outside = [*node.decorator_list, *_defaults(node.args), *_annotations(node.args), node.returns]
        for decorator in node.decorator_list:
            self._decorated(decorator)
        self._visit_all(outside)
        self._enter(_parameters(node.args), node.body)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for decorator in node.decorator_list:
            self._decorated(decorator)
        self.generic_visit(node)  # names of a class body hide nothing from its methods

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_all(_defaults(node.args))
        self._enter(_parameters(node.args), [node.body])

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        self.visit(node.generators[0].iter)
        targets = [name for generator in node.generators for name in _bound(generator.target)]
        self.scopes.append(dict.fromkeys(targets))
        for generator in node.generators:
            self._visit_all([*generator.ifs, generator.target])
        self._visit_all([generator.iter for generator in node.generators[1:]])
        self._visit_all([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt])
        self.scopes.pop()

    visit_SetComp = visit_GeneratorExp = visit_DictComp = visit_ListComp

    def _enter(self, parameters: list[str], body: list[ast.stmt] | list[ast.expr]) -> None:
        scope: dict[str, Import | None] = dict.fromkeys(parameters)
        shared: set[str] = set()
        for statement in body:
            scope.update(dict.fromkeys(_bound(statement)))
            for inner in _same_scope(statement):
                if isinstance(inner, ast.Global):
                    shared |= set(inner.names)
                if isinstance(inner, ast.Import | ast.ImportFrom):
                    scope.update(bound_by(inner))
                    self.unit.inner_imports += loaded_by(inner)
        self.scopes.append({name: target for name, target in scope.items() if name not in shared})
        self._visit_all(body)
        self.scopes.pop()

    def _use(self, chain: Chain) -> None:
        for scope in reversed(self.scopes):
            if chain[0] in scope:
                target = scope[chain[0]]
                if target is not None:
                    self.unit.through.add((target, chain[1:]))
                return
        self.unit.uses.add(chain)

    def _local(self, name: str) -> bool:
        return any(name in scope for scope in self.scopes)

    def _change(self, name: str) -> None:
        if not self._local(name):
            (self.unit.deferred if self.scopes else self.unit.changes).add(name)

    def _effect(self, call: ast.Call) -> None:
        """A call whose value nobody takes is made for what it changes: its object, or what it is given."""
        chain, root = _chain(call.func), _root(call.func)
        if root is None or self._local(root):
            return
        if self.scopes:
            if isinstance(call.func, ast.Attribute):
                self.unit.deferred.add(root)
            return
        if isinstance(call.func, ast.Attribute):
            self.unit.configures.add(chain or (root,))
        else:
            self.unit.calls.add(root)
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        if chain is not None and chain[-1] not in _SHOWS:
            self.unit.passes |= {(root, part.id) for part in given if isinstance(part, ast.Name)}

    def _called(self, call: ast.Call, chain: Chain) -> None:
        literal = bool(call.args) and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str)
        if chain[-1] in _IMPORT:
            if literal:
                self.unit.through.add((Import(str(call.args[0].value)), ()))  # type: ignore[attr-defined]
            else:
                self.unit.dynamic.add(chain[-1])
        elif len(chain) == 1 and chain[0] in _EXECUTE:
            self.unit.dynamic.add(chain[0])

    def _decorated(self, decorator: ast.expr) -> None:
        root = _root(decorator)
        if root is not None and not self.scopes:
            self.unit.calls.add(root)

    def _visit_all(self, nodes: object) -> None:
        for node in nodes:  # type: ignore[attr-defined]
            if isinstance(node, ast.AST):
                self.visit(node)


def configures(chain: Chain) -> bool:
    """Whether a call of a library's function, such as `np.random.seed(0)`, sets how the library behaves."""
    return any(_CONFIGURES.match(part) for part in chain[1:])


def _chain(node: ast.expr) -> Chain | None:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return (node.id, *reversed(parts)) if isinstance(node, ast.Name) else None


def _root(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call | ast.Starred):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def _same_scope(node: ast.AST) -> Iterator[ast.AST]:
    """*node* and what lies in it, not entering functions, classes and comprehensions."""
    yield node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
        return
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            yield from (part for part in ast.walk(child) if isinstance(part, ast.NamedExpr))
            yield from (part.target for part in ast.walk(child) if isinstance(part, ast.NamedExpr))
        else:
            yield from _same_scope(child)


def _bound(node: ast.AST) -> list[str]:
    """The names that *node* binds in its own scope."""
    names: list[str] = []
    for part in _same_scope(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            names.append(part.id)
        elif isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(part.name)
        elif isinstance(part, ast.Import | ast.ImportFrom):
            names += [name for name, _ in bound_by(part) if name != "*"]
        elif isinstance(part, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and part.name:
            names.append(part.name)
        elif isinstance(part, ast.MatchMapping) and part.rest:
            names.append(part.rest)
    return names


def _parameters(arguments: ast.arguments) -> list[str]:
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return [argument.arg for argument in every if argument is not None]


def _defaults(arguments: ast.arguments) -> list[ast.expr]:
    return [*arguments.defaults, *(default for default in arguments.kw_defaults if default is not None)]


def _annotations(arguments: ast.arguments) -> list[ast.expr]:
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return [argument.annotation for argument in every if argument is not None and argument.annotation is not None]


def bound_by(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, Import]]:
    """The names that an import statement binds, and what each then means."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            yield (
                alias.asname or alias.name,
                Import(node.module or "", None if alias.name == "*" else alias.name, node.level),
            )
        else:
            yield (
                alias.asname or alias.name.split(".")[0],
                Import(alias.name if alias.asname else alias.name.split(".")[0]),
            )


def loaded_by(node: ast.Import | ast.ImportFrom) -> Iterator[Import]:
    """The modules, or names in modules, that must be there when an import statement runs."""
    for alias in node.names:
        if isinstance(node, ast.Import):
            yield Import(alias.name)
        elif alias.name != "*":
            yield Import(node.module or "", alias.name, node.level)
