"""Where a model comes from: every form that means something, and what is said of those that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.api.localmodel import LocalModelSpec
from arbiter.engines.sources import (
    ClaimSource,
    ExternalSource,
    HttpsSource,
    HubSource,
    OciSource,
    OllamaSource,
    file_of,
    parse_source,
    pinned,
    read_source,
)
from arbiter.errors import InvalidInputError

if TYPE_CHECKING:
    from arbiter.engines.sources import Source

DIGEST = f"sha256:{'a' * 64}"
COMMIT = "0123456789abcdef0123456789abcdef01234567"

GOOD: list[tuple[str, Source]] = [
    ("ollama://smollm2:135m", OllamaSource("smollm2", "135m")),
    ("ollama://library/smollm2:135m", OllamaSource("smollm2", "135m")),
    ("ollama://me/mine:1", OllamaSource("mine", "1", "me")),
    ("ollama://hub.example/me/mine:1", OllamaSource("mine", "1", "me", "hub.example")),
    ("ollama://hub.example/mine:1", OllamaSource("mine", "1", "library", "hub.example")),
    ("ollama://localhost:5000/mine:1", OllamaSource("mine", "1", "library", "localhost:5000")),
    ("ollama://10.0.0.1:5000/a/b:1", OllamaSource("b", "1", "a", "10.0.0.1:5000")),
    ("ollama://hf.co/org/Model-GGUF:Q4_K_M", OllamaSource("Model-GGUF", "Q4_K_M", "org", "hf.co")),
    ("oci://registry.example/m:1", OciSource("registry.example/m", "1")),
    ("oci://registry.example/m", OciSource("registry.example/m")),
    ("oci://registry.example:5000/a/b/m:1", OciSource("registry.example:5000/a/b/m", "1")),
    (f"oci://r.example/m@{DIGEST}", OciSource("r.example/m", None, DIGEST)),
    (f"oci://r.example/m:1@{DIGEST}", OciSource("r.example/m", None, DIGEST)),
    ("oci://r.example/m:1#/model.gguf", OciSource("r.example/m", "1", None, "model.gguf")),
    ("oci://r.example/m:1#a/b c.gguf", OciSource("r.example/m", "1", None, "a/b c.gguf")),
    ("oci://arbiter.local/arbiter-model-smollm2:0.1.2", OciSource("arbiter.local/arbiter-model-smollm2", "0.1.2")),
    ("hf://Qwen/Qwen3-8B", HubSource("Qwen/Qwen3-8B")),
    ("hf://Qwen/Qwen3-8B@v1", HubSource("Qwen/Qwen3-8B", None, "v1")),
    ("hf://Qwen/Qwen3-8B@main", HubSource("Qwen/Qwen3-8B")),
    ("hf://Qwen/Qwen3-8B-GGUF/a/b.gguf", HubSource("Qwen/Qwen3-8B-GGUF", "a/b.gguf")),
    (f"hf://Qwen/Q/b.gguf@{COMMIT}", HubSource("Qwen/Q", "b.gguf", COMMIT)),
    ("https://files.example/m.gguf", HttpsSource("https://files.example/m.gguf", "m.gguf")),
    ("https://f.example:8443/a/m.gguf?x=1", HttpsSource("https://f.example:8443/a/m.gguf?x=1", "a/m.gguf")),
    ("pvc://models/m.gguf", ClaimSource("models", "m.gguf")),
    ("pvc://models.v1/a/b", ClaimSource("models.v1", "a/b")),
]

BAD: list[tuple[str, str]] = [
    ("", "must be ollama://name:tag"),
    ("smollm2:135m", "must be ollama://name:tag"),
    ("s3://bucket/m.gguf", "must be ollama://name:tag"),
    ("http://files.example/m.gguf", "must be ollama://name:tag"),
    ("OLLAMA://smollm2:135m", "must be ollama://name:tag"),
    ("ollama:smollm2:135m", "must be ollama://name:tag"),
    ("ollama://smollm2", "the tag is not optional"),
    ("ollama://smollm2:", "the tag is not optional"),
    ("ollama://:135m", "at most 80"),
    ("ollama://a/b/c/d:1", "ollama://namespace/name:tag"),
    ("ollama:///smollm2:1", "each of letters"),
    ("ollama://smol lm2:1", "each of letters"),
    ("ollama://-smollm2:1", "each of letters"),
    ("ollama://me/mi.ne:1:2", "each of letters"),
    (f"ollama://{'a' * 81}:1", "at most 80"),
    ("ollama://host:99999/a/b:1", "ollama://namespace/name:tag"),
    ("ollama://host:0/a/b:1", "ollama://namespace/name:tag"),
    ("ollama://a..b/c/d:1", "ollama://namespace/name:tag"),
    ("ollama://smollm2:1 ", "no spaces at its ends"),
    ("ollama://smollm2:1\n", "no spaces at its ends"),
    ("ollama://smol\x00lm2:1", "no control characters"),
    ("oci://m:1", "oci://registry/image:tag"),
    ("oci://registry.example", "oci://registry/image:tag"),
    ("oci://Registry.example/m:1", "in lower case"),
    ("oci://registry.example/M:1", "in lower case"),
    ("oci://registry.example/m@sha256:abc", "64 hexadecimal digits"),
    (f"oci://registry.example/m@sha512:{'a' * 64}", "64 hexadecimal digits"),
    ("oci://registry.example/m:", "oci://registry/image:tag"),
    ("oci://registry.example//m:1", "oci://registry/image:tag"),
    ("oci://registry.example:70000/m:1", "oci://registry/image:tag"),
    ("oci://registry.example/m:1#", "the path behind # is empty"),
    ("oci://registry.example/m:1#/", "the path behind # is empty"),
    ("oci://registry.example/m:1#/../etc/passwd", "'.' or '..'"),
    ("oci://registry.example/m:1#a//b", "holds an empty part"),
    ("hf://Qwen", "hf://organisation/repository"),
    ("hf://Qwen/", "hf://organisation/repository"),
    ("hf:///Qwen3", "hf://organisation/repository"),
    ("hf://Qwen/Qwen3@", "the revision is a branch"),
    ("hf://Qwen/Qwen3@a/b", "the revision is a branch"),
    ("hf://Qwen/Qwen3@a@b", "the revision is a branch"),
    ("hf://Qwen/Qwen3/", "the file in the repository is empty"),
    ("hf://Qwen/Qwen3/../other/m.gguf", "'.' or '..'"),
    ("hf://Qwen/Qwen3/a b.gguf", "a file's name is of"),
    ("hf://../Qwen3", "hf://organisation/repository"),
    ("https://files.example", "is empty"),
    ("https://files.example/", "is empty"),
    ("https:///m.gguf", "the name of a host"),
    ("https://user:secret@files.example/m.gguf", "no user name or password"),
    ("https://files.example/m.gguf#a", "without #"),
    ("https://files.example/a b.gguf", "write them as %20"),
    ("https://files.example/../m.gguf", "'.' or '..'"),
    ("https://files_example/m.gguf", "the name of a host"),
    ("pvc://models", "pvc://claim/path"),
    ("pvc:///m.gguf", "pvc://claim/path"),
    ("pvc://Models/m.gguf", "pvc://claim/path"),
    ("pvc://models/", "the path in the claim is empty"),
    ("pvc://models/../secret", "'.' or '..'"),
    ("pvc://models/a//b", "holds an empty part"),
    ("pvc://models/a/", "holds an empty part"),
]


@pytest.mark.parametrize(("text", "want"), GOOD, ids=[text for text, _ in GOOD])
def test_a_source_is_read_as_its_parts(text: str, want: Source) -> None:
    """What it is written back as means the same."""
    assert parse_source(text) == want
    assert parse_source(want.uri) == want


@pytest.mark.parametrize(("text", "want_words"), BAD, ids=[ascii(text)[:60] for text, _ in BAD])
def test_what_means_nothing_is_refused_with_what_would_be_right(text: str, want_words: str) -> None:
    """The field comes first, then the form."""
    with pytest.raises(InvalidInputError) as caught:
        parse_source(text)
    assert caught.value.field == "spec.source"
    assert caught.value.problem.startswith("must ")
    assert want_words in caught.value.problem


@given(st.text(max_size=60))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    """No other error leaves the parser, and what it accepts it can write back."""
    for scheme in ("ollama", "oci", "hf", "https", "pvc"):
        try:
            source = parse_source(f"{scheme}://{text}")
        except InvalidInputError:
            continue
        assert parse_source(source.uri) == source


@pytest.mark.parametrize(
    ("source", "want"),
    [
        ("ollama://smollm2:135m", "smollm2:135m"),
        ("ollama://me/mine:1", "me/mine:1"),
        ("ollama://hub.example/mine:1", "hub.example/library/mine:1"),
    ],
)
def test_ollama_is_asked_by_the_shortest_whole_name(source: str, want: str) -> None:
    """It shows models by that name, so they are found by it."""
    parsed = parse_source(source)
    assert isinstance(parsed, OllamaSource)
    assert parsed.reference == want


@pytest.mark.parametrize(
    ("source", "digest", "want"),
    [
        pytest.param("oci://r.example/m:1#/a", DIGEST, f"oci://r.example/m@{DIGEST}#/a", id="an image"),
        pytest.param("oci://r.example/m:1", "file:abc", "oci://r.example/m:1", id="not a manifest's digest"),
        pytest.param("hf://a/b/c.gguf@main", COMMIT, f"hf://a/b/c.gguf@{COMMIT}", id="a file of a repository"),
        pytest.param("hf://a/b", COMMIT, f"hf://a/b@{COMMIT}", id="a repository"),
        pytest.param("hf://a/b", DIGEST, "hf://a/b", id="not a commit"),
        pytest.param("ollama://a:b", DIGEST, "ollama://a:b", id="nothing can be asked for by it"),
        pytest.param("pvc://a/b", DIGEST, "pvc://a/b", id="a claim holds one content"),
        pytest.param("oci://r.example/m:1", None, "oci://r.example/m:1", id="not resolved"),
    ],
)
def test_a_resolved_source_is_asked_for_as_it_was_resolved(source: str, digest: str | None, want: str) -> None:
    """What a tag means tomorrow is another revision."""
    assert pinned(parse_source(source), digest).uri == want


@pytest.mark.parametrize(
    ("source", "want"),
    [
        ("hf://a/b/c.gguf", "c.gguf"),
        ("hf://a/b", None),
        ("oci://r.example/m:1#/a/b", "a/b"),
        ("oci://r.example/m:1", None),
        ("https://f.example/m.gguf?a", "m.gguf"),
        ("pvc://a/b", "b"),
        ("ollama://a:b", None),
    ],
)
def test_some_sources_name_a_file(source: str, want: str | None) -> None:
    """Others name more than one, or leave it to the scheme."""
    assert file_of(parse_source(source)) == want


def spec(**fields: Any) -> LocalModelSpec:  # noqa: ANN401  as in a manifest
    """Build a spec as the manifest has it; the API server's rules are not asked."""
    return LocalModelSpec.model_validate(fields)


