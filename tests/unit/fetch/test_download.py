"""Downloads that break off, are resumed, and end in the right file or in none."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from arbiter.engines.sources import HttpsSource
from arbiter.fetch import target as target_module
from arbiter.fetch.download import ATTEMPTS, Wanted, download
from arbiter.fetch.failures import FailureCode, SourceError
from arbiter.fetch.fetch import Fetched, FetchOptions, fetch
from arbiter.fetch.hub import digest_of
from arbiter.fetch.progress import Progress, State, told
from arbiter.fetch.resolve import Access
from arbiter.fetch.result import SourceFile
from arbiter.fetch.single_files import address
from arbiter.fetch.target import Record, Shelf, Target, locked
from arbiter.fetch.web import Web
from tests.unit.fetch.stand_in import File, serving, sha256
from tests.unit.fetch.test_resolve import Hub, Pauses, Registry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.fetch.stand_in import Handler

CONTENT = bytes(number * 31 % 253 for number in range(3_000_000))


def get(
    file: Handler, path: Path, content: bytes = CONTENT, progress: Progress | None = None, pauses: Pauses | None = None
) -> bool:
    """Download a stand-in's file, which should have a content, and say whether it was."""

    async def run() -> bool:
        async with serving(file) as host, Web.opened((host,), 5.0, 5.0) as asking:
            opener = address(asking, HttpsSource(f"http://{host}/m", "m"), "")
            wanted = Wanted("m", opener, None, sha256(content))
            shown = progress or Progress(lambda: 0.0)
            return await download(wanted, Target(path), shown, (pauses or Pauses()).pace)

    return asyncio.run(run())


def beside(path: Path) -> set[str]:
    """Give the names of what lies beside a file."""
    return {one.name for one in path.parent.iterdir()} - {path.name}


def test_a_file_gets_its_name_once_it_is_whole(tmp_path: Path) -> None:
    """Nothing is left of the way there, and the next time nothing is asked."""
    file, path, progress = File(CONTENT), tmp_path / "m", Progress(lambda: 0.0)

    assert get(file, path, progress=progress) is True
    assert path.read_bytes() == CONTENT
    assert beside(path) == {".m.verified.json"}
    assert (progress.bytes, progress.total) == (len(CONTENT), len(CONTENT))
    assert get(file, path) is False
    assert len(file.asked) == 1


def test_what_broke_off_goes_on_where_it_ended(tmp_path: Path) -> None:
    """Twice in the middle; nothing that came is asked for again."""
    file, path, pauses = File(CONTENT, cuts=[1_000_000, 1_200_000]), tmp_path / "m", Pauses()

    assert get(file, path, pauses=pauses) is True
    assert path.read_bytes() == CONTENT
    starts = [int(asked.removeprefix("bytes=").rstrip("-") or 0) for asked in file.asked]
    assert starts == sorted(starts)
    assert 0 == starts[0] < starts[1] < starts[2] <= 2_200_000
    assert pauses.asked == [1.0, 1.0]  # each brought something, so the count of failures began anew


def test_another_process_goes_on_as_well(tmp_path: Path) -> None:
    """A pod that was killed leaves a part, and what it is a part of."""
    path = tmp_path / "m"
    part = Target(path)
    part.partial.write_bytes(CONTENT[:1000])
    part.begin(Record(f"sha256:{sha256(CONTENT)}", len(CONTENT), '"one"'))
    file = File(CONTENT)

    assert get(file, path) is True
    assert file.asked == ["bytes=1000-"]
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(Record("sha256:" + "0" * 64, 5), id="of another file"),
        pytest.param(None, id="of nobody knows what"),
    ],
)
def test_a_part_of_something_else_is_thrown_away(tmp_path: Path, part: Record | None) -> None:
    """It would only be found out in the end."""
    path = tmp_path / "m"
    Target(path).partial.write_bytes(b"other")
    if part:
        Target(path).begin(part)
    file = File(CONTENT)
    assert get(file, path) is True
    assert file.asked == [""]


