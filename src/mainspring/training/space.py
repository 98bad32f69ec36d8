"""Which parameters of which estimator a declared search space means."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from mainspring.core.errors import DeclarationError
from mainspring.training.algorithms import Contender

Space = dict[str, Any]


def spaces(declared: Mapping[str, Any], contenders: Sequence[Contender]) -> dict[str, Space]:
    """Per contender's name what is searched, by the estimator's own parameter names.

    A key is "parameter" (of every estimator that has it) or "Estimator.parameter". What is declared for a contender
    replaces its default space. Raises DeclarationError for a key that no estimator has, with the nearest names.
    """
    found: dict[str, Space] = {contender.name: {} for contender in contenders}
    for key, values in declared.items():
        meant, parameter = _meant(key, contenders)
        having = [(contender, real) for contender in meant if (real := _real_name(contender, parameter))]
        if not having:
            raise DeclarationError(_unknown_key(key, parameter, meant))
        for contender, real in having:
            found[contender.name][real] = values
    return {contender.name: found[contender.name] or dict(contender.space) for contender in contenders}


def _meant(key: str, contenders: Sequence[Contender]) -> tuple[list[Contender], str]:
    name, dot, parameter = key.partition(".")
    if not dot:
        return list(contenders), key
    meant = [contender for contender in contenders if name in _titles(contender)]
    if not meant:
        known = sorted({title for contender in contenders for title in _titles(contender)})
        hint = difflib.get_close_matches(name, known, n=1, cutoff=0.4) or known[:1]
        raise DeclarationError(f"Search space {key!r}: no estimator {name!r} in model=; write {hint[0]}.{parameter}")
    return meant, parameter


def _titles(contender: Contender) -> set[str]:
    """The names by which a user may mean it; of two of one class also the class."""
    titles = {contender.name, contender.name.partition("-")[0]}
    return titles | {"Pipeline"} if contender.prefix else titles


def _real_name(contender: Contender, parameter: str) -> str | None:
    names = _parameters(contender)
    return next((name for name in (contender.prefix + parameter, parameter) if name in names), None)


def _parameters(contender: Contender) -> list[str]:
    return list(contender.estimator.get_params()) if hasattr(contender.estimator, "get_params") else []


def _unknown_key(key: str, parameter: str, meant: Sequence[Contender]) -> str:
    known = {name.removeprefix(contender.prefix) for contender in meant for name in _parameters(contender)}
    nested = sorted(name for name in known if name.endswith(f"__{parameter}"))
    near = nested or difflib.get_close_matches(parameter, sorted(known), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(sorted(known)[:8])}"
    who = " and ".join(contender.name for contender in meant)
    return f"Search space {key!r}: {who} has no parameter {parameter!r}; {hint}"
