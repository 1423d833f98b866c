"""Finds who we are at a registry, in a file as `docker login` writes it and a pull secret carries it.

Rule: keys mean what they mean to the kubelet, which pulls the same image later: a host or a host and the beginning of a
path, with `*` for one label, and Docker Hub under each of its old names. Programs that would give credentials are not
run, because none of them is in a container.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arbiter.fetch.failures import FailureCode, SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DOCKER_HUB = "docker.io"
"""What an image's name calls Docker Hub."""

_HUB_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})


@dataclass(frozen=True, slots=True)
class Login:
    """What lets us in at a registry.

    Attributes:
        user: the user's name.
        password: the user's password.
        identity_token: what is exchanged for a token instead of a password.
        registry_token: what is sent as a bearer token as it is.
    """

    user: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    @property
    def basic(self) -> str:
        """The header's value for user and password; empty without."""
        if not self.user and not self.password:
            return ""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def read_logins(path: Path | None) -> Mapping[str, Login]:
    """Read a file of credentials; none without a file.

    Raises:
        SourceError: AccessDenied, for a file that cannot be read as one.
    """
    if path is None:
        return {}
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        missing = "the pull secret is missing, or is not of type kubernetes.io/dockerconfigjson"
        raise SourceError(FailureCode.AccessDenied, missing) from error
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(FailureCode.AccessDenied, f"the pull secret cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise SourceError(FailureCode.AccessDenied, "the pull secret is no JSON object")
    entries = found.get("auths", found)  # the oldest form has no "auths" around it
    if not isinstance(entries, dict):
        raise SourceError(FailureCode.AccessDenied, "the pull secret's auths is no JSON object")
    return {_plain(str(key)): _login(str(key), entry) for key, entry in entries.items() if isinstance(entry, dict)}


def login_for(logins: Mapping[str, Login], host: str, repository: str) -> Login | None:
    """Give who we are for one image: the longest key that matches, as the kubelet tries it first."""
    host = DOCKER_HUB if host in _HUB_NAMES else host
    fitting = [key for key in logins if _matches(key, host, repository)]
    return logins[max(fitting, key=lambda key: (key.count("/"), len(key)))] if fitting else None


def _login(key: str, entry: Mapping[str, Any]) -> Login:
    """Read one entry; `auth` is the encoded form of user and password, and wins over both."""
    user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if auth := entry.get("auth"):
        try:
            text = base64.b64decode(str(auth)).decode().rstrip("\0")
        except (binascii.Error, ValueError):
            raise SourceError(FailureCode.AccessDenied, f"the pull secret's auth of {key} is not base64") from None
        user, _, password = text.partition(":")
    return Login(user, password, str(entry.get("identitytoken") or ""), str(entry.get("registrytoken") or ""))


def _plain(key: str) -> str:
    """Give a key without scheme and version: `https://index.docker.io/v1/` is how Docker Hub is written."""
    host, _, path = key.partition("://")[2].partition("/") if "://" in key else key.partition("/")
    path = path.strip("/")
    if path in {"v1", "v2"}:
        path = ""
    host = DOCKER_HUB if host in _HUB_NAMES else host
    return f"{host}/{path}" if path else host


def _matches(key: str, host: str, repository: str) -> bool:
    """Say whether a key is about an image."""
    key_host, _, key_path = key.partition("/")
    (key_name, _, key_port), (name, _, port) = key_host.partition(":"), host.partition(":")
    if key_port != port:
        return False
    if key_path and repository != key_path and not repository.startswith(f"{key_path}/"):
        return False
    wanted, labels = key_name.split("."), name.split(".")
    return len(wanted) == len(labels) and all(map(fnmatch.fnmatchcase, labels, wanted))