@pytest.mark.parametrize(
    ("file", "want"),
    [
        pytest.param(File(CONTENT, ranges=False), 1, id="ranges ignored"),
        pytest.param(File(CONTENT, etag='"two"'), 1, id="changed since"),
        pytest.param(File(CONTENT, statuses=[416]), 2, id="range refused"),
    ],
)
def test_a_server_that_begins_anew_gives_the_right_file(tmp_path: Path, file: File, want: int) -> None:
    """What was there is written over."""
    path = tmp_path / "m"
    Target(path).partial.write_bytes(b"x" * 1000)
    Target(path).begin(Record(f"sha256:{sha256(CONTENT)}", None, '"one"'))

    assert get(file, path) is True
    assert path.read_bytes() == CONTENT
    assert len(file.asked) == want


def test_a_damaged_part_gets_one_more_chance(tmp_path: Path) -> None:
    """A node that lost power may have written anything."""
    path = tmp_path / "m"
    Target(path).partial.write_bytes(b"x" * 1000)
    Target(path).begin(Record(f"sha256:{sha256(CONTENT)}", len(CONTENT), '"one"'))
    file = File(CONTENT)

    assert get(file, path) is True
    assert file.asked == ["bytes=1000-", ""]
    assert path.read_bytes() == CONTENT


def test_a_wrong_sum_leaves_nothing_and_says_both_sums(tmp_path: Path) -> None:
    """The file before stays, whoever reads it."""
    path = tmp_path / "m"
    path.write_bytes(b"before")

    with pytest.raises(SourceError, match=f"sha256:{sha256(CONTENT)}, not sha256:{sha256(b'right')}") as failed:
        get(File(CONTENT), path, b"right")
    assert (failed.value.code, failed.value.transient) == (FailureCode.SumMismatch, False)
    assert path.read_bytes() == b"before"
    assert beside(path) == set()


def test_a_file_that_is_there_already_is_recognized_by_its_sum(tmp_path: Path) -> None:
    """Somebody may have put it there; a changed one is fetched again."""
    path, file = tmp_path / "m", File(CONTENT)
    path.write_bytes(CONTENT)
    assert get(file, path) is False
    assert file.asked == []

    path.write_bytes(b"touched")
    assert get(file, path) is True
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("file", "want", "asked"),
    [
        pytest.param(File(CONTENT, statuses=[503] * 99), FailureCode.SourceUnreachable, ATTEMPTS, id="fails always"),
        pytest.param(File(CONTENT, statuses=[404]), FailureCode.SourceNotFound, 1, id="is gone"),
        pytest.param(File(CONTENT, cuts=[0] * 99), FailureCode.SourceUnreachable, ATTEMPTS, id="sends nothing"),
        pytest.param(File(CONTENT, claimed=100), FailureCode.SumMismatch, 1, id="claims fewer bytes"),
    ],
)
def test_trouble_ends(tmp_path: Path, file: File, want: FailureCode, asked: int) -> None:
    """After so many attempts without a byte, or at once where no time mends it."""
    with pytest.raises(SourceError) as failed:
        get(file, tmp_path / "m")
    assert failed.value.code == want
    assert len(file.asked) == asked
    assert not (tmp_path / "m").exists()


def test_a_server_may_say_when_to_come_back(tmp_path: Path) -> None:
    """Its word wins over our pace."""
    pauses = Pauses()
    get(File(CONTENT, statuses=[429], headers={"Retry-After": "33"}), tmp_path / "m", pauses=pauses)
    assert pauses.asked == [33.0]


def test_too_little_space_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both figures stand in the message."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 10))  # noqa: SLF001  the real type
    with pytest.raises(SourceError, match=r"3000000 bytes more are needed in .*, 10 are free there") as failed:
        get(File(CONTENT), tmp_path / "m")
    assert failed.value.code == FailureCode.NoSpace


