"""A bundle's `code/` as modules `mainspring_code_<digest>.*`: never through sys.path, never by their old name."""

from __future__ import annotations

import ast
import importlib
import importlib.abc
import importlib.machinery
import linecache
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, ModuleType
from typing import Any

from blake3 import blake3

from mainspring.core.errors import BundleError
from mainspring.core.syntax import parsed

PREFIX = "mainspring_code_"


def package_name(modules: Mapping[str, str]) -> str:
    """The package under which *modules* (name -> source) are imported: one per content."""
    hashed = blake3()
    for name in sorted(modules):
        for part in (name, modules[name]):
            content = part.encode("utf-8", "surrogatepass")
            hashed.update(len(content).to_bytes(8, "little") + content)
    return PREFIX + hashed.hexdigest()[:16]


def file_of(module: str) -> str:
    """The path below `code/` of module *module*."""
    return f"{module.replace('.', '/')}.py"


def module_of(path: str) -> str:
    """The module that lies at *path* below `code/`."""
    return path.removesuffix(".py").replace("/", ".")


@dataclass(frozen=True, slots=True)
class UserCode:
    """The user's functions and classes out of one bundle.

    >>> code = UserCode.of({"features": "def double(x): return 2 * x"})
    >>> code.find("features:double")(21)
    42
    """

    package: str
    modules: Mapping[str, str]

    @classmethod
    def of(cls, modules: Mapping[str, str]) -> UserCode:
        """Make *modules* (name -> source), which must be trusted already, importable under their package's name."""
        package = package_name(modules)
        _FINDER.offer(package, modules)
        return cls(package, dict(modules))

    def find(self, reference: str) -> Any:
        """The function or class at "module:qualname". Raises BundleError when the code doesn't hold it."""
        module, _, qualname = reference.partition(":")
        try:
            found: Any = importlib.import_module(f"{self.package}.{module}")
            for part in qualname.split("."):
                found = getattr(found, part)
        except Exception as error:  # the user's code may raise anything as it is imported
            raise BundleError(
                f"{reference} can't be had from the packaged code ({type(error).__name__}: {error}); "
                f"what a module does as it is imported must work without the project's other files"
            ) from error
        return found


class _Finder(importlib.abc.MetaPathFinder):
    """Knows the modules of every bundle that was loaded in this process."""

    def __init__(self) -> None:
        self._packages: dict[str, dict[str, str]] = {}
        self._lock = threading.Lock()

    def offer(self, package: str, modules: Mapping[str, str]) -> None:
        with self._lock:
            self._packages.setdefault(package, dict(modules))
            if self not in sys.meta_path:
                sys.meta_path.insert(0, self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, name = fullname.partition(".")
        modules = self._packages.get(package)
        if modules is None:
            return None
        is_package = not name or any(other.startswith(f"{name}.") for other in modules)
        if name not in modules and not is_package:
            return None
        loader = _Loader(package, name, modules)
        return importlib.machinery.ModuleSpec(fullname, loader, origin=loader.filename, is_package=is_package)


_FINDER = _Finder()


@dataclass(frozen=True, slots=True)
class _Loader(importlib.abc.InspectLoader):
    package: str
    name: str
    modules: Mapping[str, str]

    @property
    def filename(self) -> str:
        return f"<{self.package}/{file_of(self.name) if self.name else '__init__.py'}>"

    def get_source(self, fullname: str) -> str:
        return self.modules.get(self.name, "")

    def get_code(self, fullname: str) -> CodeType:
        tree = _Rewriter(self.package, self.modules).visit(parsed(self.get_source(fullname), self.filename))
        return compile(ast.fix_missing_locations(tree), self.filename, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        source = self.get_source(module.__name__)
        lines = source.splitlines(keepends=True)
        linecache.cache[self.filename] = (len(source), None, lines, self.filename)  # tracebacks show the packaged line
        exec(self.get_code(module.__name__), module.__dict__)


class _Rewriter(ast.NodeTransformer):
    """Points absolute imports among the bundle's own modules at their packaged names; relative ones are right."""

    def __init__(self, package: str, modules: Mapping[str, str]) -> None:
        self.package = package
        self.own = {".".join(name.split(".")[:depth]) for name in modules for depth in range(1, name.count(".") + 2)}

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        statements: list[ast.stmt] = []
        for alias in node.names:
            statements += [ast.copy_location(each, node) for each in self._import(alias)]
        return statements

    def _import(self, alias: ast.alias) -> list[ast.stmt]:
        if alias.name not in self.own:
            return [ast.Import([alias])]
        if alias.asname:
            return [ast.Import([ast.alias(f"{self.package}.{alias.name}", alias.asname)])]
        root = alias.name.partition(".")[0]
        bound = ast.Import([ast.alias(f"{self.package}.{root}", root)])
        if root == alias.name:
            return [bound]
        loading = ast.Call(ast.Name("__import__", ast.Load()), [ast.Constant(f"{self.package}.{alias.name}")], [])
        return [ast.Expr(loading), bound]  # the module is loaded, the package above it gets the name

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt:
        if not node.level and node.module in self.own:
            node.module = f"{self.package}.{node.module}"
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        first = node.args[0] if node.args else None
        if called == "import_module" and isinstance(first, ast.Constant) and first.value in self.own:
            node.args[0] = ast.copy_location(ast.Constant(f"{self.package}.{first.value}"), first)
        return node
