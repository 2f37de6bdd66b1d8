"""Recipes: HyperPyYAML files that are checked as a whole before anything is built.

What is added to HyperPyYAML: recipes that include others (`include`), overrides that replace components instead of
merging them, and mistakes told with file, line, key and the nearest valid name. The resolved text of a recipe
(`Recipe.text`, `avse recipe cat`) is plain HyperPyYAML: `load_hyperpyyaml` loads it to the same objects.
"""

from avse.recipe.files import copy_recipe, recipes, resolved, title_of
from avse.recipe.recipe import Component, Recipe, check_trusted, load_recipe, load_trusted
from avse.recipe.report import check, explain

__all__ = [
    "Component",
    "Recipe",
    "check",
    "check_trusted",
    "copy_recipe",
    "explain",
    "load_recipe",
    "load_trusted",
    "recipes",
    "resolved",
    "title_of",
]
