"""Makes GGUF files for tests, as small as they can be."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

TEMPLATE = "{% if tools %}{{ tools }}{% endif %}{{ messages }}"


def gguf(
    values: Mapping[str, object],
    tensors: Mapping[str, tuple[int, ...]] | None = None,
    *,
    version: int = 3,
    kind: int = 12,
) -> bytes:
    """Give a header: texts, whole numbers, truth values and lists of texts by key, and the tensors' shapes by name."""
    parts = [b"GGUF", struct.pack("<IQQ", version, len(tensors or {}), len(values))]
    for key, value in values.items():
        parts.append(text(key))
        if isinstance(value, bool):
            parts.append(struct.pack("<I?", 7, value))
        elif isinstance(value, int):
            parts.append(struct.pack("<II", 4, value))
        elif isinstance(value, str):
            parts.append(struct.pack("<I", 8) + text(value))
        elif isinstance(value, list):
            parts.append(struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value)))
    for name, shape in (tensors or {}).items():
        parts.append(text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, 0))
    return b"".join(parts)


def text(value: str) -> bytes:
    """Give a text with its length before it."""
    encoded = value.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def model(size: int = 0, /, **values: object) -> bytes:
    """Give a whole model that chats and uses tools, with weights of so many bytes behind the header."""
    said: dict[str, object] = {
        "general.architecture": "llama",
        "general.license": "apache-2.0",
        "general.file_type": 15,
        "llama.context_length": 8192,
        "tokenizer.ggml.tokens": [f"token {number}" for number in range(1000)],
        "tokenizer.chat_template": TEMPLATE,
    }
    header = gguf(said | {name.replace("__", "."): value for name, value in values.items()}, {"w": (1000, 7000)})
    return header + bytes(number * 7 % 251 for number in range(size))
