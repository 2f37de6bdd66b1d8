"""The `avse` command, a file for each group of verbs; `app` puts them together."""
