"""A fitted estimator as a file: skops with our own list of trusted types, a pickle of this installation as last resort.

skops takes seconds to import and loads only when a Python model is written or read.
"""

from __future__ import annotations

import functools
import io
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mainspring.core.errors import BundleChanged, BundleError, BundleUntrusted
from mainspring.store.usercode import UserCode

Format = Literal["skops", "pickle"]
References = Mapping[int, tuple[Any, str]]
"""The user's functions and classes inside a model, by id: the thing and its "module:qualname" in the packaged code."""

TRUSTED = (
    "collections.OrderedDict",
    "collections.defaultdict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
    "xgboost.sklearn.XGBRegressor",
)
"""Types beyond skops' own list whose loading was reviewed: they hold arrays or text that their library parses, and no
hook runs code. skops leaves trees out because a crafted tree can crash the process; ours are signed."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
_NAMED_FILE = re.compile(r"^[0-9a-f-]+\.[a-z]+$")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """*content* in *format*; user_types: the packaged names of the user's types in it; note: why it isn't skops."""

    format: Format
    content: bytes
    user_types: tuple[str, ...] = ()
    note: str = ""


def save(model: Any, code: UserCode, references: References) -> ModelFile:
    """*model* as a file, the same bytes for the same model. Raises BundleError when it can't be kept at all."""
    try:
        content, types = _skops(model, code, references)
        return ModelFile("skops", content, types)
    except _NotSkops as problem:
        note = f"the Python model is a pickle, which loads on this installation only: {problem}"
        return ModelFile("pickle", _pickled(model, references), note=note)


def load(content: bytes, format: Format, code: UserCode, user_types: tuple[str, ...], *, signed_here: bool) -> Any:
    """The estimator in *content*; the bytes decide what it is, and a pickle needs this installation's own signature.

    Raises BundleUntrusted for a pickle of others or for types outside our list, BundleChanged for what is neither.
    """
    if format == "skops":
        if not zipfile.is_zipfile(io.BytesIO(content)):
            raise BundleChanged("the Python model isn't a skops file; package the model again")
        return _loaded(content, user_types)
    if not signed_here:
        raise BundleUntrusted("the Python model is a pickle, which only the installation that signed it may load")
    return _Unpickler(content, code).load()


class _NotSkops(Exception):
    """Why skops can't keep a model."""


def _skops(model: Any, code: UserCode, references: References) -> tuple[bytes, tuple[str, ...]]:
    import skops.io

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = skops.io.dumps(model)
    except Exception as error:  # skops raises what the model's own hooks raise
        raise _NotSkops(f"{type(error).__name__}: {str(error)[:120]}") from error
    renamed = {}
    for thing, reference in references.values():
        module, _, name = reference.partition(":")
        if not reference or "." in name:
            raise _NotSkops(f"{getattr(thing, '__qualname__', thing)} is not at the top level of its module")
        renamed[str(thing.__module__), str(thing.__name__)] = (f"{code.package}.{module}", name)
    ours = tuple(sorted(f"{module}.{name}" for module, name in renamed.values()))
    content = _normalised(content, renamed)
    unknown = set(skops.io.get_untrusted_types(data=content)) - set(TRUSTED) - set(ours)
    if unknown:
        raise _NotSkops(f"{', '.join(sorted(unknown))} isn't on the list of trusted types")
    return content, ours


def _loaded(content: bytes, user_types: tuple[str, ...]) -> Any:
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return skops.io.loads(content, trusted=[*TRUSTED, *user_types])
    except UntrustedTypesFoundException as error:
        raise BundleUntrusted(f"the Python model holds types outside the trusted list: {str(error)[:200]}") from error
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise BundleChanged(f"the Python model can't be read ({type(error).__name__}: {str(error)[:120]})") from error


def _normalised(content: bytes, renamed: Mapping[tuple[str, str], tuple[str, str]]) -> bytes:
    """A skops file without what differs from one writing to the next: addresses, random names, times.

    The user's types get their packaged names on the way.
    """
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(result, "w") as target:
        rewriting = _Rewriting(renamed)
        schema = rewriting.of(json.loads(archive.read("schema.json")))
        for old, new in rewriting.files.items():
            target.writestr(zipfile.ZipInfo(new, _EPOCH), archive.read(old))
        target.writestr(zipfile.ZipInfo("schema.json", _EPOCH), json.dumps(schema))
    return result.getvalue()


class _Rewriting:
    """Walks a schema and numbers its objects and files in the order in which they come."""

    def __init__(self, renamed: Mapping[tuple[str, str], tuple[str, str]]) -> None:
        self.renamed = renamed
        self.ids: dict[int, int] = {}
        self.files: dict[str, str] = {}

    def of(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self.of(item) for item in node]
        if not isinstance(node, dict):
            return node
        made = {key: self.of(value) for key, value in node.items()}
        if isinstance(made.get("__id__"), int):
            made["__id__"] = self.ids.setdefault(made["__id__"], len(self.ids) + 1)
        name = made.get("file")
        if isinstance(name, str) and _NAMED_FILE.match(name):
            made["file"] = self.files.setdefault(name, f"{len(self.files)}.{name.rpartition('.')[2]}")
        key = (made.get("__module__"), made.get("__class__"))
        if key in self.renamed:
            made["__module__"], made["__class__"] = self.renamed[key]  # type: ignore[index]
        return made


class _Pickler(pickle.Pickler):
    """Writes the user's functions and classes as references into the packaged code, not by their module's name."""

    def __init__(self, file: io.BytesIO, references: References) -> None:
        super().__init__(file, protocol=5)
        self.references = references

    def persistent_id(self, thing: Any) -> str | None:
        found = self.references.get(id(thing))
        return found[1] if found is not None and found[0] is thing and found[1] else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, code: UserCode) -> None:
        super().__init__(io.BytesIO(content))
        self.code = code

    def persistent_load(self, reference: Any) -> Any:
        return self.code.find(str(reference))


def _pickled(model: Any, references: References) -> bytes:
    file = io.BytesIO()
    try:
        _Pickler(file, references).dump(model)
    except Exception as error:  # any object may refuse to be pickled, in any way
        raise BundleError(
            f"{type(model).__name__} can't be kept ({type(error).__name__}: {str(error)[:160]}); "
            "define its functions and classes at the top level of a module, and keep files and connections out of it"
        ) from error
    return file.getvalue()


@functools.cache
def versions(names: tuple[str, ...]) -> dict[str, str]:
    """The installed version of each distribution or import package of *names* that there is."""
    import importlib.metadata

    found = {}
    for name in names:
        distribution = _DISTRIBUTIONS.get(name, name)
        try:
            found[distribution] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            for other in importlib.metadata.packages_distributions().get(name, []):
                found[other] = importlib.metadata.version(other)
    return dict(sorted(found.items()))


_DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "yaml": "PyYAML",
    "dateutil": "python-dateutil",
    "xgboost": "xgboost-cpu",
}
