"""Random projects of several modules whose values follow from numbers, and random edits of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

KINDS = (
    "function", "constant", "method", "property", "subclass", "dataclass", "decorated", "lambda", "partial", "closure",
    "registered", "table", "attribute", "datafile", "default", "nested", "dispatched", "conditional",
)  # fmt: skip
CARRIED = (
    "object", "function", "class", "partial", "method", "boxed", "lambda", "inherited", "formatted", "singleton",
)  # fmt: skip
"""What steps hand to each other beside numbers: its code travels by name."""
EDITS = ("number", "number", "number", "comment", "docstring", "blank", "unused", "unreachable")
_MODULES, _THINGS, _STEPS, _CARRIED = 6, 22, 6, 3
_STYLES = ("from", "as", "module", "alias", "late", "dynamic")


@dataclass(slots=True)
class Thing:
    """One definition: its module, its number, and the earlier ones that it uses, each with a style of import."""

    index: int
    kind: str
    module: int
    number: int
    uses: list[tuple[Thing, str]]
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"thing{self.index}"

    def needs(self) -> Iterator[int]:
        """The things that this one's value follows from."""
        yield self.index
        for used, _ in self.uses:
            yield from used.needs()


@dataclass(slots=True)
class Made:
    """A project. steps: what each uses. carried: what further steps give, pass on and use."""

    random: random.Random
    things: list[Thing]
    steps: list[list[tuple[Thing, str]]]
    carried: list[Thing]
    extra: dict[int, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, seed: int) -> Made:
        chance = random.Random(seed)
        things: list[Thing] = []
        for index in range(_THINGS):
            module = index * _MODULES // _THINGS
            earlier = [thing for thing in things if thing.module < module or chance.random() < 0.5]
            used = chance.sample(earlier, min(len(earlier), chance.randint(0, 2)))
            style = [(thing, _style(chance, thing, module)) for thing in used]
            things.append(Thing(index, chance.choice(KINDS), module, chance.randint(1, 99), style))
        steps = [[(thing, _style(chance, thing, -1)) for thing in chance.sample(things, 2)] for _ in range(_STEPS)]
        return cls(chance, things, steps, [_carrier(chance, things, _THINGS + each) for each in range(_CARRIED)])

    def edit(self) -> tuple[str, int | None]:
        """Change something at random: the kind of edit, and the thing whose value is another now."""
        how, thing = self.random.choice(EDITS), self.random.choice([*self.things, *self.carried, *self.carried])
        if how == "number":
            thing.number += self.random.randint(1, 9)
            return how, thing.index
        serial = self.random.randint(0, 10**6)
        texts = {
            "comment": f"# comment {serial}",
            "docstring": "",
            "blank": "\n",
            "unused": f"def unused{serial}(x):\n    return {serial}",
            "unreachable": f"if False:\n    unused = {serial}",
        }
        if how == "docstring":
            thing.notes = [f"Text {serial}."]
        else:
            self.extra.setdefault(thing.module, []).append(texts[how])
        return how, None

    def needs(self, step: str) -> set[int]:
        """The things by whose edits *step* runs again. Stated: what is kept in one table counts together."""
        number = int(step[4:])
        uses = [thing for thing, _ in self.steps[number]] if step.startswith("step") else [self.carried[number]]
        needed = {index for thing in uses for index in thing.needs()}
        registered = {thing.index for thing in self.things if thing.kind == "registered"}
        return needed | registered if needed & registered else needed

    def write(self, folder: Path) -> None:
        """The files of the project as it is now; only those that differ are written."""
        for name, text in self._files():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists() or path.read_text() != text:
                path.write_text(text)

    def _files(self) -> Iterator[tuple[str, str]]:
        yield "made/__init__.py", ""
        yield "made/registry.py", _REGISTRY
        for module in range(_MODULES):
            mine = [thing for thing in (*self.things, *self.carried) if thing.module == module]
            parts = [part for thing in mine for part in _written(thing)]
            lines = ["import functools", "from dataclasses import dataclass", "import mainspring as ms"]
            lines += ["from made import registry", *self.extra.get(module, []), *parts]
            yield f"made/part{module}.py", "\n".join(lines) + "\n"
        yield "made/altering.py", "\n".join([*self._altering(), ""])
        for thing in self.things:
            if thing.kind == "datafile":
                yield f"made/data/{thing.name}.txt", str(thing.number)
        yield "made/main.py", self._main()

    def _altering(self) -> Iterator[str]:
        """The module that is imported for what it does to others."""
        for module in range(_MODULES):
            yield f"from made import part{module}"
        yield "from made import registry"
        for thing in self.things:
            place = f"part{thing.module}.{thing.name}"
            if thing.kind == "table":
                yield f"{place}_table['value'] = {thing.number}"
            elif thing.kind == "attribute":
                yield f"{place}_value = {thing.number}"
            elif thing.kind == "registered":
                yield f"@registry.register('{thing.name}')\ndef {thing.name}_plugin(x):\n    return x + {thing.number}"
            elif thing.kind == "dispatched":
                yield f"@{place}_base.register\ndef _(x: int):\n    return x + {thing.number}"

    def _main(self) -> str:
        lines = ["import mainspring as ms", "import functools", "from made import altering"]
        for index, used in enumerate(self.steps):
            imports, late, calls = _used(used, f"step{index}")
            inputs = f"step{index - 1}, " if index and index % 2 else ""
            plus = f" + step{index - 1} % 2" if inputs else ""
            body = [*late, f"return {' + '.join(calls)}{plus}"]
            lines += [*imports, f"def step{index}({inputs}):", *(f"    {line}" for line in body)]
        names = [f"step{index}" for index in range(len(self.steps))]
        for index, thing in enumerate(self.carried):
            lines += [f"from made import part{thing.module}", *_handed(index, thing)]
            names += [f"give{index}", f"hand{index}", f"take{index}", f"last{index}"]
        return "\n".join([*lines, f"pipeline = ms.Pipeline('made', [{', '.join(names)}])", ""])


