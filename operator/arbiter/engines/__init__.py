"""Describes what each kind of model server understands and what its answers tell.

Pure: nothing here sends anything. The router asks which requests and fields a server takes; later parts ask how one
is started, watched and emptied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arbiter.api.localmodel import EngineType
from arbiter.engines.llamacpp import LLAMACPP
from arbiter.engines.ollama import OLLAMA
from arbiter.engines.openai_compatible import CUSTOM, EXTERNAL
from arbiter.engines.vllm import VLLM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arbiter.engines.base import EngineDescription

ENGINES: Mapping[EngineType, EngineDescription] = {
    EngineType.Ollama: OLLAMA,
    EngineType.LlamaCpp: LLAMACPP,
    EngineType.VLLM: VLLM,
    EngineType.Custom: CUSTOM,
    EngineType.External: EXTERNAL,
}
"""Every kind of model server."""
