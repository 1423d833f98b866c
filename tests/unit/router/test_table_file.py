"""A table in a file: whatever way it is written, it is seen soon and never half."""

from __future__ import annotations

import asyncio
import errno
import os
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
from asyncinotify import Inotify

from arbiter.router import table_file
from arbiter.router.fence import Offer
from arbiter.router.table_file import follow_file, offers
from tests.unit.router.router_examples import table

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from asyncinotify import Mask, Watch

    from arbiter.core.routes import RouteTable


def run(story: Coroutine[None, None, None]) -> None:
    """Run a story that must not take longer than a test may."""

    async def limited() -> None:
        await asyncio.wait_for(story, 5.0)

    asyncio.run(limited())


async def until(true: Callable[[], object]) -> None:
    """Wait for something to become true."""
    while not true():  # noqa: ASYNC110  what is waited for has no event
        await asyncio.sleep(0.002)


class Followed:
    """What following a file told."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.tables: list[RouteTable] = []
        self.refusals: list[str] = []

    async def follow(self, path: Path) -> None:
        """Follow it until cancelled."""
        await follow_file(path, self.tables.append, lambda _, message: self.refusals.append(message))

    @property
    def generations(self) -> list[int]:
        """Of the tables that came into force."""
        return [each.generation for each in self.tables]


def replaced(path: Path, text: str) -> None:
    """The file, replaced as a whole."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def test_a_file_that_is_replaced_is_obeyed_at_the_kernels_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one look at the clock's time: after the first table there is none for an hour."""

    async def story() -> None:
        path, followed = tmp_path / "routes.json", Followed()
        path.write_text(table(1).to_text())
        monkeypatch.setattr(table_file, "LOOK_S", 3600.0)
        following = asyncio.create_task(followed.follow(path))
        await until(lambda: followed.tables)
        await asyncio.sleep(0.05)  # the folder is watched by then
        replaced(path, table(2).to_text())
        await until(lambda: len(followed.tables) == 2)
        path.write_text(table(3).to_text())
        await until(lambda: len(followed.tables) == 3)
        following.cancel()
        assert followed.generations == [1, 2, 3]
        assert followed.refusals == []

    run(story())


def test_a_notice_of_another_file_does_not_make_half_a_table_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An editor's backup or a neighbour's file may be closed while ours is being written."""

    async def story() -> None:
        path, followed = tmp_path / "routes.json", Followed()
        path.write_text(table(1).to_text())
        monkeypatch.setattr(table_file, "LOOK_S", 3600.0)
        following = asyncio.create_task(followed.follow(path))
        await until(lambda: followed.tables)
        await asyncio.sleep(0.05)  # the folder is watched by then
        text = table(2).to_text()
        with path.open("w") as file:
            for end in (100, len(text) - 1):
                file.write(text[file.tell() : end])
                file.flush()
                (tmp_path / "neighbour").write_text("{}")
                await asyncio.sleep(0.05)
            assert followed.generations == [1]
            file.write(text[-1])
        await until(lambda: len(followed.tables) == 2)
        following.cancel()
        assert followed.refusals == []

    run(story())


def test_a_file_is_seen_soon_where_there_are_no_notices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Counted in looks at the file, because time would be the machine's: two must do, and one may be under way."""
    looks: list[Path] = []
    stamp = table_file._stamp  # noqa: SLF001  counts the looks
    caplog.set_level("INFO")

    def counted(path: Path) -> object:
        looks.append(path)
        return stamp(path)

    class NoMoreWatches:
        def __init__(self) -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def story() -> None:
        path, followed = tmp_path / "routes.json", Followed()
        path.write_text(table(1).to_text())
        following = asyncio.create_task(followed.follow(path))
        await until(lambda: followed.tables)
        monkeypatch.setattr(table_file, "_stamp", counted)
        replaced(path, table(2).to_text())
        await until(lambda: len(followed.tables) == 2)
        following.cancel()
        assert followed.generations == [1, 2]

    monkeypatch.setattr(table_file, "Inotify", NoMoreWatches)
    monkeypatch.setattr(table_file, "WATCH_AGAIN_S", 0.01)
    run(story())
    assert len(looks) <= 3
    assert 2 * table_file.LOOK_S <= 0.05
    assert caplog.text.count("cannot be watched, only looked at 40 times a second") == 1


