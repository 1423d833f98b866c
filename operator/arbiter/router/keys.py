"""Who may use the endpoint: API keys, of which the router knows only salted hashes, from a file in a Secret.

A key is `NAME.SECRET`, and its line in the file is

    NAME sha256:SALT:HASH [tasks=chat,code] [rate=REQUESTS_PER_SECOND] [burst=REQUESTS] [priority=NUMBER]

with SALT in hexadecimal (16 bytes or more) and HASH the sha256 of that text, then the whole key, so that a shell can
make one: `printf %s "$salt$key" | sha256sum`. Empty lines and lines that begin with `#` are skipped.

Why one round of sha256 and no slow hash: scrypt and its like protect secrets that can be guessed. These are random,
256 bits, so guessing is hopeless at any speed, while a slow hash would let anybody burn the router's processor with
wrong keys. The name finds the line, so that one hash is made for each request, for unknown names too, and hashes are
compared in constant time. A secret of a hand-made key must be long and random for the same reason.

Rule: a file is taken whole or refused whole, by line. One that is refused leaves the last good one in force.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from math import ceil, inf
from typing import TYPE_CHECKING, Final

from arbiter.errors import InvalidInputError

if TYPE_CHECKING:
    from pathlib import Path

SECRET_CHARACTERS: Final = 32
"""Fewest characters of a secret: 192 bits in base64, or 128 in hexadecimal."""

SALT_BYTES: Final = 16
"""Fewest bytes of salt: two lines with the same key then never show it."""

MAX_BYTES: Final = 1_048_576
"""Largest file: what a Secret can hold."""

_NAME: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,38}[a-z0-9])?")
_HASH: Final = re.compile(r"sha256:((?:[0-9a-f]{2})+):([0-9a-f]{64})")
_NUMBER: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?")
_WHOLE: Final = re.compile(r"-?[0-9]{1,6}")
_NOBODY: Final = (b"00" * SALT_BYTES, bytes(32))


@dataclass(frozen=True, slots=True)
class KeyRules:
    """One line of the file.

    Attributes:
        name: shown in logs; the secret never is.
        salt: its text, hashed before the key.
        hash: sha256 of salt and key.
        tasks: what may be asked for; None for every task.
        rate: requests for each second, on average; infinite when not limited.
        burst: requests that may come at once.
        priority: a higher one goes before when requests wait.
    """

    name: str
    salt: bytes
    hash: bytes
    tasks: frozenset[str] | None = None
    rate: float = inf
    burst: float = inf
    priority: int = 0


class Key:
    """A key in use: its rules, and how many requests it has left just now (a token bucket)."""

    __slots__ = ("_at", "_left", "_shares", "rules")

    def __init__(self, rules: KeyRules, shares: int = 1) -> None:
        """Full at first.

        Args:
            rules: its line.
            shares: worker processes of this router, among which rate and burst are divided.
        """
        self.rules = rules
        self._shares = shares
        self._left = inf
        self._at = 0.0

    def may(self, task: str) -> bool:
        """Whether it may ask for a task."""
        return self.rules.tasks is None or task in self.rules.tasks

    def take(self, now: float) -> int:
        """Use one request of the rate: 0 when it may pass, else the whole seconds after which it may."""
        rules = self.rules
        if rules.rate == inf:
            return 0
        rate, burst = rules.rate / self._shares, max(1.0, rules.burst / self._shares)
        self._left = min(burst, self._left + max(0.0, now - self._at) * rate)
        self._at = now
        if self._left >= 1.0:
            self._left -= 1.0
            return 0
        return max(1, ceil((1.0 - self._left) / rate))

    def renewed(self, rules: KeyRules) -> Key:
        """The same key under the rules of a new file: what it has used stays used."""
        key = Key(rules, self._shares)
        key._left, key._at = self._left, self._at
        return key


class Keyring:
    """All keys of a file. Finding one costs a look-up and one hash, whether it is known or not."""

    def __init__(self, rules: tuple[KeyRules, ...] = (), shares: int = 1) -> None:
        """Take the lines of a file."""
        self._shares = shares
        self._keys = {each.name: Key(each, shares) for each in rules}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._keys)

    def find(self, key: bytes) -> Key | None:
        """The key that a client sent, or None."""
        name, _, _ = key.partition(b".")
        known = self._keys.get(name.decode("latin-1"))
        salt, wanted = (known.rules.salt, known.rules.hash) if known else _NOBODY
        right = compare_digest(sha256(salt + key).digest(), wanted)
        return known if right else None

    def renewed(self, rules: tuple[KeyRules, ...]) -> Keyring:
        """The keys of a new file; those that were there before keep what they used of their rate."""
        ring = Keyring(shares=self._shares)
        for each in rules:
            old = self._keys.get(each.name)
            ring._keys[each.name] = old.renewed(each) if old else Key(each, self._shares)
        return ring


def bearer(authorization: bytes | None, x_api_key: bytes | None = None) -> bytes | None:
    """The key in a request's headers: `Authorization: Bearer KEY`, or `x-api-key: KEY` as Anthropic's clients do."""
    if authorization is not None:
        scheme, _, key = authorization.partition(b" ")
        return key.strip() or None if scheme.lower() == b"bearer" else None
    return x_api_key or None


def line_of(name: str, secret: str, salt: bytes, options: str = "") -> str:
    """The line for a new key `name.secret`; randomness is the caller's."""
    digest = sha256(f"{salt.hex()}{name}.{secret}".encode()).hexdigest()
    line = f"{name} sha256:{salt.hex()}:{digest} {options}".rstrip()
    if len(secret) < SECRET_CHARACTERS:
        raise InvalidInputError("secret", f"must have at least {SECRET_CHARACTERS} random characters")
    read_keys(line)
    return line