def test_a_volume_that_fills_up_is_named(tmp_path: Path) -> None:
    """Others write to it as well."""
    with pytest.raises(SourceError) as full, target_module.disk(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(SourceError) as broken, target_module.disk(tmp_path):
        raise OSError(errno.EROFS, "Read-only file system")
    assert (full.value.code, broken.value.code) == (FailureCode.NoSpace, FailureCode.VolumeFailed)


def test_a_download_that_is_told_to_end_can_be_resumed(tmp_path: Path) -> None:
    """What came is on the disk, with what it is a part of."""
    path, half = tmp_path / "m", asyncio.Event()

    async def stalls(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"ETag": '"one"', "Content-Length": str(len(CONTENT))})
        await answer.prepare(request)
        await answer.write(CONTENT[:2_000_000])
        half.set()
        await asyncio.sleep(60)
        return answer

    async def run() -> None:
        async with serving(stalls) as host, Web.opened((host,)) as asking:
            wanted = Wanted("m", address(asking, HttpsSource(f"http://{host}/m", "m"), ""), None, sha256(CONTENT))
            progress = Progress(lambda: 0.0)
            work = asyncio.ensure_future(download(wanted, Target(path), progress, Pauses().pace))
            await half.wait()
            while not progress.bytes:  # noqa: ASYNC110  what is waited for is a figure
                await asyncio.sleep(0.01)
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work

    asyncio.run(run())
    there, validator = Target(path).unfinished(f"sha256:{sha256(CONTENT)}")
    assert (there > 0, validator) == (True, '"one"')
    file = File(CONTENT)
    assert get(file, path) is True
    assert file.asked == [f"bytes={there}-"]


def test_who_comes_second_waits_and_says_so(tmp_path: Path) -> None:
    """Two pods on one claim do not write into one file."""
    order: list[str] = []

    async def one(name: str, inside: asyncio.Event) -> None:
        async def soon(_: float) -> None:
            inside.set()
            await asyncio.sleep(0)

        async with locked(tmp_path / "m", lambda: order.append(f"{name} waits"), soon):
            order.append(f"{name} in")
            await inside.wait()
            order.append(f"{name} out")

    async def both() -> None:
        inside = asyncio.Event()
        await asyncio.gather(one("first", inside), one("second", inside))

    asyncio.run(both())
    assert order == ["first in", "second waits", "first out", "second in", "second out"]


def test_progress_tells_rate_and_time_left() -> None:
    """The rate is of the last half minute, and what was there before is none of it."""
    now = [0.0]
    progress = Progress(lambda: now[0], total=1000)
    progress.state = State.DOWNLOADING
    progress.jump(100)
    for second in range(1, 41):
        now[0] = float(second)
        progress.add(10)

    assert progress.as_json() == {"bytes": 500, "total": 1000, "rate": 10, "etaSeconds": 50, "state": "downloading"}
    progress.state = State.WAITING
    assert progress.as_json()["rate"] == 0
    assert progress.as_json()["etaSeconds"] is None


def test_progress_is_told_over_http() -> None:
    """The operator reads it from outside of the pod."""

    async def ask() -> tuple[Any, str]:
        async with told(Progress(lambda: 0.0), "127.0.0.1", 0) as port, Web.opened(("127.0.0.1",)) as asking:
            body, _ = await asking.document(f"http://127.0.0.1:{port}/progress")
            alive, _ = await asking.document(f"http://127.0.0.1:{port}/healthz")
            return json.loads(body), alive.decode()

    report, alive = asyncio.run(ask())
    assert report == {"bytes": 0, "total": None, "rate": 0, "etaSeconds": None, "state": "resolving"}
    assert alive == "ok\n"


def test_a_port_that_is_taken_is_said() -> None:
    """Two containers of a pod share its ports."""

    async def twice() -> None:
        first = Progress(lambda: 0.0)
        async with told(first, "127.0.0.1", 0) as port, told(first, "127.0.0.1", port):
            pass

    with pytest.raises(SourceError) as failed:
        asyncio.run(twice())
    assert failed.value.code == FailureCode.PortTaken


def fetched(handler: Handler, source: str, digest: str, to: Path, **options: Any) -> Fetched:  # noqa: ANN401  fields of FetchOptions
    """Fetch from a stand-in whose address takes the place of HOST."""

    async def run() -> Fetched:
        async with serving(handler) as host:
            access = Access(plain_http=(host,), hub=f"http://{host}")
            told_to = FetchOptions(
                source.replace("HOST", host), digest, to, access=access, progress_port=None, **options
            )
            return await fetch(told_to, Progress(lambda: 0.0), Pauses().pace)

    return asyncio.run(run())


def nobody(_: web.Request) -> Any:  # noqa: ANN401  never called for its value
    """Fail whoever asks."""
    raise AssertionError


