"""Files of recipes: what one includes, and the recipes that come with `avse`."""

from __future__ import annotations

import os
from pathlib import Path

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode
from ruamel.yaml.tag import Tag

from avse import plugins
from avse.errors import AvseError
from avse.files import check_apart, shipped_folder, write_text
from avse.recipe.overrides import extend
from avse.recipe.renamed import put_right
from avse.recipe.rules import find_faults
from avse.recipe.tree import Tree, children, read_text, refuse, tag, where

INCLUDE = "include"


def read_tree(path: Path) -> Tree:
    """Read a recipe with all that it includes, as one tree that needs no other file.

    The key `include` names one recipe or a list of them, each relative to the file, or to the recipes that come with
    `avse`. They are read in order, the file itself last, and each adds to and changes what was read before: see
    `avse.recipe.overrides.extend`. Every node keeps the file and line it was read from.

    Raises
    ------
    AvseError
        If a file cannot be read, includes itself, or changes a key that is not there.
    """
    *included, own = _read(path, ())
    if not included:
        return own
    root = own.root
    empty = MappingNode(root.ctag, [], root.start_mark, root.end_mark, flow_style=False, comment=root.comment)
    result = Tree(empty, str(path))
    for tree in (*included, own):
        extend(result, tree)
    return result


def _read(path: Path, trail: tuple[Path, ...]) -> list[Tree]:
    """The trees of what a recipe includes, in order, and its own."""
    tree = Tree.parse(read_text(path), str(path))
    _absolute_paths(tree, path)
    for source in plugin_paths(tree):
        try:
            plugins.load_path(source)
        except AvseError as error:
            hint = f"Paths under `plugins:` are relative to {path.resolve().parent}."
            raise AvseError(f"{path}: plugins: {error} {hint}") from error
    put_right(tree)
    node = tree.find((INCLUDE,))
    if node is None:
        return [tree]
    tree.root.value = [(key, value) for key, value in tree.root.value if key.value != INCLUDE]
    trees = []
    for name in _listed(node):
        file = _included(name, path)
        if file in (*trail, path):
            raise AvseError(f"{where(name)}: {INCLUDE}: {name.value} includes this file.")
        trees += _read(file, (*trail, path))
    return [*trees, tree]


def recipes() -> dict[str, Path]:
    """The recipes that come with `avse`, by name: `Manifest/av_vae` is `Manifest/hparams/av_vae.yaml`.

    Example
    -------
    >>> "Synthetic/tf_masker" in recipes()
    True
    """
    folder = recipes_folder()
    paths = sorted(folder.rglob("hparams/*.yaml"))
    return {f"{path.parent.parent.relative_to(folder).as_posix()}/{path.stem}": path for path in paths}


def title_of(path: Path) -> str:
    """The first line of a recipe's comment."""
    first = read_text(path).partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def recipes_folder() -> Path:
    """The folder of the recipes that come with `avse`."""
    return shipped_folder("recipes", "base")


def find_recipe(name: str | Path) -> Path:
    """The file of a recipe: a path, or the name of a recipe that comes with `avse`."""
    path = Path(name).expanduser()
    if path.exists() or path.suffix in (".yaml", ".yml"):
        return path
    if str(name) in recipes():
        return recipes()[str(name)]
    raise AvseError(f"{path}: no such file. {plugins.unknown('recipe', str(name), recipes())}")


def resolved(name: str | Path) -> str:
    """The text of a recipe with all that it includes; `load_hyperpyyaml` loads it, and it needs no other file."""
    return read_tree(find_recipe(name)).dump()


def copy_recipe(name: str | Path, target: str | Path = ".", *, force: bool = False) -> Path:
    """Write the resolved text of a recipe to a file or folder.

    Arguments
    ---------
    name : str or path
    target : path
        A file to write, or a folder that gets a file of the recipe's name.
    force : bool
        Replace a file that is there already.

    Returns
    -------
    Path
        What was written.

    Raises
    ------
    AvseError
        If the recipe is unknown, or the file is there already.
    """
    text, target = resolved(name), Path(target).expanduser()
    if target.is_dir() or not target.suffix:
        target = target / find_recipe(name).name
    if target.exists() and not force:
        raise AvseError(f"{target}: is there already. Choose another name, or give --force to replace it.")
    check_apart([find_recipe(name)], [target])
    write_text(target, text)
    return target


def plugin_paths(tree: Tree) -> list[str]:
    """What the key `plugins` names."""
    return [node.value for node in _plugin_nodes(tree)]


def _plugin_nodes(tree: Tree) -> list[ScalarNode]:
    node = tree.find(("plugins",))
    if node is None or tag(node):
        return []
    return [path for path in _listed(node) if isinstance(path, ScalarNode) and not tag(path)]


def _listed(node: Node) -> list[Node]:
    """The elements of a list; a single value stands for a list of one."""
    return [node] if isinstance(node, ScalarNode) else [value for _, value in children(node)]


def _included(name: Node, path: Path) -> Path:
    if not isinstance(name, ScalarNode) or tag(name):
        raise AvseError(f"{where(name)}: {INCLUDE}: name a recipe file, or a list of them.")
    places = [path.parent / Path(name.value).expanduser(), recipes_folder() / name.value]
    for file in places:
        if file.is_file():
            return Path(os.path.normpath(file))
    raise AvseError(f"{where(name)}: {INCLUDE}: there is no file {name.value} in {path.parent} or {recipes_folder()}.")


def _absolute_paths(tree: Tree, path: Path) -> None:
    """Write paths relative to a recipe as absolute ones, so that its text can be stored elsewhere."""
    folder = path.resolve().parent
    for source in _plugin_nodes(tree):
        source.value = str(folder / Path(source.value).expanduser())
    for _, node in tree.walk():
        if tag(node).startswith("!include:"):
            file = folder / tag(node).removeprefix("!include:")
            included = Tree.parse(read_text(file), str(file))
            refuse(f"{file} (included at {where(node)})", find_faults(included))
            node.ctag = Tag(suffix=f"!include:{file}")
