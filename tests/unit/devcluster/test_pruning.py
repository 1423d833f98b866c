"""Pruning the cache: what a month has not seen goes, and nothing that anybody uses, or that is not ours."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from devcluster import pruning

if TYPE_CHECKING:
    from pathlib import Path

DAY = 24 * 3600
OLD, LATELY = 31 * DAY, 29 * DAY
SET, OTHER = f"programs-{'0' * 16}", f"programs-{'1' * 16}"


class Cache:
    """A cache with programs and sets of links, each as old as a test wants it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "lock").touch()
        self.now = (root / "lock").stat().st_mtime

    def program(self, name: str, key: str, age: float) -> Path:
        """Put a program there."""
        kept = self.root / f"{name}-{key * 16}"
        kept.mkdir()
        (kept / name).write_text("")
        return self._aged(kept, age)

    def links(self, name: str, age: float, *programs: Path) -> Path:
        """Put a set of links there, last used so many seconds ago."""
        root = self.root / name
        (root / "bin").mkdir(parents=True)
        for kept in programs:
            program = kept.name.rpartition("-")[0]
            (root / "bin" / program).symlink_to(os.path.relpath(kept / program, root / "bin"))
        return self._aged(root, age)

    def names(self) -> set[str]:
        """Name what is there."""
        return {path.name for path in self.root.iterdir()} - {"lock"}

    def _aged(self, path: Path, age: float) -> Path:
        os.utime(path, (self.now - age, self.now - age))
        return path


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Give an empty cache."""
    return Cache(tmp_path)


def test_what_a_month_has_not_seen_is_removed(cache: Cache) -> None:
    """A set that nobody has used, and the programs that only it leads to."""
    shared = cache.program("etcd", "a", OLD)
    gone = cache.program("runc", "a", OLD)
    cache.links(SET, OLD, shared, gone)
    cache.links(OTHER, LATELY, shared)

    assert pruning.prune(cache.root) == [SET, gone.name]
    assert cache.names() == {OTHER, shared.name}
    assert (cache.root / OTHER / "bin" / "etcd").exists()


def test_what_was_used_lately_stays(cache: Cache) -> None:
    """However old the programs are: another checkout comes back to them."""
    cache.links(SET, OLD, cache.program("etcd", "a", 400 * DAY))
    pruning.mark_used(cache.root / SET)

    assert pruning.prune(cache.root) == []
    assert (cache.root / SET / "bin" / "etcd").exists()


def test_a_program_that_is_in_no_set_yet_stays_for_a_month(cache: Cache) -> None:
    """It is of a build that failed at another one: the next build goes on from it."""
    young, old = cache.program("kubelet", "a", LATELY), cache.program("kubelet", "b", OLD)

    assert pruning.prune(cache.root) == [old.name]
    assert cache.names() == {young.name}


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("notes/etcd", id="no key in its name"),
        pytest.param(f"etcd-{'a' * 15}/etcd", id="a key that is too short"),
        pytest.param(f"etcd-{'a' * 16}/runc", id="another program's name"),
        pytest.param("programs-mine/bin", id="a set by another name"),
    ],
)
def test_what_is_not_of_our_form_stays(cache: Cache, path: str) -> None:
    """Whatever its age: somebody else has put it there."""
    file = cache.root / path
    file.parent.mkdir(parents=True)
    file.write_text("")
    os.utime(file.parent, (0, 0))

    assert pruning.prune(cache.root) == []
    assert file.exists()


def test_a_file_that_is_named_like_a_program_stays(cache: Cache) -> None:
    """Ours are directories."""
    file = cache.root / f"etcd-{'a' * 16}"
    file.write_text("")
    os.utime(file, (0, 0))

    assert pruning.prune(cache.root) == []


def test_a_directory_with_something_beside_the_program_stays(cache: Cache) -> None:
    """We never put anything there."""
    kept = cache.program("etcd", "a", OLD)
    (kept / "notes").write_text("")
    os.utime(kept, (0, 0))

    assert pruning.prune(cache.root) == []


def test_the_time_is_that_of_the_files_clock(cache: Cache) -> None:
    """The lock is stamped anew each time, so a lock that is old itself makes nothing look young."""
    gone = cache.program("etcd", "a", OLD)
    os.utime(cache.root / "lock", (0, 0))

    assert pruning.prune(cache.root) == [gone.name]


def test_a_set_that_is_not_there_is_not_marked(tmp_path: Path) -> None:
    """Asking where programs are must not make a cache, and must not fail in one that is another user's."""
    pruning.mark_used(tmp_path / SET)
    assert list(tmp_path.iterdir()) == []
