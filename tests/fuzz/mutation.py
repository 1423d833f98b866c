"""Changes bytes at random, and makes what was found small."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random  # noqa: TID251  the type; the source itself is an argument

PIECES = (
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b"\0",
    b":",
    b",",
    b";",
    b"\x0b",
    b"\x85",
    b"\xa0",
    b"chunked",
    b"identity",
    b"Transfer-Encoding: chunked\r\n",
    b"transfer-encoding:chunked\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Content-Length: 3\r\n",
    b"content-length: 0\r\n",
    b"Content-Length: 00000000000000000003\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive, upgrade\r\n",
    b"Upgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"Host: b\r\n",
    b"0\r\n\r\n",
    b"3\r\nabc\r\n",
    b"3;x=y\r\nabc\r\n",
    b"ffffffff",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"204",
    b"304",
)
"""What makes a difference to a parser."""


def mutated(source: Random, seeds: Sequence[bytes]) -> bytes:
    """One of the seeds, or two after one another, with a few changes."""
    data = bytearray(source.choice(seeds))
    if source.random() < 0.3:
        data += source.choice(seeds)
    for _ in range(source.choice((0, 1, 1, 1, 2, 2, 3, 5))):
        at = source.randrange(len(data) + 1)
        match source.randrange(6):
            case 0:
                data[at:at] = source.choice(PIECES)
            case 1:
                data[at : at + 1] = bytes((source.randrange(256),))
            case 2:
                del data[at : at + source.choice((1, 1, 2, 4, 20))]
            case 3:
                end = min(len(data), at + source.choice((1, 4, 20, 60)))
                data[at:at] = data[at:end]
            case 4:
                _replace(source, data)
            case _:
                data[at : at + 1] = data[at : at + 1].swapcase()
    return bytes(data)


def _replace(source: Random, data: bytearray) -> None:
    """Put one piece in the place of another."""
    there = [piece for piece in PIECES if piece in data]
    if there:
        old = source.choice(there)
        at = data.index(old)
        data[at : at + len(old)] = source.choice(PIECES)


def smallest(data: bytes, still: Callable[[bytes], bool]) -> bytes:
    """The same finding with as few bytes as removing runs of them leads to."""
    size = max(len(data) // 2, 1)
    while size:
        at = 0
        while at < len(data):
            less = data[:at] + data[at + size :]
            if still(less):
                data = less
            else:
                at += size
        size //= 2
    return data
