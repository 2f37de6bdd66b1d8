"""Plugins under `data` are loaded by tests alone: pytest must not import them."""

collect_ignore_glob = ["data/*"]
