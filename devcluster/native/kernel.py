"""Puts back what the kubelet changes for the whole machine.

The kubelet sets a few kernel parameters when it starts and never resets them. Their values before it are remembered,
and restored when the cluster goes, except where somebody else has changed them since.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SET_BY_KUBELET: Mapping[str, str] = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""Values that the kubelet sets (k8s.io/component-helpers/node/util/sysctl, `DesiredKernelParameters` of its container
manager), by path under /proc/sys."""

_SETTINGS = Path("/proc/sys")


def read(settings: Path = _SETTINGS) -> dict[str, str]:
    """Give the present values."""
    return {name: (settings / name).read_text().strip() for name in SET_BY_KUBELET if (settings / name).exists()}


def restore(before: Mapping[str, str], settings: Path = _SETTINGS) -> None:
    """Put the values back that are still the kubelet's."""
    for name, value in before.items():
        now = (settings / name).read_text().strip()
        if now != value and now == SET_BY_KUBELET.get(name):
            (settings / name).write_text(value)
