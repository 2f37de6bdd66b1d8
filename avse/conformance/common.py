"""Checks of every kind: the docstring, and the round trip through a recipe."""

from __future__ import annotations

import functools
import inspect
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avse.conformance.core import Check, CheckFailed, NotApplicable, build, contract_methods, expect
from avse.contracts.plugin import Plugin
from avse.docstrings import arguments_of, described_by


def documented(cls: type[Any]) -> None:
    """Fail unless the class has a docstring, each constructor argument is named, and its methods give shapes.

    An argument may be named in the docstring of a base class that states it.
    """
    expect(inspect.getdoc(cls) if cls.__doc__ else "", "the class has no docstring of its own")
    text = "\n".join(base.__doc__ or "" for base in described_by(cls) if issubclass(base, Plugin))
    names = [argument.name for argument in arguments_of(cls)]
    missing = [name for name in names if not re.search(rf"\b{re.escape(name)}\b", text)]
    expect(not missing, f"the docstring does not name the argument{'s' * (len(missing) > 1)} {', '.join(missing)}")
    for name in contract_methods(cls):
        described = inspect.getdoc(getattr(cls, name)) or ""
        expect(
            "shape" in described or re.search(r"\b(Batch|Estimate|[Ss]ee )", described),
            f"the docstring of {name} gives no shapes",
        )


def recipe_round_trip(cls: type[Any]) -> None:
    """Fail unless the example, written as a recipe, loads to the same class with the same arguments."""
    if not vars(cls).get("plugin_name"):
        raise NotApplicable("not registered, so that no recipe can name it")
    plugin = build(cls)
    call = _call_of(plugin)
    loaded = _load(_dump({"plugin": call}))["plugin"]
    expect(
        type(loaded) is cls,
        f"avse.plugins.{cls.plugin_kind}.{cls.plugin_name} leads to {type(loaded).__module__}."
        f"{type(loaded).__qualname__}",
    )
    arguments = _call_of(loaded).arguments
    differing = [name for name, value in call.arguments.items() if arguments.get(name) != value]
    expect(not differing, f"the recipe changed the arguments {', '.join(differing)}")
    if hasattr(plugin, "state_dict"):
        shapes = [{name: value.shape for name, value in p.state_dict().items()} for p in (plugin, loaded)]
        expect(shapes[0] == shapes[1], "the weights of the plugin from the recipe have other names or shapes")


@dataclass
class _Call:
    """A plugin as a recipe writes it: `!new:avse.plugins.KIND.NAME {arguments}`, or `!name:` for what builds one."""

    tag: str
    cls: type[Any]
    arguments: dict[str, Any]


def _call_of(plugin: Plugin, argument: str = "") -> _Call:
    return _call("!new:", type(plugin), plugin.config, argument)


def _call(tag: str, cls: type[Any], arguments: Mapping[str, Any], argument: str) -> _Call:
    subject = f"argument {argument}, a {cls.__name__}," if argument else "it"
    expect(vars(cls).get("plugin_name"), f"{subject} is not registered, so that no recipe can write it")
    return _Call(tag, cls, {name: _written(name, value) for name, value in arguments.items()})


def _written(name: str, value: Any) -> Any:
    """The value of an argument as a recipe writes it."""
    if isinstance(value, Plugin):
        return _call_of(value, name)
    if inspect.isclass(value):
        return _call("!name:", value, {}, name)
    if isinstance(value, functools.partial) and inspect.isclass(value.func):
        return _call("!name:", value.func, value.keywords, name)
    if isinstance(value, (list, tuple)):
        return [_written(name, item) for item in value]
    if isinstance(value, dict):
        return {str(key): _written(name, item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise CheckFailed(f"argument {name} of the example is a {type(value).__name__}, which no recipe can write")


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

    try:
        return hyperpyyaml.load_hyperpyyaml(io.StringIO(text), loader=type("Loader", (ruamel.yaml.Loader,), {}))
    except Exception as error:
        raise CheckFailed(f"the recipe\n{text}does not load: {type(error).__name__}: {error}") from error
    finally:  # HyperPyYAML changes these defaults, and restores them only if nothing fails
        for constructor in (yaml.constructor.BaseConstructor, ruamel.yaml.constructor.BaseConstructor):
            constructor.construct_object.__defaults__ = (False,)


DOCUMENTED = Check(
    "documented",
    documented,
    "the class docstring says what it is and names each argument; methods of the contract give shapes",
    "write the docstring as the contract's own does: what it is, `Arguments`, shapes with the axis names of "
    "avse.contracts.types; a method without a docstring inherits that of the contract",
)
RECIPE_ROUND_TRIP = Check(
    "recipe_round_trip",
    recipe_round_trip,
    "the example, written as `!new:avse.plugins.KIND.NAME {arguments}`, loads to the same class and arguments",
    "take keyword arguments that are numbers, strings, booleans, lists, mappings or registered plugins",
)
