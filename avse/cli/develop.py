"""Verbs of who writes plugins and recipes: `new`, `check`, `plugins`, `recipe`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from avse.cli import options as say

_PANEL = "Develop"
app = typer.Typer()
recipe_app = typer.Typer(help="List, copy, explain or try out recipes.", no_args_is_help=True)
app.add_typer(recipe_app, name="recipe", rich_help_panel=_PANEL)
_verb = functools.partial(app.command, cls=say.Verb, rich_help_panel=_PANEL)
_Recipe = Annotated[str, typer.Argument(help="A file, or a name that `avse recipe ls` lists.")]
_recipe = functools.partial(recipe_app.command, cls=say.Verb)


@_verb()
def new(
    kind: Annotated[str, typer.Argument(help="A kind of plugin (fusion, prior, ...), or recipe.")],
    name: Annotated[str, typer.Argument(help="Such as my_fusion; of a recipe, the corpus.")],
    package: Annotated[
        bool, typer.Option("--package", help="Write a folder to install, with tests, in place of one file.")
    ] = False,
    output: Annotated[Path, say.output("Folder to write into.")] = Path("."),
    force: say.Force = False,
) -> None:
    """Write a plugin that already works, or a recipe for a corpus, to start from."""
    from avse.new import create

    created = create(kind, name, output, package=package, force=force)
    typer.echo(f"Written: {created.path}")
    for what, command in created.commands:
        typer.echo(f"\n{what}:\n    {command}")


@_verb()
def check(
    target: Annotated[
        list[str],
        typer.Argument(help="Files or folders of plugins, installed packages, kinds, or names such as fusion/concat."),
    ],
    only: Annotated[list[str] | None, typer.Option(help="Run this check only (may be given again).")] = None,
    json: say.Json = None,
    traceback: Annotated[bool, typer.Option("--traceback", help="Print where exceptions came from.")] = False,
    failures: Annotated[bool, typer.Option("--failures", help="Show only the checks that failed.")] = False,
) -> None:
    """Put plugins to the conformance checks of their kind; exit with 1 if any fails."""
    from avse.conformance.runner import check_plugins

    if not check_plugins(target, only=only, json_path=json, show_traceback=traceback, failures=failures):
        raise typer.Exit(1)


@_verb()
def plugins(
    what: Annotated[
        str, typer.Argument(help="A kind (fusion) or a plugin (fusion/concat).", metavar="KIND[/NAME]")
    ] = "",
) -> None:
    """List what can be swapped, or explain a kind or a plugin."""
    from avse.cli.printing import describe_plugins

    describe_plugins(what)


@_recipe(context_settings=say.FREE, options_metavar=say.OF_RECIPE)
def explain(context: typer.Context) -> None:
    """Print components, their arguments and defaults, and the plugins that could replace them."""
    from avse.cli.printing import print_explanation
    from avse.recipe import explain as run

    print_explanation(run(_load_recipe(context)))


@_recipe("check", context_settings=say.FREE, options_metavar=say.OF_RECIPE)
def check_recipe(
    context: typer.Context,
    key: Annotated[str, typer.Option(help="Which key to build.")] = "model",
) -> None:
    """Build the model and run it forward and backward on two short random clips."""
    from avse.cli.printing import print_check
    from avse.recipe import check as run

    print_check(run(_load_recipe(context), key))


@_recipe("ls")
def list_recipes() -> None:
    """List the recipes that come with avse; every command that takes a recipe takes these names as well."""
    from avse.recipe import recipes, title_of

    for name, path in recipes().items():
        typer.echo(f"{name:36} {title_of(path)}")


@_recipe("cat")
def print_recipe(recipe: _Recipe) -> None:
    """Print a recipe with all that it includes, as plain HyperPyYAML."""
    from avse.recipe import resolved

    typer.echo(resolved(recipe), nl=False)


@_recipe("cp")
def copy_recipe(
    recipe: _Recipe,
    target: Annotated[Path, typer.Argument(help="File or folder to write.")] = Path("."),
    force: say.Force = False,
) -> None:
    """Write a recipe with all that it includes to a file, to be changed."""
    from avse.recipe import copy_recipe as run

    typer.echo(run(recipe, target, force=force))


def _load_recipe(context: typer.Context) -> Any:
    from avse.recipe import load_recipe

    return load_recipe(*say.recipe_arguments(context))
