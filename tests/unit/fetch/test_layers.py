"""Layers of images: the way to one file, whatever a stranger packed."""

from __future__ import annotations

import asyncio
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.fetch.failures import SourceError
from arbiter.fetch.layers import Absent, clean, find


class Bytes:
    """Bytes as a stream that gives a few at a time."""

    def __init__(self, content: bytes, most: int = 700) -> None:
        self._content = io.BytesIO(content)
        self._most = most

    async def read(self, most: int) -> bytes:
        """Give the next bytes."""
        return self._content.read(min(most, self._most))

    async def skip(self, count: int) -> None:
        """Pass over bytes."""
        self._content.seek(min(count, 1 << 40), 1)


def packed(*names: str, form: int = tarfile.PAX_FORMAT) -> bytes:
    """Give a layer with files that hold their names; a name that ends in a slash is a folder, one with `>` a link."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form) as tar:
        for said in names:
            name, _, link = said.partition(">")
            entry = tarfile.TarInfo(name.rstrip("/"))
            content = b"" if link or name.endswith("/") else name.encode()
            entry.size, entry.linkname = len(content), link
            entry.type = tarfile.SYMTYPE if link else tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            tar.addfile(entry, io.BytesIO(content))
    return target.getvalue()


def found(content: bytes, path: str) -> tuple[int | Absent, bytes]:
    """Look for a path, and give what is said and the first bytes from there on."""

    async def look() -> tuple[int | Absent, bytes]:
        stream = Bytes(content)
        place = await find(stream, path)
        return place, await stream.read(place) if isinstance(place, int) else b""

    return asyncio.run(look())


@pytest.mark.parametrize(
    "form", [pytest.param(tarfile.GNU_FORMAT, id="GNU"), pytest.param(tarfile.PAX_FORMAT, id="pax")]
)
@pytest.mark.parametrize("name", ["m", "./a/m", "/a/m", "a/" * 90 + "m", "ü/" * 60 + "m"])
def test_a_file_is_found_by_any_way_to_write_its_name(name: str, form: int) -> None:
    """Builders write names with and without a beginning, and long ones in two forms."""
    place, content = found(packed("before", "é" * 120, name, form=form), clean(name))
    assert (place, content[:600]) == (len(name.encode()), name.encode())


@pytest.mark.parametrize(
    ("names", "want"),
    [
        pytest.param((), Absent.HERE, id="nothing"),
        pytest.param(("a/n",), Absent.HERE, id="others"),
        pytest.param((".wh.a",), Absent.HIDDEN, id="its folder removed"),
        pytest.param(("a/.wh.m",), Absent.HIDDEN, id="removed"),
        pytest.param(("a/.wh..wh..opq",), Absent.HIDDEN, id="its folder emptied"),
        pytest.param((".wh..wh..opq",), Absent.HIDDEN, id="everything emptied"),
        pytest.param(("a/.wh.n", "b/.wh.m"), Absent.HERE, id="others removed"),
        pytest.param(("a/m/",), Absent.FOLDER, id="a folder"),
        pytest.param(("a/m/x",), Absent.FOLDER, id="a folder without an entry"),
        pytest.param((".wh.a", "a/m"), 3, id="removed and made anew"),
    ],
)
def test_a_layer_says_why_it_does_not_give_a_file(names: tuple[str, ...], want: int | Absent) -> None:
    """As the image specification has it; what is hidden is not looked for below."""
    assert found(packed(*names), "a/m")[0] == want


def test_a_link_is_not_followed() -> None:
    """It may lead into another layer; the message says what is wrong."""
    with pytest.raises(SourceError, match="as no plain file"):
        found(packed("a>b"), "a")


@given(st.data())
def test_a_damaged_layer_gives_an_answer_or_a_failure(data: st.DataObject) -> None:
    """Sums of headers are made right again, so that the damage gets further in."""
    content = bytearray(packed("x" * 120, "b/", "m"))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    for start in range(0, len(content) - 511, 512):
        block = content[start : start + 512]
        total = sum(block[:148]) + sum(block[156:]) + 8 * 32
        content[start + 148 : start + 156] = b"%06o\0 " % total
    cut = data.draw(st.integers(0, len(content)))
    try:
        place, _ = found(bytes(content[:cut]), "m")
    except SourceError:
        return
    assert isinstance(place, Absent) or place >= 0
