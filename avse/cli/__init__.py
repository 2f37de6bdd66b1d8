"""The `avse` command, a file for each group of verbs."""

from avse.cli.app import app, main

__all__ = ["app", "main"]