def read_keys(text: str) -> tuple[KeyRules, ...]:
    """Read a file.

    Raises:
        InvalidInputError: the field is `line N`.
    """
    found: dict[str, KeyRules] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        rules = _read_line(words, f"line {number}")
        if rules.name in found:
            raise InvalidInputError(f"line {number}", f"the key {rules.name} stands twice")
        found[rules.name] = rules
    return tuple(found.values())


def _read_line(words: list[str], line: str) -> KeyRules:
    name = words[0]
    if not _NAME.fullmatch(name):
        raise InvalidInputError(line, "must begin with a name of at most 40 lower-case letters, digits and hyphens")
    match = _HASH.fullmatch(words[1]) if len(words) > 1 else None
    if match is None:
        raise InvalidInputError(line, "the name must be followed by sha256:SALT:HASH in lower-case hexadecimal")
    salt, digest = match[1].encode(), bytes.fromhex(match[2])
    if len(salt) < 2 * SALT_BYTES:
        raise InvalidInputError(line, f"the salt must have at least {SALT_BYTES} bytes")
    options: dict[str, str] = {}
    for word in words[2:]:
        option, equals, value = word.partition("=")
        if option not in {"tasks", "rate", "burst", "priority"} or not equals:
            raise InvalidInputError(line, f"{word[:40]!r} is none of tasks=, rate=, burst= and priority=")
        if option in options:
            raise InvalidInputError(line, f"{option} stands twice")
        options[option] = value
    return _with_options(KeyRules(name, salt, digest), options, line)


def _with_options(rules: KeyRules, options: dict[str, str], line: str) -> KeyRules:
    tasks = frozenset(options["tasks"].split(",")) if "tasks" in options else None
    if tasks is not None and "" in tasks:
        raise InvalidInputError(line, "tasks must be names with commas between them")
    rate = _number(options, "rate", line)
    burst = _number(options, "burst", line)
    if burst is not None and rate is None:
        raise InvalidInputError(line, "burst needs rate")
    if rate is not None and burst is None:
        burst = max(1.0, rate)
    if burst is not None and burst < 1.0:
        raise InvalidInputError(line, "burst must be at least 1, or no request ever passes")
    priority = options.get("priority", "0")
    if not _WHOLE.fullmatch(priority):
        raise InvalidInputError(line, "priority must be a whole number")
    return KeyRules(rules.name, rules.salt, rules.hash, tasks, rate or inf, burst or inf, int(priority))


def _number(options: dict[str, str], option: str, line: str) -> float | None:
    if option not in options:
        return None
    if not _NUMBER.fullmatch(options[option]) or not float(options[option]):
        raise InvalidInputError(line, f"{option} must be a number above 0, such as 10 or 0.5")
    return float(options[option])


class KeyFile:
    """The file, read again when it changes.

    Attributes:
        keys: of the last file that was good.
    """

    def __init__(self, path: Path, shares: int = 1) -> None:
        """Read it.

        Raises:
            InvalidInputError: it cannot be read; a router does not start without the keys that it was given.
        """
        self._path = path
        self._mark: object = self._stamp()
        self.keys = Keyring(self._read(), shares)

    def refresh(self) -> bool:
        """Read it again if it changed; call it every few seconds. Returns whether there are new keys.

        Raises:
            InvalidInputError: once for each bad file. The last good keys stay in force.
        """
        mark = self._stamp()
        if mark == self._mark:
            return False
        self._mark = mark
        self.keys = self.keys.renewed(self._read())
        return True

    def _stamp(self) -> object:
        """What differs when the file does; a mounted Secret is replaced by a link to another folder."""
        try:
            stat = self._path.stat()
        except OSError as error:
            return error.errno
        return (stat.st_ino, stat.st_mtime_ns, stat.st_size)

    def _read(self) -> tuple[KeyRules, ...]:
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise InvalidInputError(str(self._path), f"cannot be read: {error.strerror}") from error
        if len(data) > MAX_BYTES:
            raise InvalidInputError(str(self._path), f"must not be larger than {MAX_BYTES} bytes")
        try:
            return read_keys(data.decode())
        except UnicodeDecodeError as error:
            raise InvalidInputError(str(self._path), "must be UTF-8 text") from error
        except InvalidInputError as error:
            raise InvalidInputError(f"{self._path}, {error.field}", error.problem) from error
