"""Gives the cluster dynamic volumes: local-path-provisioner, with a directory of every node as the default class.

A volume is a directory on the node whose pod asks for it first, made and removed by a short pod on that node. All of
it lies under the state directory.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devcluster import nodes
from devcluster.errors import DevclusterError
from devcluster.images.archive import Image

if TYPE_CHECKING:
    from devcluster.native.layout import Layout

PACKAGES = frozenset({"busybox-static"})
"""Debian packages that must be there: the short pods need a shell, mkdir and rm, in an image that holds no more."""

NAMESPACE = "local-path-storage"
"""Its namespace, named as its makers name it. It may run privileged pods: the short ones see the node's directory."""

_NAME = "local-path-provisioner"
_LABELS = {"app": _NAME}
_IMAGE = "devcluster.local/local-path-provisioner:1"
_TOOLS_IMAGE = "devcluster.local/busybox:1"

_BUSYBOX = (Path("/bin/busybox"), Path("/usr/bin/busybox"))
"""Where Debian puts it, on machines whose /bin is a directory and on those whose /bin is a link."""

_SETTINGS = "local-path-config"
_NO_PRIVILEGE = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}


def images(program: Path) -> tuple[Image, ...]:
    """Give the images around the provisioner, and around the tools of its short pods."""
    return Image(_IMAGE, {f"/{_NAME}": program}, (f"/{_NAME}",)), tools(_busybox())


def tools(busybox: Path) -> Image:
    """Give the image of the short pods: one program that goes by the name it is called by."""
    return Image(_TOOLS_IMAGE, {f"/bin/{name}": busybox for name in ("sh", "mkdir", "rm")}, ("/bin/sh",))


def manifests(layout: Layout) -> list[dict[str, Any]]:
    """Give everything that the provisioner consists of in the cluster."""
    return [
        _object("v1", "Namespace", {}, name=NAMESPACE, namespace=""),
        _object("v1", "ServiceAccount", {}),
        _object("v1", "ConfigMap", {"data": settings(layout)}, name=_SETTINGS),
        *_rights(),
        _object("apps/v1", "Deployment", {"spec": _deployment(layout.first.name)}),
        _storage_class(),
    ]


def settings(layout: Layout) -> dict[str, str]:
    """Give the provisioner's files: where each node that there may be keeps volumes, and what the short pods run."""
    places = [{"node": node.name, "paths": [str(node.volumes)]} for node in layout.nodes(nodes.MOST_NODES)]
    return {
        "config.json": json.dumps({"nodePathMap": places}),
        "helperPod.yaml": json.dumps(_short_pod()),
        # Whoever a pod runs as may write into its volume.
        "setup": 'mkdir -m 0777 -p "$VOL_DIR"\n',
        "teardown": 'rm -rf "$VOL_DIR"\n',
    }


def _busybox() -> Path:
    """Find the static busybox."""
    for path in _BUSYBOX:
        if path.exists():
            return path
    raise DevclusterError("missing: busybox; run `apt-get install busybox-static`, or allow it with --install")


def _rights() -> list[dict[str, Any]]:
    """Give what it may do: make volumes for claims anywhere, and run pods in its own namespace."""
    read, write = ["get", "list", "watch"], ["create", "delete", "patch", "update"]
    core = [("nodes", read), ("persistentvolumeclaims", read), ("persistentvolumes", read + write)]
    everywhere = [
        *({"apiGroups": [""], "resources": [resource], "verbs": verbs} for resource, verbs in core),
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
        {"apiGroups": ["storage.k8s.io"], "resources": ["storageclasses"], "verbs": read},
    ]
    here = [{"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": read + write}]
    group = "rbac.authorization.k8s.io"
    subjects = [{"kind": "ServiceAccount", "name": _NAME, "namespace": NAMESPACE}]
    rights = []
    for kind, rules, namespace in (("ClusterRole", everywhere, ""), ("Role", here, NAMESPACE)):
        bound = {"roleRef": {"apiGroup": group, "kind": kind, "name": _NAME}, "subjects": subjects}
        rights.append(_object(f"{group}/v1", kind, {"rules": rules}, namespace=namespace))
        rights.append(_object(f"{group}/v1", f"{kind}Binding", bound, namespace=namespace))
    return rights


def _deployment(node: str) -> dict[str, Any]:
    """Give the Deployment: one replica, as little privilege as the restricted level asks, on the node that stays."""
    container = {
        "name": _NAME,
        "image": _IMAGE,
        "imagePullPolicy": "Never",
        "args": [
            "start",
            "--config=/etc/local-path/config.json",
            "--helper-pod-file=/etc/local-path/helperPod.yaml",
            f"--namespace={NAMESPACE}",
            f"--service-account-name={_NAME}",
        ],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "volumeMounts": [{"name": "settings", "mountPath": "/etc/local-path", "readOnly": True}],
        "securityContext": _NO_PRIVILEGE,
    }
    pod = {
        "serviceAccountName": _NAME,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "nodeSelector": {"kubernetes.io/hostname": node},
        "tolerations": [nodes.GPU_TOLERATION],  # this one may be a GPU node
        "containers": [container],
        "volumes": [{"name": "settings", "configMap": {"name": _SETTINGS}}],
    }
    return {
        "replicas": 1,
        "selector": {"matchLabels": _LABELS},
        "template": {"metadata": {"labels": _LABELS}, "spec": pod},
    }


def _short_pod() -> dict[str, Any]:
    """Give the pod that makes or removes a directory: root, for files of whatever owner, and nothing else of root."""
    container = {
        "name": "helper-pod",  # its makers ask for the log of this container
        "image": _TOOLS_IMAGE,
        "imagePullPolicy": "Never",
        "securityContext": {
            **_NO_PRIVILEGE,
            "runAsUser": 0,
            "capabilities": {"drop": ["ALL"], "add": ["DAC_OVERRIDE", "FOWNER"]},
        },
    }
    spec = {
        "automountServiceAccountToken": False,
        "containers": [container],
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": 0,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "helper-pod"}, "spec": spec}


def _storage_class() -> dict[str, Any]:
    """Give the class: the default one, and a volume is made only once it is known where its first pod runs."""
    storage_class = _object(
        "storage.k8s.io/v1",
        "StorageClass",
        {
            "provisioner": "rancher.io/local-path",
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer",
        },
        name="local-path",
        namespace="",
    )
    storage_class["metadata"]["annotations"] = {"storageclass.kubernetes.io/is-default-class": "true"}
    return storage_class


def _object(
    version: str, kind: str, content: dict[str, Any], name: str = _NAME, namespace: str = NAMESPACE
) -> dict[str, Any]:
    """Give one object with its name."""
    metadata: dict[str, Any] = {"name": name, "labels": _LABELS} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **content}
