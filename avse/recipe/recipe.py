"""Reading a recipe, and what it then can do."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml.nodes import MappingNode, ScalarNode

from avse import plugins as registry
from avse.compatibility import OldName
from avse.errors import AvseError
from avse.recipe.build import load_tree
from avse.recipe.files import find_recipe, plugin_paths, read_tree
from avse.recipe.overrides import apply_overrides
from avse.recipe.renamed import put_right
from avse.recipe.rules import component, find_faults, placeholders, plugin_of
from avse.recipe.tree import (
    Tree,
    as_text,
    children,
    copy_node,
    dotted,
    read_text,
    references,
    refuse,
    split_reference,
    where,
)
from avse.recipe.trust import unregistered, untrusted


@dataclass(frozen=True)
class Component:
    """A component of a recipe.

    Arguments
    ---------
    key : str
        Dotted path, as an override writes it.
    kind, name : str
        Of the plugin; `kind` is empty where the component is another class or function, `name` then its dotted name.
    arguments : dict of str to str
        What the recipe gives, as YAML text.
    place : str
        `file:line`.
    """

    key: str
    kind: str
    name: str
    arguments: dict[str, str] = field(default_factory=dict)
    place: str = ""


class Recipe:
    """A recipe that has passed its checks. Made by `load_recipe`.

    Attributes
    ----------
    path : Path
        The file it was read from.
    tree : Tree
        Its nodes.
    """

    def __init__(self, tree: Tree, path: Path, trusted_only: bool = False) -> None:
        self.path, self.tree, self._trusted_only = path, tree, trusted_only

    @property
    def text(self) -> str:
        """The recipe as YAML text, overrides included; loads again to the same."""
        return self.tree.dump()

    @functools.cached_property
    def values(self) -> dict[str, Any]:
        """What the keys stand for, built when first asked for."""
        return self.build()

    @property
    def keys(self) -> list[str]:
        """Top-level keys, in order; those that HyperPyYAML leaves out (`__set_seed`) are left out."""
        return [key for key, _ in children(self.tree.root) if not key.startswith("__")]

    def __getitem__(self, key: str) -> Any:
        """One of `values`."""
        if key not in self.keys:
            raise AvseError(f"{self.path}: {registry.unknown('key', key, self.keys)}")
        return self.values[key]

    def scalar(self, key: str) -> Any:
        """The value of one key, without building the others (the seed, before anything draws from it)."""
        return self.build(key)[key]

    def build(self, *keys: str) -> dict[str, Any]:
        """Build everything anew, or only some top-level keys with what they refer to.

        Returns
        -------
        dict
            The keys asked for (all, if none) and what was built.

        Raises
        ------
        AvseError
            If a placeholder was not given, a key is missing, or a constructor refuses its arguments.
        """
        tree = self.tree if not keys else Tree(self._needed(keys), self.tree.name)
        missing = [f"{where(node)}: {dotted(path)}: give --{dotted(path)} VALUE" for path, node in placeholders(tree)]
        refuse(f"{self.path}: values are missing", missing)
        values = load_tree(tree, self._trusted_only)
        return {key: values[key] for key in keys} if keys else values

    def components(self) -> list[Component]:
        """Every component, nested ones included, in the order of the file."""
        found = []
        for path, node in self.tree.walk():
            called = component(node)
            if called and not path[0].startswith("__"):
                kind, name = plugin_of(called[1]) or ("", called[1])
                arguments = {argument: as_text(value) for argument, value in children(node)}
                found.append(Component(dotted(path), kind, name, arguments, where(node)))
        return found

    def placeholders(self) -> list[str]:
        """Dotted keys that still must be given."""
        return [dotted(path) for path, _ in placeholders(self.tree)]

    def subrecipe(self, key: str) -> str:
        """The recipe of one key alone, with the keys it refers to, as it is stored beside a model's weights.

        Raises
        ------
        AvseError
            If it holds anything that `check_trusted` refuses.

        Example
        -------
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "recipe.yaml"
        >>> _ = path.write_text("dim: 4\\nepochs: 3\\nfusion: !new:avse.plugins.fusion.none\\n"
        ...     "    audio_dim: !ref <dim>\\n    video_dim: 2\\n")
        >>> print(load_recipe(path).subrecipe("fusion"), end="")
        dim: 4
        fusion: !new:avse.plugins.fusion.none
            audio_dim: !ref <dim>
            video_dim: 2
        """
        tree = Tree(self._needed([key]), self.tree.name)
        refuse(f"{self.path}: {key} cannot be stored as a model", untrusted(tree))
        return tree.dump()

    def _needed(self, keys: Sequence[str]) -> MappingNode:
        """Top-level keys and all that they refer to, without comments, in the recipe's order."""
        needed: set[str] = set()
        waiting = list(keys)
        while waiting:
            key = waiting.pop()
            node = self.tree.find((key,))
            if node is None:
                raise AvseError(f"{self.path}: {registry.unknown('key', key, self.keys)}")
            if key not in needed:
                needed.add(key)
                below = Tree(MappingNode(self.tree.root.ctag, [(ScalarNode(node.ctag, key), node)]), "")
                waiting += [split_reference(r)[0][0] for _, one in below.walk() for r in references(one)]
        root = self.tree.root
        pairs = [(copy_node(k), copy_node(v)) for k, v in root.value if k.value in needed]
        return MappingNode(root.ctag, pairs, root.start_mark, root.end_mark, flow_style=False)


