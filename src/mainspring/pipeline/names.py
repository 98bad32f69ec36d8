"""What a statement binds, uses and changes, read from the syntax tree."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from mainspring.core.syntax import parsed
from mainspring.pipeline.scopes import (
    FUNCTIONS,
    IMPORTS,
    Import,
    Meanings,
    annotated,
    bound,
    bound_by,
    bound_in,
    children,
    defaults,
    loaded_by,
    meanings,
    parameters,
    same_scope,
)

Chain = tuple[str, ...]
"""A name and the attributes read from it: `helpers.ages.fix` is ("helpers", "ages", "fix")."""

LITERAL = "<literal>"
"""Follows an importing function in a chain whose argument was read."""

FORMAT = "register_format"
_EXECUTE = frozenset({"exec", "eval", "compile", "globals", "vars", "locals", "__import__", "__builtins__"})
_IMPORT = frozenset({"__import__", "import_module"})
_FINDS = frozenset({"__subclasses__", "__globals__", "f_globals", "f_locals", "f_builtins"})
_SHOWS = frozenset({"print", "display", "help", "len", "repr", "type", "isinstance"})
_TAKES_OUT = frozenset({"pop", "popitem", "setdefault"})
_DEEPEST = 100
_SETS = frozenset({"setattr", "delattr", "__setattr__", "__delattr__"})


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that may be `mainspring.file(...)`: what is called, and the path, or what is known of its beginning.
    handed: it isn't called there, but used as a value."""

    called: Chain | tuple[Import, Chain]
    path: str | None
    folder: str
    line: int
    handed: bool = False


