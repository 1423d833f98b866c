"""Says what a model is and can do, from what its own files say about it.

Rule: what the files do not say stays None; a capability is named only where the file itself shows it, because whatever
is named here may be asked of the model. GGUF's names are llama.cpp's, those of a `config.json`
the library transformers'.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from arbiter.fetch.gguf import Header

_FILE_TYPES: Final = (
    "F32", "F16", "Q4_0", "Q4_1", None, None, None, "Q8_0", "Q5_0", "Q5_1", "Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L",
    "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "IQ2_XXS", "IQ2_XS", "Q2_K_S", "IQ3_XS", "IQ3_XXS", "IQ1_S",
    "IQ4_NL", "IQ3_S", "IQ3_M", "IQ2_S", "IQ2_M", "IQ4_XS", "IQ1_M", "BF16", None, None, None, "TQ1_0", "TQ2_0",
    "MXFP4_MOE", "NVFP4", "Q1_0",
)  # fmt: skip
"""llama.cpp's `llama_ftype` by number; None where one was taken back."""

_TENSOR_TYPES: Final = (
    "F32", "F16", "Q4_0", "Q4_1", None, None, "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
    "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64",
    "F64", "IQ1_M", "BF16", None, None, None, "TQ1_0", "TQ2_0", None, None, None, "MXFP4", "NVFP4", "Q1_0",
)  # fmt: skip
"""ggml's types of tensors by number."""

_POOLING_NONE, _POOLING_RANK = 0, 4
"""llama.cpp's `llama_pooling_type`: neither makes embeddings."""

_ENCODERS = ("bert", "t5encoder", "gemma-embedding")
"""What ends the name of an architecture that makes vectors and no text."""

_NO_MODEL = frozenset({"clip", "imatrix", "controlvector", "adapter"})
"""Architectures of GGUF files that go with a model and are none."""

_SPDX: Mapping[str, str] = {
    name.lower(): name
    for name in (
        "AFL-3.0", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC-BY-2.0", "CC-BY-3.0", "CC-BY-4.0",
        "CC-BY-NC-2.0", "CC-BY-NC-3.0", "CC-BY-NC-4.0", "CC-BY-NC-ND-4.0", "CC-BY-NC-SA-4.0", "CC-BY-SA-3.0",
        "CC-BY-SA-4.0", "CC0-1.0", "ISC", "MIT", "MPL-2.0", "MS-PL", "Unlicense", "Zlib",
    )
}  # fmt: skip
"""Licences that hubs name in lower case, by that name; others keep the name they have."""

_THINKING = re.compile(r"<think>|enable_thinking|reasoning_content|<\|channel\|>|thinking")
_TOOLS = re.compile(r"\btools\b|\btool_calls?\b")

_WINDOWS = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length", "n_ctx")
"""Where a `config.json` says how many tokens fit, the usual name first."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found out about a model.

    Attributes:
        form: how the weights are stored: gguf, safetensors, or empty where that is not known.
        context_window: tokens in one request and its answer.
        parameters: how many numbers it has been trained to.
        quantization: how its weights are stored, such as Q4_K_M.
        family: the architecture, as the file names it.
        license: SPDX identifier where there is one.
        capabilities: what it can do; None where nothing says.
    """

    form: str = ""
    context_window: int | None = None
    parameters: int | None = None
    quantization: str | None = None
    family: str | None = None
    license: str | None = None
    capabilities: frozenset[str] | None = None

    def or_else(self, other: Findings) -> Findings:
        """Give these, and of others what these leave open; capabilities add up."""
        both = (self.capabilities or frozenset()) | (other.capabilities or frozenset())
        known = self.capabilities is not None or other.capabilities is not None
        return replace(
            self,
            form=self.form or other.form,
            context_window=self.context_window or other.context_window,
            parameters=self.parameters or other.parameters,
            quantization=self.quantization or other.quantization,
            family=self.family or other.family,
            license=self.license or other.license,
            capabilities=both if known else None,
        )


def from_gguf(header: Header) -> Findings:
    """Give what a GGUF header tells."""
    values = header.values
    architecture = _word(values.get("general.architecture"))
    template = "\n".join(str(value) for key, value in values.items() if key.startswith("tokenizer.chat_template"))
    return Findings(
        form="gguf",
        context_window=_positive(values.get(f"{architecture}.context_length")),
        parameters=_parameters_of(header),
        quantization=_quantization_of(header),
        family=architecture,
        license=spdx(_word(values.get("general.license"))),
        capabilities=_capabilities_of(header, architecture, template) if architecture else None,
    )


