"""What the tests of devcluster share: a small program in an image, put into the cluster from an archive."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from devcluster.images.archive import Image, write_archive
from tests.e2e.devcluster.pods import WEB
from tests.e2e.running import ROOT, Cluster, devcluster, run, said

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def web(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the program, load its image, and give the archive."""
    assert cluster.program
    room = tmp_path_factory.mktemp("web")
    compiler = ("go", "build", "-trimpath", "-ldflags=-s -w", "-o", str(room / "web"), "main.go")
    said(run(*compiler, cwd=ROOT / "tests/e2e/web", env=os.environ | {"CGO_ENABLED": "0", "GOFLAGS": ""}))
    write_archive(Image(WEB, {"/web": room / "web"}, ("/web",)), room / "web.tar")
    said(devcluster("load", str(room / "web.tar")))
    return room / "web.tar"


@pytest.fixture(scope="session")
def other_web(web: Path) -> Path:
    """Give an archive of the same program that is another image, to be pushed.

    A kubelet that has pulled an image lets no pod use it under a name that it did not pull it by, loaded or not.
    """
    (web.parent / "mark").write_text("another image\n")
    image = Image("devcluster.test/other-web:1", {"/web": web.parent / "web", "/mark": web.parent / "mark"}, ("/web",))
    write_archive(image, web.parent / "other-web.tar")
    return web.parent / "other-web.tar"