def test_an_external_server_is_a_source_of_its_own() -> None:
    """Its model goes by the LocalModel's name unless another one is given."""
    address = "http://mac.example:11434/"
    plain = read_source("mac", spec(external={"url": address}))
    assert plain == ExternalSource("http://mac.example:11434", "mac")
    assert plain.uri == "http://mac.example:11434#mac"
    named = read_source("mac", spec(external={"url": address, "model": "qwen3:30b", "keySecret": "mac-key"}))
    assert named == ExternalSource("http://mac.example:11434", "qwen3:30b", "mac-key")
    assert file_of(named) is None
    assert pinned(named, DIGEST) == named


@pytest.mark.parametrize(
    "url", ["https://api.example/openai", "http://[fd00::1]:8080", "http://10.0.0.7", "https://mac:8080/a/"]
)
def test_addresses_of_servers_may_have_a_path(url: str) -> None:
    """What is asked for goes behind it."""
    read = read_source("m", spec(external={"url": url}))
    assert isinstance(read, ExternalSource)
    assert read.url == url.rstrip("/")


BAD_ADDRESSES = [
    ("mac:11434", "must be the http:// or https:// address"),
    ("ftp://mac.example", "must be the http:// or https:// address"),
    ("http://", "must name a host"),
    ("http://mac.example/v1", "before /v1"),
    ("http://mac.example/v1/", "before /v1"),
    ("http://mac.example?a=b", "without ? and #"),
    ("http://mac.example#a", "without ? and #"),
    ("http://me:secret@mac.example", "spec.external.keySecret"),
    ("http://mac.example:99999", "must name a host"),
    ("http://mac example", "without ? and #"),
]


@pytest.mark.parametrize(("url", "want_words"), BAD_ADDRESSES, ids=[url for url, _ in BAD_ADDRESSES])
def test_an_address_that_leads_nowhere_is_refused(url: str, want_words: str) -> None:
    """It would be asked for each request of the task, in vain."""
    with pytest.raises(InvalidInputError) as caught:
        read_source("m", spec(external={"url": url}))
    assert caught.value.field == "spec.external.url"
    assert want_words in caught.value.problem


@pytest.mark.parametrize(
    ("fields", "want_field"),
    [
        pytest.param({}, "spec", id="no source"),
        pytest.param({"source": "ollama://a:b", "external": {"url": "http://m"}}, "spec", id="two sources"),
        pytest.param({"source": "https://f.example/m.gguf"}, "spec.sha256", id="an address without a sum"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(fields: dict[str, Any], want_field: str) -> None:
    """The API server refuses them first, of objects as new as its rules."""
    with pytest.raises(InvalidInputError) as caught:
        read_source("m", spec(**fields))
    assert caught.value.field == want_field