_REGISTRY = """
ALL = {}
def _keep(name, function):
    ALL[name] = function
def register(name):
    def inner(function):
        _keep(name, function)
        return function
    return inner
"""


def _carrier(chance: random.Random, things: list[Thing], index: int) -> Thing:
    module = chance.randrange(_MODULES)
    earlier = [thing for thing in things if thing.module <= module]
    used = [(thing, _style(chance, thing, module)) for thing in chance.sample(earlier, min(len(earlier), 2))]
    return Thing(index, chance.choice(CARRIED), module, chance.randint(1, 99), used)


def _handed(index: int, thing: Thing) -> Iterator[str]:
    """A step that gives what travels, one that passes it on, and two that use it."""
    given, used = _HANDED.get(thing.kind, ("{name}()", "{it}.go(2)"))
    yield f"def give{index}(): return {given.format(name=f'part{thing.module}.{thing.name}')}"
    yield f"def hand{index}(give{index}): return give{index}"
    yield f"def take{index}(give{index}): return {used.format(it=f'give{index}')}"
    yield f"def last{index}(hand{index}): return {used.format(it=f'hand{index}')}"


def _style(chance: random.Random, thing: Thing, module: int) -> str:
    if thing.module == module:
        return "own"
    return chance.choice(_STYLES if chance.random() < 0.3 else _STYLES[:-1])


def _used(uses: list[tuple[Thing, str]], by: str) -> tuple[list[str], list[str], list[str]]:
    """Imports, imports inside the function, and calls of the things used."""
    imports, late, calls = [], [], []
    for thing, style in uses:
        module, alias = f"part{thing.module}", f"{by}_{thing.name}"
        name = {"own": thing.name, "from": thing.name, "module": f"made.{module}.{thing.name}"}.get(style, alias)
        if style in ("as", "from"):
            imports.append(f"from made.{module} import {thing.name}{f' as {alias}' if style == 'as' else ''}")
        elif style == "module":
            imports.append(f"import made.{module}")
        elif style == "alias":
            imports.append(f"from . import {module} as {alias}_module")
            name = f"{alias}_module.{thing.name}"
        elif style == "late":
            late.append(f"from made.{module} import {thing.name} as {alias}")
        elif style == "dynamic":
            imports.append(f"import made.{module} as {alias}_module")
            name = f"getattr({alias}_module, 'thing' + '{thing.index}')"
        calls.append(f"{name}(2)")
    return imports, late, calls or ["0"]


def _written(thing: Thing) -> Iterator[str]:
    imports, late, calls = _used(thing.uses, thing.name)
    yield from imports
    name, number = thing.name, thing.number
    template = (_TEMPLATES if thing.index < _THINGS else _CARRIERS)[thing.kind]
    indent = "    " * (2 if "def go(self, x):\n" in template else 1)
    before = "".join(f"{line}\n{indent}" for line in [*(f"'''{note}'''" for note in thing.notes), *late])
    more = " + ".join(calls)
    yield template.format(name=name, module=thing.module, number=number, before=before, more=more)