def is_no_model(header: Header) -> bool:
    """Say whether a GGUF file goes with a model and is none itself, such as the eyes of one that sees."""
    kind = str(header.values.get("general.type", "model"))
    return str(header.values.get("general.architecture")) in _NO_MODEL or kind in {"adapter", "mmproj", "imatrix"}


def from_template(template: str) -> frozenset[str]:
    """Give what a chat template shows: that the model chats, and what the template has places for."""
    found = {"chat"} if template.strip() else set()
    if _TOOLS.search(template):
        found.add("tools")
    if _THINKING.search(template):
        found.add("thinking")
    return frozenset(found)


def from_config(config: Mapping[str, Any], template: str, files: Iterable[str]) -> Findings:
    """Give what a repository in transformers' form tells: its `config.json`, chat template and names of files."""
    names = set(files)
    inner = config.get("text_config")
    text: Mapping[str, Any] = inner if isinstance(inner, dict) else {}
    window = next((found for name in _WINDOWS for part in (text, config) if (found := _positive(part.get(name)))), None)
    listed = config.get("architectures")
    architectures = [str(one) for one in listed] if isinstance(listed, list) else []
    capabilities = set(from_template(template))
    if any(one.endswith(("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")) for one in architectures):
        capabilities.add("completion")
    if "modules.json" in names:  # what sentence-transformers writes
        capabilities = {"embeddings"}
    if isinstance(config.get("vision_config"), dict):
        capabilities.add("vision")
    return Findings(
        form="safetensors" if any(name.endswith(".safetensors") for name in names) else "",
        context_window=window,
        quantization=_stored_as(config, text),
        family=_word(config.get("model_type")),
        capabilities=frozenset(capabilities) if capabilities else None,
    )


def spdx(name: str | None) -> str | None:
    """Give a licence's SPDX identifier where the name is one in other case."""
    return _SPDX.get(name.lower(), name) if name else None


def parameters_text(count: int) -> str:
    """Give a count of parameters as a LocalModel has it, such as 135M or 1.5B."""
    for unit, size in (("T", 10**12), ("B", 10**9), ("M", 10**6)):
        if count >= size:
            tenths = (count * 10 + size // 2) // size
            whole, rest = divmod(tenths, 10)
            return f"{whole}.{rest}{unit}" if rest and whole < 100 else f"{(tenths + 5) // 10}{unit}"
    return f"{max(1, (count + 500) // 1000)}K"


def _capabilities_of(header: Header, architecture: str, template: str) -> frozenset[str]:
    """Give what a GGUF file shows that it can do."""
    if is_no_model(header):
        return frozenset()
    pooling = header.values.get(f"{architecture}.pooling_type")
    if architecture.endswith(_ENCODERS) or (pooling is not None and pooling != _POOLING_NONE):
        return frozenset({"rerank" if pooling == _POOLING_RANK else "embeddings"})
    seen = {"vision"} if f"{architecture}.vision.block_count" in header.values else set()
    return frozenset({"completion"}) | seen | from_template(template)


def _parameters_of(header: Header) -> int | None:
    """Give the number of parameters: as the file says, else counted; a part of a split file cannot tell."""
    if said := _positive(header.values.get("general.parameter_count")):
        return said
    split = _positive(header.values.get("split.count")) or 1
    return header.weights if split == 1 and header.weights else None


def _quantization_of(header: Header) -> str | None:
    """Give how the weights are stored: as the file says, else as most of them are."""
    said = header.values.get("general.file_type")
    if isinstance(said, int) and 0 <= said < len(_FILE_TYPES) and (name := _FILE_TYPES[said]):
        return name
    if not header.kinds:
        return None
    most = max(header.kinds, key=lambda kind: (header.kinds[kind], -kind))
    return _TENSOR_TYPES[most] if most < len(_TENSOR_TYPES) else None


def _stored_as(config: Mapping[str, Any], text: Mapping[str, Any]) -> str | None:
    """Give how a `config.json` says that weights are stored."""
    quantized = config.get("quantization_config")
    if isinstance(quantized, dict) and (method := _word(quantized.get("quant_method"))):
        return method.upper()
    plain = config.get("dtype") or config.get("torch_dtype") or text.get("dtype") or text.get("torch_dtype")
    return {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}.get(str(plain))


def _positive(value: object) -> int | None:
    """Give a whole number above zero; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 62 else None


def _word(value: object) -> str | None:
    """Give a short text that fits on one line; None for anything else."""
    return value if isinstance(value, str) and 0 < len(value) <= 100 and value.isprintable() else None
