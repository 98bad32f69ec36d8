"""The user's modules and their text: found by name as an import would find them, never by running them."""

from __future__ import annotations

import builtins
import functools
import importlib.machinery
import importlib.util
import linecache
import os
import re
import sys
import sysconfig
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from blake3 import blake3

from mainspring.pipeline.notebook import NOTEBOOK, cells, is_notebook

_MAINSPRING = Path(__file__).resolve().parent.parent
_MOST_FILES = 20_000
_NOT_OURS = ("venv", "node_modules", "__pycache__")
_COMPILED = tuple(importlib.machinery.EXTENSION_SUFFIXES)


@dataclass(frozen=True, slots=True)
class ModuleText:
    """One module of the project: its name (that of its file where it ran as `__main__`) and its source text.

    compiled: the digest of one that has no source. given: the lines of the file where functions stand that got a name
    at the end of the text, by name; 0 where that isn't known."""

    name: str
    text: str
    package: bool = False
    path: str = ""
    compiled: str = ""
    given: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def parent(self) -> str:
        """The package that relative imports start from."""
        return self.name if self.package else self.name.rpartition(".")[0]


@dataclass(slots=True)
class Project:
    """The modules that aren't installed libraries, as seen from the files where the user's functions are written."""

    roots: list[Path] = field(default_factory=list)
    _found: dict[str, ModuleText | None] = field(default_factory=dict)
    _entered: dict[tuple[Any, Any], ModuleText | None] = field(default_factory=dict)

    def __call__(self, name: str) -> ModuleText | None:
        """The project's module *name*; None when it is an installed library's, or nobody's."""
        if name not in self._found:
            self._found[name] = self._search(name)
        return self._found[name]

    def enter(self, thing: Any) -> ModuleText | None:
        """The module in which function or class *thing* is written; imports are then looked up from its folder too."""
        namespace = namespace_of(thing)
        text = ModuleText(NOTEBOOK, cells(namespace)) if is_notebook(namespace) else self._own_file(thing, namespace)
        if text is None:
            return None
        known = self._found.get(text.name)
        if known is None or known.path != text.path:
            known = self._found[text.name] = text
        return known

    def everything(self) -> Iterator[ModuleText]:
        """Every module below the roots: what a computed import might mean. Files that no import can name come too."""
        for root in list(self.roots):
            for path in _python_files(root):
                parts = path.relative_to(root).with_suffix("").parts
                name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                importable = name and all(part.isidentifier() for part in parts)
                found = self(name) if importable else _read(name or path.stem, path, {})
                if found is not None:
                    yield found

    def take_imported(self, before: Collection[str]) -> list[str]:
        """Look in the folders of all modules of the user's that this process has imported, but those it had *before*;
        gives their names."""
        names = []
        for known, module in list(sys.modules.items()):
            namespace = vars(module) if isinstance(module, ModuleType) and known not in before else {}
            file = namespace.get("__file__")
            if not isinstance(file, str) or not file.endswith(".py") or not is_project_file(file):
                continue
            text = _read(canonical_name(namespace), Path(file).resolve(), namespace)
            if text is not None:
                self._add_root(_root(Path(text.path), text))
                names.append(text.name)
        return names

    def below(self, package: ModuleText) -> Iterator[str]:
        """The modules in the folder of *package*, however deep."""
        folder = Path(package.path) if Path(package.path).is_dir() else Path(package.path).parent
        for path in _python_files(folder):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join([package.name, *(parts[:-1] if parts[-1] == "__init__" else parts)])
            if all(part.isidentifier() for part in parts):
                yield name

    def running(self) -> Iterator[ModuleText]:
        """The project's modules that this process has imported."""
        roots = tuple(f"{root}{os.sep}" for root in self.roots)
        for module in list(sys.modules.values()):
            file = vars(module).get("__file__") if isinstance(module, ModuleType) else None
            if isinstance(file, str) and file.startswith(roots) and is_project_file(file):
                name = canonical_name(vars(module))
                text = self(name) if module.__name__ == name else _read(name, Path(file).resolve(), vars(module))
                if text is not None and text.path == str(Path(file).resolve()):
                    yield self._found.setdefault(name, text) or text

    def _own_file(self, thing: Any, namespace: Mapping[str, Any]) -> ModuleText | None:
        """The module of *thing*'s file, read once: one run sees one state of it."""
        file = namespace.get("__file__") or _code_file(thing)
        key = (file, namespace.get("__name__"))
        if key not in self._entered:
            path = Path(file).resolve() if file and is_project_file(file) else None
            text = None if path is None else _read(_canonical_name(namespace, path), path, namespace)
            self._entered[key] = text
            if text is not None and text.path:
                self._add_root(_root(Path(text.path), text))
        return self._entered[key]

    def _add_root(self, root: Path) -> None:
        if root not in self.roots:
            self.roots.append(root)
            self._found = {name: text for name, text in self._found.items() if text is not None}

    def _search(self, name: str) -> ModuleText | None:
        parts = name.split(".")
        if name in sys.builtin_module_names or not all(parts):
            return None
        if _in_library(parts[0]):
            return None
        running = sys.modules.get(name)
        file = vars(running).get("__file__") if isinstance(running, ModuleType) else None
        if isinstance(file, str) and os.path.isfile(file):
            return _read(name, Path(file).resolve(), {}) if is_project_file(file) else None
        if len(parts) > 1 and not self._may_hold(parts[:-1]):
            return None
        folders = (*self.roots, *_search_path())
        for folder in folders:
            found = _file_of(folder, parts)
            if found is not None:
                return _read(name, found, {}) if is_project_file(found) else None
            if _is_library_folder(folder) and _belongs(folder, parts[0]):
                return None
        return self._without_file(name, parts, folders)

    def _may_hold(self, package: list[str]) -> bool:
        """Whether the project may have modules in *package*: not in a plain module, and of what it doesn't have itself
        only where it has a folder of the name, which can be one part of a package in several places."""
        above = self(".".join(package))
        if above is None:
            folders = (folder for folder in (*self.roots, *_search_path()) if not _is_library_folder(folder))
            return any(folder.joinpath(*package).is_dir() for folder in folders)
        return above.package or Path(above.path).name.startswith("__init__.")

    def _without_file(self, name: str, parts: list[str], folders: Iterable[Path]) -> ModuleText | None:
        """A folder without `__init__.py`, or a package of the user's that is installed to be edited."""
        above = self(".".join(parts[:-1])) if len(parts) > 1 else None
        if above is not None and above.path:
            folder = Path(above.path) if Path(above.path).is_dir() else Path(above.path).parent
            found = _file_of(folder, parts[-1:])
            if found is not None:
                return _read(name, found, {}) if is_project_file(found) else None
        for folder in folders:
            place = folder.joinpath(*parts)
            if place.is_dir() and not _is_library_folder(folder) and is_project_file(place) and _holds_code(place):
                return ModuleText(name, "", True, str(place))
        origin = _origin(name) if len(parts) == 1 else None
        return None if origin is None else _read(name, origin, {})