_HANDED = {
    "function": ("{name}", "{it}(2)"),
    "class": ("{name}", "{it}().go(2)"),
    "partial": ("functools.partial({name}, 2)", "{it}()"),
    "method": ("{name}().go", "{it}(2)"),
    "boxed": ("[{{'a': ({name}(),)}}]", "{it}[0]['a'][0].go(2)"),
    "singleton": ("{name}_single", "{it}.go(2)"),
}
_GO = "    def go(self, x):\n        {before}return x * {number} + {more}\n"
_CARRIERS = {
    **dict.fromkeys(("object", "class", "method", "boxed"), "class {name}:\n" + _GO),
    **dict.fromkeys(("function", "partial"), "def {name}(x):\n    {before}return x * {number} + {more}"),
    "lambda": "class {name}:\n    table = [lambda x: x + {number}]\n"
    "    def go(self, x):\n        {before}return self.table[0](x) + {more}\n",
    "inherited": "class {name}_base:\n" + _GO + "class {name}({name}_base): pass",
    "formatted": "class {name}:\n" + _GO + "def {name}_read(content): return {name}()\n"
    "ms.register_format({name}, 'made-{module}-{name}', lambda value: b'', {name}_read)",
    "singleton": "class {name}:\n" + _GO + "    def __reduce__(self): return '{name}_single'\n{name}_single = {name}()",
}
_TEMPLATES = {
    "function": "def {name}(x):\n    {before}return x * {number} + {more}",
    "constant": "{name}_rate = {number}\ndef {name}(x):\n    {before}return x + {name}_rate + {more}",
    "method": "class {name}_class:\n    rate = {number}\n    def go(self, x): return x + self.rate\n"
    "def {name}(x):\n    {before}return {name}_class().go(x) + {more}",
    "property": "class {name}_class:\n    @property\n    def value(self): return {number}\n"
    "def {name}(x):\n    {before}return {name}_class().value + {more}",
    "subclass": "class {name}_base:\n    def go(self, x): return x + {number}\nclass {name}_class({name}_base): pass\n"
    "def {name}(x):\n    {before}return {name}_class().go(x) + {more}",
    "dataclass": "@dataclass(frozen=True)\nclass {name}_class:\n    value: int = {number}\n"
    "def {name}(x, rules: '{name}_class' = {name}_class()):\n    {before}return rules.value + {more}",
    "decorated": "def {name}_more(f):\n    @functools.wraps(f)\n    def inner(x): return f(x) + {number}\n"
    "    return inner\n@{name}_more\ndef {name}(x):\n    {before}return x + {more}",
    "lambda": "{name}_choices = [lambda x: x, lambda x: x + {number}]\n"
    "def {name}(x):\n    {before}return {name}_choices[1](x) + {more}",
    "partial": "def {name}_base(x, rate):\n    {before}return x + rate + {more}\n"
    "{name} = functools.partial({name}_base, rate={number})",
    "closure": "def {name}_make(rate):\n    def inner(x):\n        return x + rate\n    return inner\n"
    "{name}_inner = {name}_make({number})\ndef {name}(x):\n    {before}return {name}_inner(x) + {more}",
    "registered": "def {name}(x):\n    {before}return registry.ALL['{name}'](x) + {more}",
    "table": "{name}_table = {{}}\ndef {name}(x):\n    {before}return {name}_table['value'] + {more}",
    "attribute": "{name}_value = 0\ndef {name}(x):\n    {before}return {name}_value + {more}",
    "datafile": "{name}_file = ms.file('data/{name}.txt')\n"
    "def {name}(x):\n    {before}return int({name}_file.read_text()) + {more}",
    "default": "def {name}(x, rate={number} * 2):\n    {before}return x + rate + {more}",
    "nested": "def {name}(x):\n    {before}def inner(y): return y + {number}\n    return inner(x) + {more}",
    "dispatched": "@functools.singledispatch\ndef {name}_base(x): return x\n"
    "def {name}(x):\n    {before}return {name}_base(x) + {more}",
    "conditional": "if {number} % 2:\n    def {name}_odd(x): return x + {number}\nelse:\n"
    "    def {name}_odd(x): return x - {number}\ndef {name}(x):\n    {before}return {name}_odd(x) + {more}",
}
