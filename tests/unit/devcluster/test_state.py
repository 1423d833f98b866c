"""The state: reads back as it was written, is old or new and nothing between, and is not guessed at."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from devcluster.errors import DevclusterError
from devcluster.native import kernel
from devcluster.native.processes import Process
from devcluster.native.state import Journal, State, directory

FULL = State(
    provider="native",
    is_complete=True,
    nodes=2,
    gpu_nodes=(2,),
    archives=("/images/web.tar",),
    control_group="arbiter-devcluster",
    links=("arbiter-node-1",),
    directories=("/var/lib/kubelet", "/run/containerd"),
    kernel_settings={"vm/overcommit_memory": "0"},
    processes={"etcd": Process(12, 3456, "boot"), "kubelet": Process(13, 3457, "boot")},
)

LISTS: dict[str, list[str]] = {"links": [], "directories": [], "gpu_nodes": [], "archives": []}


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Give a journal in a directory that is not there yet."""
    return Journal(tmp_path / "state" / "state.json")


@pytest.mark.parametrize("state", [pytest.param(State(), id="an empty one"), pytest.param(FULL, id="a full one")])
def test_a_state_reads_back_as_it_was_written(journal: Journal, state: State) -> None:
    """`down` undoes what is read, so nothing may get lost on the way."""
    journal.write(state)

    assert journal.read() == state
    assert journal.exists()


def test_without_a_file_nothing_was_done(journal: Journal) -> None:
    """The first `up` and the second `down` start from here."""
    assert not journal.exists()
    assert journal.read() == State()


def test_a_note_changes_what_it_names_and_keeps_the_rest(journal: Journal) -> None:
    """Each step writes down its own part."""
    journal.write(FULL)

    journal.note(is_complete=False, links=())

    assert journal.read() == State(**{**vars(FULL), "is_complete": False, "links": ()})


def test_processes_come_and_go_by_component() -> None:
    """A component that is started again replaces its last process."""
    again = Process(99, 1, "boot")

    assert FULL.with_process("etcd", again).processes == {"etcd": again, "kubelet": Process(13, 3457, "boot")}
    assert FULL.without_processes("etcd").processes == {"kubelet": Process(13, 3457, "boot")}
    assert FULL.without_processes("etcd", "kubelet").processes == {}
    assert FULL.without_processes("never started") == FULL


def test_a_write_that_was_cut_short_leaves_the_last_state(journal: Journal) -> None:
    """A killed `up` leaves a draft beside the file; the next one reads the file and writes over the draft."""
    journal.write(FULL)
    journal.path.with_suffix(".new").write_text('{"version": 1, "prov')

    assert journal.read() == FULL
    journal.write(State())
    assert journal.read() == State()
    assert sorted(path.name for path in journal.path.parent.iterdir()) == ["state.json"]


@pytest.mark.parametrize(
    ("content", "want"),
    [
        pytest.param("", "is not readable", id="nothing"),
        pytest.param('{"version": 2', "is not readable", id="half a document"),
        pytest.param('{"version": 2}', "does not hold a state", id="no fields"),
        pytest.param("[]", "does not hold a state", id="a list"),
        pytest.param(
            json.dumps({"version": 2, **LISTS, "processes": {"etcd": {"pid": 1}}}),
            "does not hold a state",
            id="a process without a start time",
        ),
        pytest.param('{"version": 1}', "has version 1, not 2", id="an earlier form"),
        pytest.param('{"version": 3}', "has version 3, not 2", id="a later form"),
    ],
)
def test_a_file_that_is_no_state_is_refused(journal: Journal, content: str, want: str) -> None:
    """Guessing could end somebody else's process; the message names the file."""
    journal.path.parent.mkdir()
    journal.path.write_text(content)

    with pytest.raises(DevclusterError, match=re.escape(str(journal.path))) as refused:
        journal.read()
    assert want in str(refused.value)


@pytest.mark.parametrize(
    ("environment", "want"),
    [
        pytest.param({}, "/var/lib/arbiter-devcluster", id="the machine's by default"),
        pytest.param({"XDG_STATE_HOME": "/srv/state"}, "/srv/state/arbiter-devcluster", id="where the user says"),
        pytest.param({"XDG_STATE_HOME": "state"}, "/var/lib/arbiter-devcluster", id="a relative path is ignored"),
    ],
)
def test_the_state_directory_follows_the_environment(environment: dict[str, str], want: str) -> None:
    """As the XDG base directory specification has it: a relative path is as good as none."""
    assert directory(environment) == Path(want)


@pytest.mark.parametrize(
    ("now", "want"),
    [
        pytest.param("10", "1", id="what the kubelet set is put back"),
        pytest.param("30", "30", id="what somebody has changed since is left"),
        pytest.param("1", "1", id="what never changed stays"),
    ],
)
def test_kernel_settings_are_put_back(tmp_path: Path, now: str, want: str) -> None:
    """The kubelet sets them for the whole machine, and the machine outlives the cluster."""
    setting = tmp_path / "kernel" / "panic"
    setting.parent.mkdir()
    setting.write_text("1\n")
    before = kernel.read(tmp_path)
    assert before == {"kernel/panic": "1"}

    setting.write_text(f"{now}\n")
    kernel.restore(before, tmp_path)

    assert setting.read_text().strip() == want
