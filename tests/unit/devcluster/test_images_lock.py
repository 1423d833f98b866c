"""Which pins of a lock hold for an image's Python, whatever Python reads it."""

from __future__ import annotations

import re

import pytest

from devcluster.errors import DevclusterError
from devcluster.images import lock, recipes

FACTS = lock.environment("3.13")

HASH = "--hash=sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("marker", "want"),
    [
        pytest.param("python_full_version < '3.12'", False, id="older"),
        pytest.param("python_full_version >= '3.12'", True, id="newer"),
        pytest.param("python_full_version <= '3.13'", True, id="the same, written shorter"),
        pytest.param("python_version > '3.9'", True, id="two digits are more than one"),
        pytest.param("python_version != '3.13'", False, id="another"),
        pytest.param("python_full_version == '3.13.*'", True, id="any of a release"),
        pytest.param("python_full_version == '3.1.*'", False, id="any of a release that begins alike"),
        pytest.param("python_full_version < '3.13.0rc1'", False, id="a candidate counts as its release"),
        pytest.param("sys_platform == 'win32'", False, id="another system"),
        pytest.param("sys_platform != 'win32'", True, id="not another system"),
        pytest.param("platform_python_implementation != 'PyPy'", True, id="not another Python"),
        pytest.param("python_version < '3.12' or sys_platform == 'linux'", True, id="one of two"),
        pytest.param("python_version < '3.12' and sys_platform == 'linux'", False, id="both"),
        pytest.param(
            "(python_version < '3.12' or os_name == 'posix') and sys_platform == 'linux'", True, id="with parentheses"
        ),
    ],
)
def test_a_marker_is_decided_for_the_image(marker: str, want: bool) -> None:
    """Asked by pip, it would be about the Python that runs pip, which may be an older one."""
    assert lock.holds(marker, FACTS) is want


@pytest.mark.parametrize(
    "marker",
    [
        pytest.param("'linux' in sys_platform", id="the other way round"),
        pytest.param("extra == 'dev'", id="a fact that no image has"),
        pytest.param("sys_platform < 'linux'", id="an order of names"),
        pytest.param("python_version", id="no comparison"),
        pytest.param("python_version ~= '3.13'", id="no Python"),
    ],
)
def test_a_marker_of_another_form_is_refused(marker: str) -> None:
    """To guess would be to leave a package out, or to bring one in, without a word."""
    with pytest.raises(DevclusterError, match=re.escape(f"cannot read the marker `{marker}`")):
        lock.holds(marker, FACTS)


def test_the_pins_that_hold_keep_their_hashes_and_lose_their_markers() -> None:
    """What pip reads it can neither choose among nor exchange."""
    text = (
        "# by hand\n"
        f"a==1 \\\n    {HASH} \\\n    {HASH}\n    # via b\n"
        f"b==2 ; python_full_version < '3.12' \\\n    {HASH}\n"
        f"b==3 ; python_full_version >= '3.12' \\\n    {HASH}\n"
        f"c[x]==4 ; sys_platform == 'win32' \\\n    {HASH}\n"
    )

    assert lock.for_environment(text, FACTS) == (
        f"a==1 \\\n    {HASH} \\\n    {HASH}\nb==3 \\\n    {HASH}\n"
    )  # fmt: skip


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_our_own_locks_can_be_read(name: str) -> None:
    """The longer one has every form of marker that the resolver writes."""
    text = (recipes.ROOT / name).read_text()
    kept = lock.for_environment(text, FACTS)

    pins = re.findall(r"^(\S+)==", kept, re.MULTILINE)
    assert "pydantic" in pins
    assert len(pins) == len(set(pins))
    assert ";" not in kept
    assert set(re.findall(r"sha256:\w+", kept)) <= set(re.findall(r"sha256:\w+", text))


def test_wheels_for_older_and_newer_machines_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's trixie has version 2.41 of the C library; what was made for a newer one does not load."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    platforms = lock.platforms()

    assert platforms[0] == "manylinux_2_41_x86_64"
    assert {"manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"} < set(platforms)
    assert not [name for name in platforms if "x86_64" not in name]
