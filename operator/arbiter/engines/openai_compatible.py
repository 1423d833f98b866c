"""Servers of which nothing is known but that they have an OpenAI interface."""

from __future__ import annotations

from arbiter.engines.base import OPENAI_FIELDS, EngineDescription

CUSTOM = EngineDescription(fields=OPENAI_FIELDS)
"""An image that a person brings."""

EXTERNAL = EngineDescription(fields=OPENAI_FIELDS)
"""A server that already runs elsewhere."""
