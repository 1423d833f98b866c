"""API keys: who may use the endpoint, for what, and how often."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from arbiter.errors import InvalidInputError
from arbiter.router.keys import KeyFile, Keyring, bearer, line_of, read_keys

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "0123456789abcdefghijklmnopqrstuv"  # noqa: S105  of no system
SALT = bytes(range(16))
HASH = f"sha256:{SALT.hex()}:{'0' * 64}"


def ring_of(*options: str, shares: int = 1) -> Keyring:
    """Keys `k0`, `k1` … with these options."""
    lines = [line_of(f"k{i}", SECRET, SALT, each) for i, each in enumerate(options)]
    return Keyring(read_keys("\n".join(lines)), shares)


def test_a_key_is_found_by_its_name_and_proved_by_its_hash() -> None:
    """Nothing else opens: not the name, not another key's secret, not a longer or shorter one."""
    ring = Keyring(read_keys(line_of("a", SECRET, SALT) + "\n" + line_of("b", SECRET[::-1], SALT)))
    found = ring.find(f"a.{SECRET}".encode())
    assert found is not None
    assert found.rules.name == "a"
    assert len(ring) == 2
    wrong = ["a", "a.", f"a.{SECRET}x", f"a.{SECRET[:-1]}", f"b.{SECRET}", f"c.{SECRET}", f"A.{SECRET}", "", "\xff.x"]
    assert [ring.find(key.encode("latin-1")) for key in wrong] == [None] * len(wrong)


def test_the_line_of_a_key_does_not_tell_its_secret() -> None:
    """The file may be read by people who may not use the endpoint."""
    line = line_of("a", SECRET, SALT, "tasks=chat")
    assert SECRET not in line
    assert line.startswith(f"a sha256:{SALT.hex()}:")
    assert line.split(":")[2] != line_of("a", SECRET, bytes(16)).split(":")[2]


def test_a_line_can_be_made_without_us() -> None:
    """The reference shows how a shell does it; a key made so works."""
    secret, salt = "5" * 64, "0f" * 16
    digest = sha256(f"{salt}shell.{secret}".encode()).hexdigest()
    assert Keyring(read_keys(f"shell sha256:{salt}:{digest}")).find(f"shell.{secret}".encode()) is not None


def test_a_short_secret_is_not_accepted() -> None:
    """One round of sha256 is only right for secrets that cannot be guessed."""
    with pytest.raises(InvalidInputError, match="at least 32"):
        line_of("a", "hunter2", SALT)


def test_a_key_may_ask_for_its_tasks_only() -> None:
    """Without a list it may ask for all."""
    ring = ring_of("", "tasks=chat,code")
    free, bound = (ring.find(f"k{i}.{SECRET}".encode()) for i in range(2))
    assert free is not None
    assert bound is not None
    assert [free.may(each) for each in ("chat", "x")] == [True, True]
    assert [bound.may(each) for each in ("chat", "code", "x", "")] == [True, True, False, False]


@pytest.mark.parametrize(
    ("options", "shares", "want"),
    [
        pytest.param("", 1, [0, 0, 0, 0, 0, 0], id="without a rate"),
        pytest.param("rate=2 burst=3", 1, [0, 0, 0, 1, 0, 1], id="a burst, then the rate"),
        pytest.param("rate=0.1", 1, [0, 10, 10, 10, 10, 10], id="less than one each second"),
        pytest.param("rate=4 burst=4", 2, [0, 0, 1, 1, 0, 1], id="divided among two workers"),
    ],
)
def test_a_key_uses_its_rate(options: str, shares: int, want: list[int]) -> None:
    """Refusals say after how many whole seconds it is worth trying again, and cost nothing themselves."""
    key = ring_of(options, shares=shares).find(f"k0.{SECRET}".encode())
    assert key is not None
    assert [key.take(now) for now in (100.0, 100.0, 100.0, 100.0, 100.5, 100.6)] == want


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    """A quiet night does not allow a flood in the morning."""
    key = ring_of("rate=1 burst=2").find(f"k0.{SECRET}".encode())
    assert key is not None
    assert [key.take(at) for at in (0.0, 1e6, 1e6, 1e6)] == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("line", "want"),
    [
        pytest.param(f"-a {HASH}", "must begin with a name", id="name"),
        pytest.param(f"{'a' * 41} {HASH}", "must begin with a name", id="long name"),
        pytest.param("a", "followed by sha256", id="no hash"),
        pytest.param(f"a {HASH.replace('sha256', 'md5')}", "followed by sha256", id="another hash"),
        pytest.param(f"a {HASH}0", "followed by sha256", id="long hash"),
        pytest.param(f"a sha256:00:{'0' * 64}", "salt must have at least 16 bytes", id="short salt"),
        pytest.param(f"a {HASH} colour=red", "'colour=red' is none of", id="unknown option"),
        pytest.param(f"a {HASH} rate", "'rate' is none of", id="option without a value"),
        pytest.param(f"a {HASH} rate=1 rate=2", "rate stands twice", id="option twice"),
        pytest.param(f"a {HASH} tasks=chat,,code", "tasks must be names", id="empty task"),
        pytest.param(f"a {HASH} rate=0", "rate must be a number above 0", id="zero rate"),
        pytest.param(f"a {HASH} rate=inf", "rate must be a number above 0", id="endless rate"),
        pytest.param(f"a {HASH} rate=-1", "rate must be a number above 0", id="negative rate"),
        pytest.param(f"a {HASH} burst=2", "burst needs rate", id="burst alone"),
        pytest.param(f"a {HASH} rate=1 burst=0.5", "burst must be at least 1", id="burst below one"),
        pytest.param(f"a {HASH} priority=high", "priority must be a whole number", id="priority"),
        pytest.param(f"b {HASH}", "the key b stands twice", id="twice"),
    ],
)
def test_a_bad_line_is_named_with_what_is_wrong(line: str, want: str) -> None:
    """The whole file is refused: half of a list of who may come in is not one."""
    with pytest.raises(InvalidInputError, match=want) as refused:
        read_keys(f"# keys\n\nb {HASH} priority=-3\n{line}\n")
    assert refused.value.field == "line 4"


