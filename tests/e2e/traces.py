"""Lists everything of a machine that the cluster could leave something in, to compare before with after."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from devcluster.build import place
from devcluster.native import cgroups, kernel
from devcluster.native.layout import CONTROL_GROUP, MASKED
from devcluster.native.state import directory
from devcluster.programs import NATIVE
from tests.e2e.running import run, said

STATE = directory(os.environ)


def traces() -> dict[str, Any]:
    """Give everything of the machine that the cluster could leave something in."""
    groups = cgroups.hierarchies(Path("/proc/self/mountinfo").read_text())
    return {
        "mounts": sorted(line.split(" ", 1)[1] for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        "links": [link["ifname"] for link in json.loads(said(run("ip", "-json", "link")))],
        "routes": json.loads(said(run("ip", "-json", "route", "show", "table", "all"))),
        "rules": said(run("nft", "list", "ruleset")),
        "control groups": [str(path) for mount in groups for path in mount.rglob(f"{CONTROL_GROUP}*")],
        "kernel settings": kernel.read(),
        "directories": [path for path in (*MASKED, str(STATE)) if Path(path).exists()],
        "processes": ours(),
    }


def ours() -> list[str]:
    """Give the command lines of processes that are in our control group, run a cluster's programs or know our state."""
    found, programs = [], {str(place(program)) for program in NATIVE}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                group = (process / "cgroup").read_text()
                program = str((process / "exe").readlink())
            except OSError:
                continue
            if CONTROL_GROUP in group or str(STATE) in line or program in programs:
                found.append(line)
    return found