def test_a_repository_of_a_hub_comes_whole_and_once(tmp_path: Path) -> None:
    """Small files are checked by git's sum; the second time nobody is asked."""
    hub, to = Hub({"model.safetensors": CONTENT, "a/config.json": b"{}"}), tmp_path / "repository"
    large, small = (hub.listed(name, content) for name, content in hub.files.items())
    listed = [
        SourceFile("a/config.json", 2, "", small["blobId"]),
        SourceFile("model.safetensors", len(CONTENT), large["lfs"]["sha256"]),
    ]
    digest = digest_of(listed)

    assert fetched(hub, "hf://o/r", digest, to) == Fetched(2, 2, len(CONTENT) + 2)
    assert (to / "model.safetensors").read_bytes() == CONTENT
    assert (to / "a" / "config.json").read_bytes() == b"{}"
    assert fetched(nobody, "hf://o/r", digest, to) == Fetched(2, 0, len(CONTENT) + 2)

    with pytest.raises(SourceError) as moved:
        fetched(hub, "hf://o/r", "sha256:" + "0" * 64, to)
    assert moved.value.code == FailureCode.SourceMoved


def test_a_file_of_a_hub_is_the_target_itself(tmp_path: Path) -> None:
    """A given sum must be the one that the hub names."""
    hub = Hub({"q/m.gguf": CONTENT})
    digest = f"sha256:{sha256(CONTENT)}"
    assert fetched(hub, "hf://o/r/q/m.gguf", digest, tmp_path / "m.gguf") == Fetched(1, 1, len(CONTENT))
    assert (tmp_path / "m.gguf").read_bytes() == CONTENT
    with pytest.raises(SourceError) as wrong:
        fetched(hub, "hf://o/r/q/m.gguf", digest, tmp_path / "other", sha256="0" * 64)
    assert wrong.value.code == FailureCode.SumMismatch


def registry_with(content: bytes, layer_kind: str) -> tuple[Registry, str]:
    """Give a registry with a model of one layer, and the manifest's digest."""
    registry = Registry()
    image = registry.image([registry.add(content, layer_kind)], "1")
    return registry, image["digest"]


def test_the_weights_of_an_ollama_model_come_by_their_sum(tmp_path: Path) -> None:
    """The tag must still mean what was resolved."""
    registry, digest = registry_with(CONTENT, "application/vnd.ollama.image.model")
    assert fetched(registry, "ollama://HOST/library/m:1", digest, tmp_path / "m") == Fetched(1, 1, len(CONTENT))
    with pytest.raises(SourceError) as moved:
        fetched(registry, "ollama://HOST/library/m:1", "sha256:" + "0" * 64, tmp_path / "m")
    assert moved.value.code == FailureCode.SourceMoved


@pytest.mark.parametrize(
    ("kind", "want"),
    [
        pytest.param("application/vnd.docker.ai.gguf.v3", None, id="an artefact of files"),
        pytest.param("application/vnd.oci.image.layer.v1.tar", FailureCode.SourceInvalid, id="an image"),
    ],
)
def test_an_artefact_is_fetched_and_an_image_is_mounted(tmp_path: Path, kind: str, want: FailureCode | None) -> None:
    """A runtime unpacks layers itself, and better."""
    registry, digest = registry_with(CONTENT, kind)
    if want is None:
        assert fetched(registry, "oci://HOST/m:1", digest, tmp_path / "m").downloaded == 1
        return
    with pytest.raises(SourceError) as failed:
        fetched(registry, "oci://HOST/m:1", digest, tmp_path / "m")
    assert failed.value.code == want


def test_time_runs_out_with_a_word(tmp_path: Path) -> None:
    """What came stays."""

    async def stalls(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    with pytest.raises(SourceError) as failed:
        fetched(stalls, "ollama://HOST/library/m:1", "sha256:" + "0" * 64, tmp_path / "m", total_s=0.2)
    assert failed.value.code == FailureCode.DeadlinePassed


def test_a_shelf_with_a_touched_file_is_not_whole(tmp_path: Path) -> None:
    """Its time or its size tells."""
    shelf = Shelf(tmp_path / "m")
    target = shelf.target("")
    target.path.write_bytes(b"abc")
    target.keep("sha256:x")
    shelf.keep("sha256:d", {"": "sha256:x"})
    assert shelf.there("sha256:d") == {"": "sha256:x"}
    assert shelf.there("sha256:e") is None
    os.utime(target.path, ns=(1, 1))
    assert shelf.there("sha256:d") is None