def load_recipe(
    path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    plugins: Sequence[str | Path] | None = None,
) -> Recipe:
    """Read a recipe, apply overrides, load its plugins, and check it. Nothing is built yet.

    Arguments
    ---------
    path : path
        A HyperPyYAML file, or the name of a recipe that comes with `avse` (see `avse.recipe.recipes`). Its key
        `include` names recipes whose keys it takes over and changes (see `avse.recipe.files.read_tree`), its key
        `plugins` (a path or a list of paths relative to the file) files or folders of plugins to load first.
    overrides : mapping, optional
        `{"fusion": "cross_attention", "fusion.heads": 4, "epochs": 5}`. Strings are read as YAML. A name for a
        component replaces it and keeps the arguments that both take.
    plugins : sequence of path, optional
        Further files or folders of plugins; the recipe's key `plugins` names them from then on.

    Returns
    -------
    Recipe
        Placeholders may be left; `build` asks for them.

    Raises
    ------
    AvseError
        With everything that is wrong, each with file:line and key.

    Example
    -------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "recipe.yaml"
    >>> _ = path.write_text("fusion: !new:avse.plugins.fusion.concat {audio_dim: 4, video_dim: 2}\\n")
    >>> type(load_recipe(path, {"fusion": "film"}).values["fusion"]).__name__
    'FiLM'
    """
    path = find_recipe(path)
    given = [str(Path(source).expanduser().resolve()) for source in plugins or ()]
    for source in given:
        registry.load_path(source)
    tree = read_tree(path)
    named = plugin_paths(tree)
    if set(given) - set(named):  # kept in the recipe, so that its text loads again by itself
        if tree.find(("plugins",)) is None:
            tree.root.value += Tree.parse("plugins: []", "--plugins").root.value
        apply_overrides(tree, {"plugins": list(dict.fromkeys([*given, *named]))})
    apply_overrides(tree, overrides or {})
    refuse(str(path), find_faults(tree))
    return Recipe(tree, path)


def load_trusted(path: str | Path, overrides: Mapping[str, Any] | None = None, *, old: bool = False) -> Recipe:
    """Read a recipe from elsewhere (a downloaded model): only registered plugins, plain values and references.

    Overrides are held to the same rules; see `check_trusted`, and `load_recipe` for the rest. Old names are not warned
    of in a recipe that an older version wrote (`old`).
    """
    path = Path(path)
    text = read_text(path)
    check_trusted(text, path)
    tree = Tree.parse(text, str(path))
    with warnings.catch_warnings():
        if old:
            warnings.simplefilter("ignore", OldName)
        put_right(tree)
    apply_overrides(tree, overrides or {})
    refuse(str(path), untrusted(tree) or find_faults(tree))
    return Recipe(tree, path, trusted_only=True)


def check_trusted(text: str, path: str | Path) -> None:
    """Refuse a recipe that could do anything but build registered plugins: names every line. Runs nothing of it.

    Example
    -------
    >>> check_trusted("model: !new:os.system [echo]", "recipe.yaml")
    Traceback (most recent call last):
    ...
    avse.errors.AvseError: recipe.yaml: this recipe is not safe to run:
      recipe.yaml:1: model: !new:os.system is refused: a recipe from elsewhere may only build registered plugins.
    """
    if "\n%" in f"\n{text}":
        raise AvseError(f"{path}: YAML directives (%) are refused in a recipe from elsewhere.")
    tree = Tree.parse(text, str(path))
    faults = untrusted(tree)
    missing = unregistered(tree) if faults else []
    if missing and len(faults) == len(missing):
        raise AvseError(
            f"{path}: needs plugins that are not there: {', '.join(dict.fromkeys(missing))}. Load the file that has "
            "them with --plugins FILE, or install its package. `avse plugins` says what went wrong with others."
        )
    refuse(f"{path}: this recipe is not safe to run", faults)
