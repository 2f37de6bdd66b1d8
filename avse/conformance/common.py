"""Checks of every kind: the docstring, and the way through a recipe."""

from __future__ import annotations

import functools
import inspect
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avse.conformance.core import Check, CheckFailed, NotApplicable, build, contract_methods, expect
from avse.contracts.plugin import Plugin


def documented(cls: type) -> None:
    """Fail unless the class says what it is, names each constructor argument, and its methods give shapes."""
    expect(cls.__doc__, "the class has no docstring of its own")
    explained = [*cls.__mro__, *filter(None, (getattr(base, "passes_to", None) for base in cls.__mro__))]
    text = "\n".join(base.__doc__ or "" for base in explained)
    parameters = [
        p for p in inspect.signature(cls).parameters.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    missing = [p.name for p in parameters if not re.search(rf"\b{re.escape(p.name)}\b", text)]
    expect(not missing, f"the docstring does not name the argument{'s' * (len(missing) > 1)} {', '.join(missing)}")
    for name in contract_methods(cls):
        described = inspect.getdoc(getattr(cls, name)) or ""
        expect(
            "shape" in described or re.search(r"\b(Batch|Estimate|[Ss]ee )", described),
            f"the docstring of {name} gives no shapes",
        )


def recipe_round_trip(cls: type) -> None:
    """Fail unless the example, written as a recipe, loads to the same class with the same arguments."""
    if not vars(cls).get("plugin_name"):
        raise NotApplicable("not registered, so that no recipe can name it")
    written = build(cls)
    loaded = _load(_dump({"plugin": _Call.of(written)}))["plugin"]
    expect(
        type(loaded) is cls,
        f"avse.plugins.{cls.plugin_kind}.{cls.plugin_name} leads to {type(loaded).__module__}."
        f"{type(loaded).__qualname__}",
    )
    given, got = (_plain(_Call.of(one)) for one in (written, loaded))
    differing = [name for name in {**given[2], **got[2]} if given[2].get(name) != got[2].get(name)]
    expect(not differing, f"the arguments {', '.join(differing)} came out of the recipe as others")
    if hasattr(written, "state_dict"):
        shapes = [{name: tuple(value.shape) for name, value in one.state_dict().items()} for one in (written, loaded)]
        expect(shapes[0] == shapes[1], "the weights of the plugin from the recipe have other names or shapes")


class _Call:
    """A plugin as a recipe writes it: `!new:avse.plugins.KIND.NAME {arguments}`, or `!name:` for what builds one."""

    def __init__(self, tag: str, cls: type, arguments: Mapping[str, Any], name: str = "") -> None:
        of = f"argument {name}, a {cls.__name__}," if name else "it"
        expect(vars(cls).get("plugin_name"), f"{of} is not registered, so that no recipe can write it")
        self.tag, self.cls = tag, cls
        self.arguments = {key: self._value(key, value) for key, value in arguments.items()}

    @classmethod
    def of(cls, plugin: Plugin, name: str = "") -> _Call:
        """The call that built a plugin."""
        return cls("!new:", type(plugin), plugin.config, name)

    def _value(self, name: str, value: Any) -> Any:
        if isinstance(value, Plugin):
            return _Call.of(value, name)
        if inspect.isclass(value):
            return _Call("!name:", value, {}, name)
        if isinstance(value, functools.partial):
            return _Call("!name:", value.func, value.keywords, name)
        if isinstance(value, (list, tuple)):
            return [self._value(name, one) for one in value]
        if isinstance(value, dict):
            return {str(key): self._value(name, one) for key, one in value.items()}
        if isinstance(value, Path):
            return str(value)
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise CheckFailed(f"argument {name} of the example is a {type(value).__name__}, which no recipe can write")


def _plain(value: Any) -> Any:
    """Calls as (tag, class, arguments), to be compared."""
    if isinstance(value, _Call):
        return value.tag, value.cls, {name: _plain(one) for name, one in value.arguments.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value


def _dump(recipe: dict[str, Any]) -> str:
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def represent(dumper: yaml.SafeDumper, call: _Call) -> yaml.Node:
        tag = f"{call.tag}avse.plugins.{call.cls.plugin_kind}.{call.cls.plugin_name}"
        return dumper.represent_mapping(tag, call.arguments)

    Dumper.add_representer(_Call, represent)
    return yaml.dump(recipe, Dumper=Dumper, sort_keys=False)


def _load(text: str) -> dict[str, Any]:
    import hyperpyyaml
    import ruamel.yaml
    import yaml

    constructors = (yaml.constructor.BaseConstructor, ruamel.yaml.constructor.BaseConstructor)
    try:
        return hyperpyyaml.load_hyperpyyaml(io.StringIO(text), loader=type("Loader", (ruamel.yaml.Loader,), {}))
    except Exception as error:
        raise CheckFailed(f"the recipe\n{text}does not load: {type(error).__name__}: {error}") from error
    finally:  # HyperPyYAML changes these and puts them back only where nothing goes wrong
        for one in constructors:
            one.construct_object.__defaults__ = (False,)


DOCUMENTED = Check(
    "documented",
    documented,
    "the class docstring says what it is and names each argument; methods of the contract give shapes",
    "write the docstring as the contract's own does: what it is, `Arguments`, shapes with the axis names of "
    "avse.contracts.types; a method without a docstring takes over the contract's",
)
RECIPE_ROUND_TRIP = Check(
    "recipe_round_trip",
    recipe_round_trip,
    "the example, written as `!new:avse.plugins.KIND.NAME {arguments}`, loads to the same class and arguments",
    "take keyword arguments that are numbers, strings, booleans, lists, mappings or registered plugins",
)
