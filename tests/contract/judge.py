"""Asks the API server's own code what it says about a definition, or about an object written to it.

The program in `admission/` is built once per state of its sources and kept in the user's cache. Each judge runs
a process of its own, so a definition that one test registers is unknown to the others.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

SOURCES = Path(__file__).with_name("admission")

BUILD = ("build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w")
"""Neither the checkout's place nor git goes into the program; without debug data it links faster."""


class JudgeError(RuntimeError):
    """The judge cannot be built, has ended, or cannot read what it was asked."""


@dataclass(frozen=True)
class FieldError:
    """One reason to refuse; `message` is the whole of it, as kubectl prints it."""

    field: str
    type: str
    detail: str
    message: str


@dataclass(frozen=True)
class RuleCost:
    """What one CEL expression may cost at worst; the entry without a `rule` is the sum of its version."""

    version: str
    field: str
    rule: str
    cost: int
    limit: int


@dataclass(frozen=True)
class Registration:
    """What the API server says to a new definition."""

    name: str
    errors: tuple[FieldError, ...]
    warnings: tuple[str, ...]
    costs: tuple[RuleCost, ...]


@dataclass(frozen=True)
class Verdict:
    """What the API server says to a write, and the object after pruning and defaulting (empty if unreadable)."""

    allowed: bool
    errors: tuple[FieldError, ...]
    object: Mapping[str, Any]


class Judge:
    """A running judge; it remembers the definitions that were registered without errors."""

    def __init__(self) -> None:
        binary = build()
        self._stderr = tempfile.TemporaryFile("w+b")  # noqa: SIM115 -- lives as long as the process
        self._process = subprocess.Popen(  # noqa: S603 -- the program built above
            [binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process; a second call does nothing."""
        self._process.kill()
        self._process.communicate()
        self._stderr.close()

    def register(self, crd: Mapping[str, Any]) -> list[FieldError]:
        """Creates a definition; without errors, its objects can be reviewed from now on."""
        return list(self.inspect(crd).errors)

    def inspect(self, crd: Mapping[str, Any]) -> Registration:
        """Like `register`, and also tells warnings and the estimated cost of every CEL expression."""
        answer = self._ask({"crd": crd})
        return Registration(
            name=answer["name"],
            errors=tuple(FieldError(**error) for error in answer["errors"]),
            warnings=tuple(answer["warnings"]),
            costs=tuple(RuleCost(**cost) for cost in answer["costs"]),
        )

    def review(self, obj: Mapping[str, Any], old: Mapping[str, Any] | None = None, *, status: bool = False) -> Verdict:
        """Creates an object, or updates `old` to it; with `status`, updates through the status subresource."""
        request: dict[str, object] = {"object": obj}
        if old is not None:
            request["old"] = old
        if status:
            request["status"] = True
        answer = self._ask(request)
        return Verdict(
            allowed=answer["allowed"],
            errors=tuple(FieldError(**error) for error in answer["errors"]),
            object=answer["object"] or {},
        )

    def _ask(self, request: Mapping[str, object]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = json.dumps(request, allow_nan=False, separators=(",", ":"))
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
            reply = self._process.stdout.readline()
        except (BrokenPipeError, ValueError):  # the process has died, or was ended by `close`
            reply = b""
        if not reply:
            raise JudgeError(f"The judge has ended: {self._last_words()}")
        answer: dict[str, Any] = json.loads(reply)
        if "error" in answer:
            raise JudgeError(answer["error"])
        return answer

    def _last_words(self) -> str:
        if self._stderr.closed:
            return "it was closed."
        self._stderr.seek(0)
        return self._stderr.read()[-2000:].decode(errors="replace").strip() or "it left no word."


def build(sources: Path = SOURCES) -> Path:
    """Returns the program built from `sources` as they are now, and builds it if it is not in the cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "arbiter"
    binary = cache / f"{sources.name}-{_fingerprint(sources)}"
    if binary.exists():
        return binary
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{sources.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # parallel test workers wait here for the first one's build
        if not binary.exists():
            _compile(sources, binary)
    return binary


def _fingerprint(sources: Path) -> str:
    digest = hashlib.sha256()
    for source in sorted(sources.iterdir()):
        if source.name in {"go.mod", "go.sum"} or source.suffix == ".go":
            digest.update(f"{source.name}\0{source.stat().st_size}\0".encode() + source.read_bytes())
    return digest.hexdigest()[:16]


def _compile(sources: Path, binary: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise JudgeError(
            "These tests ask Kubernetes' own Go code, but there is no `go` on PATH: "
            "install Go 1.26 or newer (https://go.dev/doc/install)."
        )
    with tempfile.TemporaryDirectory(dir=binary.parent) as scratch:
        unfinished = Path(scratch) / binary.name
        built = subprocess.run(  # noqa: S603 -- our own sources
            [go, *BUILD, "-o", unfinished, "."],
            cwd=sources,
            env=os.environ | {"CGO_ENABLED": "0", "GOWORK": "off"},
            capture_output=True,
            text=True,
            check=False,
        )
        if built.returncode != 0:
            raise JudgeError(f"`go build` failed in {sources}:\n{built.stderr[-4000:]}")
        unfinished.replace(binary)  # in one step: nobody ever runs half a program