def is_installed(name: str) -> bool:
    """Whether top-level module *name* is an installed library's, or Python's own."""
    if name in sys.modules:
        return _in_library(name) or name in sys.stdlib_module_names
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return False
    return spec is not None and (spec.origin is None or not is_project_file(spec.origin))


def _origin(name: str) -> Path | None:
    """The file of module *name* of the user's as the import system finds it, which may know more than `sys.path`."""
    if name in sys.stdlib_module_names:
        return None
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None
    path = Path(spec.origin).resolve() if spec is not None and spec.origin and spec.has_location else None
    return path if path is not None and path.is_file() and is_project_file(path) else None


def _holds_code(folder: Path) -> bool:
    return any(path.suffix == ".py" or path.is_dir() for path in folder.iterdir())


def namespace_of(thing: Any) -> Mapping[str, Any]:
    """The globals of the module that *thing*, a function or a class, was made in."""
    namespace = getattr(thing, "__globals__", None)
    if namespace is None:
        module = sys.modules.get(getattr(thing, "__module__", None) or "")
        namespace = vars(module) if isinstance(module, ModuleType) else {}
    return namespace


def is_project_namespace(namespace: Mapping[str, Any]) -> bool:
    """Whether these globals are those of a module of the user's, not of an installed library."""
    file = namespace.get("__file__")
    return is_notebook(namespace) or bool(file and is_project_file(file))


def canonical_name(namespace: Mapping[str, Any]) -> str:
    """The name under which the module with these globals stands in a Reach (`__main__` has its file's)."""
    if is_notebook(namespace):
        return NOTEBOOK
    return _canonical_name(namespace, Path(namespace.get("__file__") or f"{namespace.get('__name__', '')}.py"))


def _canonical_name(namespace: Mapping[str, Any], path: Path) -> str:
    name = str(namespace.get("__name__") or path.stem)
    if name not in ("__main__", "__mp_main__"):
        return name
    spec = namespace.get("__spec__")
    return spec.name if spec is not None and spec.name not in ("__main__", "__mp_main__") else path.stem


def _code_file(thing: Any) -> str | None:
    code = getattr(thing, "__code__", None)
    if code is None:
        code = next(
            (value.__code__ for value in getattr(thing, "__dict__", {}).values() if hasattr(value, "__code__")), None
        )
    return code.co_filename if code is not None and Path(code.co_filename).is_file() else None


