"""What is generated is tried in the registry and taken out of it again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from avse import plugins


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for kind in plugins.KINDS:
        plugins.names(kind)
    monkeypatch.setattr(plugins, "_REGISTRY", {kind: dict(found) for kind, found in plugins._REGISTRY.items()})
    monkeypatch.setattr(plugins, "_PROBLEMS", list(plugins._PROBLEMS))
    yield