def test_a_folder_that_comes_late_or_is_replaced_is_watched_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume may be mounted after the start, and a deployment may move whole folders."""
    folder = tmp_path / "routes"
    looked: list[object] = []
    monkeypatch.setattr(table_file, "WATCH_AGAIN_S", 0.005)

    class Counted(Inotify):
        def add_watch(self, path: os.PathLike[str] | bytes | str, mask: Mask) -> Watch:
            watch = super().add_watch(path, mask)
            looked.append(path)
            return watch

    monkeypatch.setattr(table_file, "Inotify", Counted)

    async def story() -> None:
        path, followed = folder / "routes.json", Followed()
        following = asyncio.create_task(followed.follow(path))
        await until(lambda: followed.refusals)
        for generation in (1, 2):
            folder.mkdir()
            await until(lambda: len(looked) == generation)  # noqa: B023  awaited in this turn
            path.write_text(table(generation).to_text())
            await until(lambda: followed.generations[-1:] == [generation])  # noqa: B023  as above
            folder.rename(tmp_path / str(generation))
        following.cancel()

    run(story())


def test_the_links_of_a_mounted_config_map_are_followed(tmp_path: Path) -> None:
    """Kubelet swaps a link to another folder; the file's own link never changes."""

    def mounted(folder: str, generation: int) -> None:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "routes.json").write_text(table(generation).to_text())
        (tmp_path / "..data_tmp").symlink_to(folder)
        os.replace(tmp_path / "..data_tmp", tmp_path / "..data")  # noqa: PTH105  a link, not what it leads to

    async def story() -> None:
        followed = Followed()
        mounted("..2026_1", 1)
        path = tmp_path / "routes.json"
        path.symlink_to("..data/routes.json")
        following = asyncio.create_task(followed.follow(path))
        await until(lambda: followed.tables)
        mounted("..2026_2", 2)
        await until(lambda: len(followed.tables) == 2)
        following.cancel()
        assert followed.generations == [1, 2]

    run(story())


def test_a_file_written_in_place_is_not_read_half_way(tmp_path: Path) -> None:
    """A person's editor, or a shell's redirection, writes piece by piece."""

    async def story() -> None:
        path, followed = tmp_path / "routes.json", Followed()
        path.write_text(table(1).to_text())
        following = asyncio.create_task(followed.follow(path))
        await until(lambda: followed.tables)
        text = table(2).to_text()
        with path.open("w") as file:
            for piece in (text[:100], text[100:200], text[200:]):
                file.write(piece)
                file.flush()
                await asyncio.sleep(table_file.LOOK_S / 2)
        await until(lambda: len(followed.tables) == 2)
        following.cancel()
        assert followed.refusals == []

    run(story())


def test_a_file_that_is_bad_or_gone_leaves_the_table_and_is_obeyed_again_once_good(tmp_path: Path) -> None:
    """Whatever happens to the file, the router serves on."""

    async def story() -> None:
        path, followed = tmp_path / "routes.json", Followed()
        following = asyncio.create_task(followed.follow(path))
        await until(lambda: followed.refusals)
        replaced(path, table(1).to_text())
        await until(lambda: followed.tables)
        replaced(path, "{")
        await until(lambda: len(followed.refusals) == 2)
        path.unlink()
        await until(lambda: len(followed.refusals) == 3)
        replaced(path, table(2).to_text())
        await until(lambda: len(followed.tables) == 2)
        following.cancel()
        assert followed.refusals[0] == f"{path} cannot be read: No such file or directory"
        assert followed.refusals[1].startswith("routes is not JSON")
        assert followed.refusals[2] == followed.refusals[0]

    run(story())


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        pytest.param(b"\xff", "must be UTF-8 text", id="not text"),
        pytest.param(b" " * (table_file.MAX_BYTES + 1), "must not be larger than 1048576 bytes", id="too large"),
        pytest.param(None, "cannot be read: Is a directory", id="a folder"),
    ],
)
def test_what_is_no_text_is_an_offer_with_a_problem(tmp_path: Path, data: bytes | None, problem: str) -> None:
    """It is refused like a table that means nothing, and named."""

    async def story() -> None:
        path = tmp_path / "routes.json"
        path.mkdir() if data is None else path.write_bytes(data)
        async with aclosing(offers(path)) as found:
            assert await anext(found) == Offer(problem=f"{path} {problem}")

    run(story())


def test_a_file_that_is_touched_is_the_same_offer(tmp_path: Path) -> None:
    """A deployment tool that writes the same again changes nothing."""

    async def story() -> None:
        path, followed = tmp_path / "routes.json", Followed()
        path.write_text(table(1).to_text())
        following = asyncio.create_task(followed.follow(path))
        await until(lambda: followed.tables)
        replaced(path, table(1).to_text())
        await asyncio.sleep(4 * table_file.LOOK_S)
        replaced(path, table(2).to_text())
        await until(lambda: len(followed.tables) == 2)
        following.cancel()
        assert followed.generations == [1, 2]

    run(story())