def _read(name: str, path: Path, namespace: Mapping[str, Any]) -> ModuleText | None:
    """The text of *path* as Python reads it (an encoding line counts); None for a file that isn't source."""
    if path.name.endswith(_COMPILED):
        return ModuleText(name, "", False, str(path), blake3(path.read_bytes()).hexdigest())
    lines = linecache.getlines(str(path), dict(namespace)) if path.suffix != ".py" else _lines(path)
    return ModuleText(name, "".join(lines), path.name == "__init__.py", str(path)) if lines is not None else None


def _lines(path: Path) -> list[str] | None:
    try:
        return [decoded(path.read_bytes())]
    except OSError:
        return None


def decoded(content: bytes) -> str:
    """The text of a source file as Python reads it."""
    encoding = re.match(rb"(?:[^\n]*\n)?[^\n]*#.*?coding[:=]\s*([-\w.]+)", content)
    return content.decode(encoding[1].decode() if encoding else "utf-8-sig", errors="replace")


def _root(path: Path, text: ModuleText) -> Path:
    """The folder from which the module's own name would be imported."""
    steps = len(text.name.split(".")) - (0 if text.package else 1)
    folder = path.parent
    for _ in range(steps):
        folder = folder.parent
    return folder


def _file_of(folder: Path, parts: list[str]) -> Path | None:
    path = folder.joinpath(*parts)
    compiled = (path.with_name(f"{path.name}{suffix}") for suffix in _COMPILED)
    for candidate in (path / "__init__.py", *compiled, path.with_name(f"{path.name}.py")):
        if candidate.is_file():
            return candidate
    return None


def _belongs(folder: Path, name: str) -> bool:
    """Whether library folder *folder* holds module *name* in any form, compiled ones included."""
    return name in _held(folder)


@functools.lru_cache(maxsize=64)
def _held(folder: Path) -> frozenset[str]:
    return frozenset(entry.partition(".")[0] for entry in os.listdir(folder)) if folder.is_dir() else frozenset()


def _in_library(package: str) -> bool:
    """Whether this process has imported *package*, and all below it, from an installed library."""
    module = sys.modules.get(package)
    if not isinstance(module, ModuleType) or not isinstance(vars(module).get("__file__"), str):
        return False
    places = [vars(module)["__file__"], *(vars(module).get("__path__") or ())]
    return not any(is_project_file(place) for place in places)


def is_project_file(path: Path | str) -> bool:
    """Whether *path* is the user's: not mainspring's, and not an installed library's."""
    return _of_project(os.path.abspath(path))


@functools.lru_cache(maxsize=16_384)
def _of_project(path: str) -> bool:
    folder, name = os.path.split(path)
    real = os.path.join(_real_folder(folder), name)
    return not f"{os.path.realpath(real) if os.path.islink(real) else real}{os.sep}".startswith(_no_project())


@functools.lru_cache(maxsize=4_096)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def _is_library_folder(folder: Path) -> bool:
    return f"{folder}{os.sep}".startswith(_libraries())


@functools.cache
def _libraries() -> tuple[str, ...]:
    return tuple(f"{folder}{os.sep}" for folder in _library_folders())


@functools.cache
def _no_project() -> tuple[str, ...]:
    return (f"{_MAINSPRING}{os.sep}", *_libraries())


@functools.cache
def _library_folders() -> tuple[Path, ...]:
    """Where the interpreter and its installed packages live."""
    named = {Path(place).resolve() for kind, place in sysconfig.get_paths().items() if kind in _LIBRARY_PATHS}
    on_path = {
        Path(entry).resolve() for entry in sys.path if entry.rstrip("/").endswith(("site-packages", "dist-packages"))
    }
    dynamic = {Path(entry).resolve() for entry in sys.path if entry.endswith("lib-dynload")}
    return tuple(named | on_path | dynamic)


_LIBRARY_PATHS = ("stdlib", "platstdlib", "purelib", "platlib")


def _search_path() -> Iterable[Path]:
    return _resolved(tuple(sys.path))


@functools.lru_cache(maxsize=8)
def _resolved(entries: tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(Path(entry or ".").resolve() for entry in entries)


def _python_files(root: Path) -> Iterator[Path]:
    """Those below *root*, in order; hidden folders and virtual environments, which may be large, aren't looked into."""
    found: list[Path] = []
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if not (name.startswith(".") or name in _NOT_OURS)]
        found += [Path(folder, name) for name in names if name.endswith(".py") and not name.startswith(".")]
    yield from sorted(found)[:_MOST_FILES]


def is_builtin(name: str) -> bool:
    """Whether *name* is one of Python's own names."""
    return hasattr(builtins, name)
