"""Where a source lies, and who we are there."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from arbiter.engines.sources import OciSource, OllamaSource
from arbiter.fetch.docker_config import Login, login_for, read_logins
from arbiter.fetch.failures import FailureCode, SourceError
from arbiter.fetch.resolve import Access
from arbiter.fetch.sources import parse, registry_of

if TYPE_CHECKING:
    from pathlib import Path


def test_a_source_names_its_registry() -> None:
    """Ollama's own library is meant where no host is named."""
    smollm2, private = parse("ollama://smollm2:135m"), parse("oci://10.0.0.1:5001/team/m:1#/model.gguf")
    assert isinstance(smollm2, OllamaSource)
    assert isinstance(private, OciSource)
    assert registry_of(smollm2) == ("registry.ollama.ai", "library/smollm2")
    assert registry_of(private) == ("10.0.0.1:5001", "team/m")


def test_what_is_no_source_is_a_failure_for_good() -> None:
    """It becomes a result, so that the operator can say it of the LocalModel."""
    with pytest.raises(SourceError, match="must be ollama://") as failed:
        parse("ftp://there/m.gguf")
    assert (failed.value.code, failed.value.transient) == (FailureCode.SourceInvalid, False)


def entry(name: str) -> dict[str, str]:
    """Give an entry as `docker login` writes it."""
    return {"auth": base64.b64encode(f"{name}:secret".encode()).decode()}


@pytest.mark.parametrize(
    ("keys", "host", "repository", "want"),
    [
        pytest.param(["a.example"], "a.example", "m", "a.example", id="the host"),
        pytest.param(["https://a.example"], "a.example", "m", "https://a.example", id="with a scheme"),
        pytest.param(["https://a.example/v2/"], "a.example", "m", "https://a.example/v2/", id="with a version"),
        pytest.param(["https://index.docker.io/v1/"], "docker.io", "m", "https://index.docker.io/v1/", id="Docker Hub"),
        pytest.param(["docker.io"], "registry-1.docker.io", "m", "docker.io", id="Docker Hub's registry"),
        pytest.param(["*.example"], "a.example", "m", "*.example", id="any label"),
        pytest.param(["*.example"], "a.b.example", "m", None, id="any one label only"),
        pytest.param(["a.example:5000"], "a.example:5000", "m", "a.example:5000", id="the port"),
        pytest.param(["a.example"], "a.example:5000", "m", None, id="another port"),
        pytest.param(["a.example", "a.example/team"], "a.example", "team/m", "a.example/team", id="the longest path"),
        pytest.param(["a.example/team"], "a.example", "teams/m", None, id="the beginning of another name"),
    ],
)
def test_the_key_that_fits_best_says_who_we_are(
    tmp_path: Path, keys: list[str], host: str, repository: str, want: str | None
) -> None:
    """As the kubelet chooses, which pulls the same image later."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"auths": {key: entry(key.replace(":", "")) for key in keys}}))

    found = login_for(read_logins(file), host, repository)

    assert found == (None if want is None else Login(want.replace(":", ""), "secret"))


def test_every_form_of_an_entry_is_read(tmp_path: Path) -> None:
    """Also the oldest file, which has no `auths` around its entries."""
    file = tmp_path / ".dockercfg"
    file.write_text(
        json.dumps(
            {"a.example": {"username": "u", "password": "p"}, "b.example": {"identitytoken": "i", "registrytoken": "r"}}
        )
    )
    logins = read_logins(file)

    assert logins["a.example"].basic == "Basic " + base64.b64encode(b"u:p").decode()
    assert logins["b.example"] == Login(identity_token="i", registry_token="r")  # noqa: S106  no secret
    assert logins["b.example"].basic == ""
    assert read_logins(None) == {}


@pytest.mark.parametrize("content", ["", "[]", '{"auths": 1}', '{"auths": {"a": {"auth": "ü"}}}', "[" * 100_000])
def test_a_file_that_is_none_is_refused_without_its_content(tmp_path: Path, content: str) -> None:
    """What stands in it is secret, even where it is broken."""
    file = tmp_path / "config.json"
    file.write_text(content)

    with pytest.raises(SourceError, match="pull secret") as failed:
        read_logins(file)
    assert failed.value.code == FailureCode.AccessDenied


def test_a_file_that_is_not_there_is_a_secret_that_nobody_made(tmp_path: Path) -> None:
    """Its volume is optional, so that the pod starts and this can be said."""
    with pytest.raises(SourceError, match="pull secret is missing, or is not of type") as failed:
        read_logins(tmp_path / "config.json")
    assert failed.value.code == FailureCode.AccessDenied
    with pytest.raises(SourceError, match="pull secret is missing, or has no key token"):
        Access(token_file=tmp_path / "token").token()