@pytest.mark.parametrize(
    ("authorization", "x_api_key", "want"),
    [
        (b"Bearer a.b", None, b"a.b"),
        (b"bearer  a.b ", None, b"a.b"),
        (b"Basic a.b", None, None),
        (b"Basic a.b", b"c.d", None),
        (b"Bearer ", None, None),
        (b"a.b", None, None),
        (None, b"a.b", b"a.b"),
        (None, b"", None),
        (None, None, None),
    ],
)
def test_the_key_of_a_request(authorization: bytes | None, x_api_key: bytes | None, want: bytes | None) -> None:
    """Two ways to send one; a header that says something else is not skipped over."""
    assert bearer(authorization, x_api_key) == want


def test_a_changed_file_is_read_again_and_a_bad_one_keeps_the_last_good_keys(tmp_path: Path) -> None:
    """A slip in a Secret must not lock everybody out, nor let anybody in."""
    path = tmp_path / "keys"
    path.write_text(line_of("a", SECRET, SALT, "rate=1"))
    file = KeyFile(path)
    key = f"a.{SECRET}".encode()
    old = file.keys.find(key)
    assert old is not None
    assert old.take(100.0) == 0
    assert not file.refresh()

    path.write_text("nonsense")
    with pytest.raises(InvalidInputError, match=r"keys, line 1: the name must be followed"):
        file.refresh()
    assert not file.refresh()
    assert file.keys.find(key) is old

    path.write_text(line_of("a", SECRET, SALT, "rate=1 burst=5") + "\n" + line_of("b", SECRET, SALT))
    assert file.refresh()
    renewed = file.keys.find(key)
    assert renewed is not None
    assert renewed.take(100.0) > 0
    assert file.keys.find(f"b.{SECRET}".encode()) is not None

    path.unlink()
    with pytest.raises(InvalidInputError, match="cannot be read"):
        file.refresh()
    assert len(file.keys) == 2


def test_a_mounted_secret_that_is_replaced_by_a_link_is_noticed(tmp_path: Path) -> None:
    """That is how a kubelet changes one: same size, and a time that may be older."""
    for name, key in (("one", "a"), ("two", "b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keys").write_text(line_of(key, SECRET, SALT))
        os.utime(tmp_path / name / "keys", (1_700_000_000, 1_700_000_000))
    (tmp_path / "data").symlink_to("one")
    file = KeyFile(tmp_path / "data" / "keys")
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "data")
    assert file.refresh()
    assert file.keys.find(f"b.{SECRET}".encode()) is not None


@pytest.mark.parametrize(
    ("data", "want"),
    [
        pytest.param(None, "cannot be read: No such file", id="missing"),
        pytest.param(b"\xff\xfe", "must be UTF-8", id="not text"),
        pytest.param(b"#" * 1_048_577, "must not be larger", id="endless"),
    ],
)
def test_a_router_does_not_start_without_the_keys_that_it_was_given(
    tmp_path: Path, data: bytes | None, want: str
) -> None:
    """Serving everybody instead would be the worst answer."""
    path = tmp_path / "keys"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InvalidInputError, match=want):
        KeyFile(path)
