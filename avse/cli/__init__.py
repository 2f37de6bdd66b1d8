"""The `avse` command, a file for each group of verbs; `app` puts them together."""

from avse.compatibility import old_names

__getattr__ = old_names(__name__)
