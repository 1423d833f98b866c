"""The security settings of our own containers: the restricted level of Kubernetes' pod security standards, and more.

Rule: nothing runs as root, gains rights or writes to its own image; what has to be written goes to a volume.
"""

from __future__ import annotations

from typing import Any, Final

USER: Final = 65532
"""The user of all our images; a volume's group is the same, so that it can be written."""


def pod_security() -> dict[str, Any]:
    """Give the settings of a pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


LAST_WORDS: Final = "FallbackToLogsOnError"
"""What a container leaves when it fails: the end of its log, so that nobody has to be let read logs for it."""


def container_security() -> dict[str, Any]:
    """Give the settings of each of its containers."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
