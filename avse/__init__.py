"""`avse`: audio-visual speech enhancement, one modular toolkit."""

from __future__ import annotations

__version__ = "0.1.0"
