"""Recipes: HyperPyYAML files that are checked as a whole before anything is built.

A recipe that loads here loads with `load_hyperpyyaml` to the same objects. What is added: overrides that replace
components instead of merging them, and mistakes told with file, line, key and the nearest valid name.
"""

from avse.recipe.recipe import Component, Recipe, check_trusted, load_recipe, load_trusted
from avse.recipe.report import check, explain

__all__ = ["Component", "Recipe", "check", "check_trusted", "explain", "load_recipe", "load_trusted"]