@dataclass(slots=True)
class Unit:
    """One top-level statement (of an import, one name).

    binds: the names it defines. imports: those of them that imports give. inner_imports: what its imports need; loads:
    what those need that run with it, not in a function. uses: what it reads of other units. through:
    attributes read from imports inside functions. changes: what it alters as it runs; deferred: what its functions
    alter when they are called, with how many functions deep that stands (altered: by imports inside them). configures:
    methods called for their effect. passes: (function called for its effect, name given to it). calls: what it calls
    as it runs, decorators and base classes included, with how many functions deep that is followed. dynamic: names
    used that can't be followed. asks: calls that may name a data file; handed: what is used in another way than by such
    a call. dead: the ids of nodes that never run. written: its canonical text, once somebody has asked for it.
    """

    node: ast.stmt
    source: str
    line: int
    binds: set[str] = field(default_factory=set)
    imports: Meanings = field(default_factory=dict)
    inner_imports: list[Import] = field(default_factory=list)
    loads: list[Import] = field(default_factory=list)
    stars: list[Import] = field(default_factory=list)
    uses: set[Chain] = field(default_factory=set)
    through: set[tuple[Import, Chain]] = field(default_factory=set)
    changes: set[Chain] = field(default_factory=set)
    configures: set[Chain] = field(default_factory=set)
    passes: set[tuple[str, Chain]] = field(default_factory=set)
    deferred: dict[Chain, int] = field(default_factory=dict)
    altered: set[tuple[Import, Chain]] = field(default_factory=set)
    calls: dict[Chain, int] = field(default_factory=dict)
    dynamic: set[str] = field(default_factory=set)
    asks: list[Asked] = field(default_factory=list)
    handed: set[Chain | tuple[Import, Chain]] = field(default_factory=set)
    dead: frozenset[int] = frozenset()
    written: str = ""

    @property
    def name(self) -> str:
        """What a person calls it: the function's or class's name, else the names it binds."""
        named = getattr(self.node, "name", None) or ", ".join(sorted(self.binds))
        return named or ast.unparse(self.node).partition("\n")[0][:60]

    @property
    def kind(self) -> str:
        """What a person calls such a thing: function, class, import, constant or statement."""
        if self.defines:
            return "function"
        if isinstance(self.node, ast.ClassDef):
            return "class"
        if isinstance(self.node, IMPORTS):
            return "import"
        return "constant" if isinstance(self.node, ast.Assign | ast.AnnAssign) else "statement"

    @property
    def needs(self) -> bool:
        """Whether it reads anything that isn't its own."""
        return bool(self.uses or self.through or self.inner_imports or self.stars or self.asks or self.dynamic)

    @property
    def defines(self) -> bool:
        """Whether it is a function: its body counts when it is called, not where it stands."""
        return isinstance(self.node, FUNCTIONS)

    @property
    def data(self) -> bool:
        """Whether it binds by assignment, not by def, class or import."""
        return not (self.defines or self.imports or isinstance(self.node, ast.ClassDef))

    def gives(self, name: str, value: object) -> bool:
        """Whether the statement is `name = literal`, and *value* is what it says."""
        node = self.node
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            return False
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if not all(isinstance(target, ast.Name) for target in targets):
            return False
        try:
            told = ast.literal_eval(node.value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return False
        return type(told) is type(value) and repr(told) == repr(value)

    @property
    def rebinds(self) -> bool:
        """Whether it gives its name a new meaning whatever that was before."""
        plain = isinstance(
            self.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom
        )
        simple = isinstance(self.node, ast.Assign) and all(isinstance(target, ast.Name) for target in self.node.targets)
        return (plain or simple) and not any(chain[0] in self.binds for chain in self.uses if not self.defines)


class Reader(ast.NodeVisitor):
    """Fills in a unit. A scope maps the local names of one function to what imports made of them."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.scopes: list[Meanings] = []
        self.classes: list[str] = []
        self.dead = unit.dead
        self.asking: ast.expr | None = None
        self.evaluates = 0  # how many functions deep annotations of variables are evaluated: not in functions

    def read(self) -> None:
        node = self.unit.node
        every = same_scope(node)
        self.unit.binds |= set(bound_in(every))
        inner = [each for each in self._living(every) if isinstance(each, IMPORTS)]
        self.unit.imports.update(meanings(inner))
        for each in inner:
            self.unit.stars += [target for name, target in bound_by(each) if name == "*"]
        self.visit(node)

    def visit(self, node: ast.AST) -> None:
        if self.dead and id(node) in self.dead:
            return
        how = _READ.get(node.__class__)
        if how is None:
            self.generic_visit(node)
        else:
            how(self, node)

    def generic_visit(self, node: ast.AST) -> None:
        for child in children(node):
            self.visit(child)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        self.unit.inner_imports += loaded_by(node)
        if not self.scopes:
            self.unit.loads += loaded_by(node)
            if self.classes:  # an attribute of the class, whoever reads it
                read = {(target, ()) for _, target in bound_by(node)}
                self.unit.through |= read
                self.unit.handed |= read

    visit_ImportFrom = visit_Import

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._use((node.id,), handed=node is not self.asking)
            if node.id in _EXECUTE and not self._local(node.id):
                self.unit.dynamic.add(node.id)
        elif not self._local(node.id) and (self.scopes or isinstance(node.ctx, ast.Del)):
            self._change((node.id,))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in _FINDS:
            self.unit.dynamic.add(node.attr)
        chain = chain_of(node)
        if chain is None:
            root = _root(node)
            if root is not None and not isinstance(node.ctx, ast.Load):
                self._change(root)
            self.generic_visit(node)
            return
        self._use(chain, handed=node is not self.asking)
        if not isinstance(node.ctx, ast.Load):
            self._change(chain)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        root = _root(node)
        if root is not None and not isinstance(node.ctx, ast.Load):
            self._change(root)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        root = _root(node.target)
        if root is not None:
            self._use(root)
            self._change(root)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._visit_all([node.target, node.value])
        if len(self.scopes) == self.evaluates:
            self._annotations([node.annotation])

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self._effect(node.value)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        chain = chain_of(node.func)
        followed = chain is not None and self._called(node, chain)
        if isinstance(node.func, ast.Attribute) and node.func.attr in _TAKES_OUT:
            self._change(_root(node.func))
        if (chain or ("",))[-1] in _SETS and node.args:
            self._change(self._named(node))
        if not self.scopes and chain is not None:
            self.unit.calls[chain] = 2
        if not followed:
            self.visit(node.func)
        self._visit_all([*node.args, *node.keywords])

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in node.decorator_list:
            self._decorated(decorator)
        self._visit_all([*node.decorator_list, *defaults(node.args)])
        self._annotations([*annotated(node.args), node.returns])
        self._enter(parameters(node.args), node.body)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for made in (*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords)):
            self._decorated(made)
        before, self.evaluates = self.evaluates, len(self.scopes)
        self.classes.append(node.name)
        self.generic_visit(node)  # names of a class body hide nothing from its methods
        self.classes.pop()
        self.evaluates = before

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_all(defaults(node.args))
        self._enter(parameters(node.args), [node.body])

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        self.visit(node.generators[0].iter)
        targets = [name for generator in node.generators for name in bound(generator.target)]
        self.scopes.append(dict.fromkeys(targets, ()))
        for generator in node.generators:
            self._visit_all([*generator.ifs, generator.target])
        self._visit_all([generator.iter for generator in node.generators[1:]])
        self._visit_all([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt])
        self.scopes.pop()

    visit_SetComp = visit_GeneratorExp = visit_DictComp = visit_ListComp

    def _enter(self, names: list[str], body: list[ast.stmt] | list[ast.expr]) -> None:
        scope: Meanings = dict.fromkeys(names, ())
        shared: set[str] = set()
        every = [inner for statement in body for inner in same_scope(statement)]
        scope.update(dict.fromkeys(bound_in(every), ()))
        living = self._living(every)
        for inner in living:
            if isinstance(inner, ast.Global):
                shared |= set(inner.names)
        scope.update(meanings(living))
        self.scopes.append({name: targets for name, targets in scope.items() if name not in shared})
        self._visit_all(body)
        self.scopes.pop()

    def _living(self, nodes: list[ast.AST]) -> list[ast.AST]:
        if not self.dead:
            return nodes
        dead = {id(part) for each in nodes if id(each) in self.dead for part in ast.walk(each)}
        return [each for each in nodes if id(each) not in dead]

    def _use(self, chain: Chain, *, handed: bool = False) -> None:
        for scope in reversed(self.scopes):
            if chain[0] in scope:
                read = {(target, chain[1:]) for target in scope[chain[0]]}
                self.unit.through |= read
                self.unit.handed |= read if handed else set()
                return
        self.unit.uses.add(chain)
        if handed:
            self.unit.handed.add(chain)

    def _local(self, name: str) -> bool:
        return any(name in scope for scope in self.scopes)

    def _change(self, chain: Chain | None) -> None:
        if chain is None:
            return
        for scope in reversed(self.scopes):
            if chain[0] in scope:
                self.unit.altered |= {(target, chain[1:]) for target in scope[chain[0]]}
                if chain[0] == "cls" and self.classes:  # a class that keeps a list of its subclasses
                    self.unit.deferred[self.classes[0],] = 1
                return
        if self.scopes:
            self.unit.deferred[chain] = min(len(self.scopes), self.unit.deferred.get(chain, _DEEPEST))
        else:
            self.unit.changes.add(chain)

    def _effect(self, call: ast.Call) -> None:
        """A call whose value nobody takes is made for what it changes: its object, or what it is given."""
        root = _root(call.func)
        if root is None or (self._local(root[0]) and root[0] != "cls"):
            return
        if self.scopes:
            if isinstance(call.func, ast.Attribute):
                self._change(root)
            return
        if isinstance(call.func, ast.Attribute):
            self.unit.configures.add(chain_of(call.func) or (*root, "()"))
        chain = chain_of(call.func)
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        if chain is not None and chain[-1] == FORMAT and given:  # the class is kept and read as it says
            self._change(chain_of(given[0]))
        if chain is not None and chain[-1] not in _SHOWS:
            self.unit.passes |= {(chain[0], name) for part in given if (name := chain_of(part)) is not None}

    def _called(self, call: ast.Call, chain: Chain) -> bool:
        """Look at what is called and with what; whether nothing more is to be read of the function's name."""
        named = (keyword.value for keyword in call.keywords if keyword.arg == "path")
        first = call.args[0] if call.args else next(named, None)
        literal = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
        if literal is not None and chain[-1] in _IMPORT and self._imported(call, chain, literal):
            return True
        if chain == ("vars",) and first is not None:
            return True
        if len(chain) == 1 or chain[-1] == "file":
            self._asks(call, chain, first)
        return False

    def _imported(self, call: ast.Call, chain: Chain, name: str) -> bool:
        """`import_module("helpers")` and `__import__("helpers")` are imports that can be read."""
        level = len(name) - len(name.lstrip("."))
        package = [*call.args[1:2], *(each.value for each in call.keywords if each.arg == "package")]
        own = all(isinstance(each, ast.Name) and each.id == "__package__" for each in package)
        if (level and not own) or (chain[-1] == "__import__" and (len(call.args) > 1 or call.keywords or "." in name)):
            return False
        read = Import(name[level:], None, level), ()
        self.unit.through.add(read)
        self.unit.handed.add(read)
        self._use((*chain, LITERAL))
        return True

    def _asks(self, call: ast.Call, chain: Chain, path: ast.expr | None) -> None:
        if path is None:
            return
        literal = path.value if isinstance(path, ast.Constant) and isinstance(path.value, str) else None
        folder = _beginning(path).rpartition("/")[0] if literal is None else ""
        targets = next((scope[chain[0]] for scope in reversed(self.scopes) if chain[0] in scope), None)
        called: list[Chain | tuple[Import, Chain]] = (
            [chain] if targets is None else [(target, chain[1:]) for target in targets]
        )
        self.unit.asks += [Asked(each, literal, folder, call.lineno) for each in called]
        self.asking = call.func

    def _decorated(self, decorator: ast.expr) -> None:
        """A decorator, a base class or a metaclass is called, and so may be what its object keeps a list in."""
        root = _root(decorator)
        if root is None or self.scopes:
            return
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        self.unit.calls[chain_of(called) or root] = 1 if called is decorator else 2
        if isinstance(called, ast.Attribute):
            self.unit.configures.add(chain_of(called) or (*root, "()"))

    def _named(self, call: ast.Call) -> Chain | None:
        """What `setattr(thing, "name", value)` sets."""
        chain = chain_of(call.args[0])
        second = call.args[1] if len(call.args) > 1 else None
        if chain is not None and isinstance(second, ast.Constant) and isinstance(second.value, str):
            return (*chain, second.value)
        return chain

    def _annotations(self, nodes: list[ast.expr | None]) -> None:
        """Annotations, and the names in those that are written as text."""
        for node in nodes:
            if node is None:
                continue
            self.visit(node)
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    try:
                        self.visit(parsed(part.value.strip(), mode="eval").body)
                    except SyntaxError:
                        continue

    def _visit_all(self, nodes: object) -> None:
        for node in nodes:  # type: ignore[attr-defined]
            if isinstance(node, ast.AST):
                self.visit(node)


_READ = {kind: getattr(Reader, f"visit_{name}") for name, kind in vars(ast).items() if hasattr(Reader, f"visit_{name}")}
"""How each kind of node is read; the others are gone through."""


def _beginning(path: ast.expr) -> str:
    """The text with which a computed path surely begins."""
    if isinstance(path, ast.JoinedStr) and path.values and isinstance(path.values[0], ast.Constant):
        return str(path.values[0].value)
    if isinstance(path, ast.BinOp) and isinstance(path.op, ast.Add | ast.Mod):
        return _beginning(path.left).partition("%")[0] if isinstance(path.op, ast.Mod) else _beginning(path.left)
    if isinstance(path, ast.Constant) and isinstance(path.value, str):
        return path.value
    return ""


def chain_of(node: ast.expr) -> Chain | None:
    """*node* as a chain, if it is a name and attributes read from it."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return (node.id, *reversed(parts)) if isinstance(node, ast.Name) else None


def _root(node: ast.expr) -> Chain | None:
    """The name from which *node* starts, with the attributes that are read from it before anything else is done."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call | ast.Starred):
        if isinstance(node, ast.Attribute):
            parts.append(node.attr)
        else:
            parts.clear()
        node = node.func if isinstance(node, ast.Call) else node.value
    return (node.id, *reversed(parts)) if isinstance(node, ast.Name) else None
