"""Gives the commands that build an image from a Dockerfile: with a container engine, or with buildah and none.

Both take the same Dockerfile and the same context; pure values, so what cannot be run on a machine can be read there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from devcluster.errors import DevclusterError
from devcluster.images.recipes import SOURCE_DATE
from devcluster.images.tools import OFFLINE, Command

if TYPE_CHECKING:
    from pathlib import Path

    from devcluster.engine import Engine


_CONFINED = """set -e
mount -n -t tmpfs tmpfs /run      # where it keeps locks
mount -n --bind "$0" "$0"
mount -n --bind "$0" /var/tmp     # where it unpacks archives, whatever TMPDIR says
mount -n -o remount,bind,ro /
exec "$@"
"""
"""Runs a program that can write to one directory only: buildah would leave notes in /var/lib/containers, too."""


@dataclass(frozen=True)
class Building:
    """What is to be built.

    Attributes:
        reference: the image's full name.
        dockerfile: how.
        context: the directory that its COPY lines read.
        arguments: its build arguments.
        room: the one directory that is written to.
    """

    reference: str
    dockerfile: Path
    context: Path
    arguments: tuple[tuple[str, str], ...]
    room: Path

    @property
    def archive(self) -> Path:
        """Give the file that the image is put into."""
        return self.room / "image.tar"


@dataclass(frozen=True)
class WithEngine:
    """Docker or Podman builds; the Dockerfile's own base comes from its registry. The engine keeps the image, too."""

    program: str

    uses_bases = False
    """Whether root file systems must be made for it."""

    debian = ()
    """Debian packages that it needs."""

    def commands(self, building: Building) -> tuple[Command, ...]:
        """Give the commands, in order."""
        arguments = (*building.arguments, ("SOURCE_DATE_EPOCH", str(SOURCE_DATE)))
        build = (
            *(self.program, "build", f"--file={building.dockerfile}", f"--tag={building.reference}"),
            *(f"--build-arg={name}={value}" for name, value in arguments),
            str(building.context),
        )
        form = ("--format=oci-archive",) if self.program == "podman" else ()
        save = (self.program, "save", *form, f"--output={building.archive}", building.reference)
        # A record of who built it and when would be another image each time.
        return Command(self.program, build, {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}), Command(self.program, save)


@dataclass(frozen=True)
class WithoutEngine:
    """buildah builds, as root, in a storage that is thrown away; nothing it runs reaches a network."""

    uses_bases = True
    debian = ("buildah", "mmdebstrap")

    def commands(self, building: Building) -> tuple[Command, ...]:
        """Give the commands, in order."""
        storage = (f"--root={building.room}/storage", f"--runroot={building.room}/run", "--storage-driver=vfs")
        build = (
            "build",
            "--isolation=chroot",
            "--format=oci",
            f"--timestamp={SOURCE_DATE}",
            "--dns=none",
            "--http-proxy=false",
            "--identity-label=false",
            f"--file={building.dockerfile}",
            f"--tag={building.reference}",
            *(f"--build-arg={name}={value}" for name, value in building.arguments),
            str(building.context),
        )
        push = ("push", building.reference, f"oci-archive:{building.archive}:{building.reference}")
        return _buildah(building.room, *storage, *build), _buildah(building.room, *storage, *push)


def _buildah(room: Path, *arguments: str) -> Command:
    """Give a run of buildah that sees no setting of the user's and can write nowhere else."""
    where = str(room)
    environment = {"HOME": where, "TMPDIR": where, "XDG_RUNTIME_DIR": where}
    return Command(
        "buildah", (*OFFLINE, "sh", "-c", _CONFINED, where, "buildah", *arguments), environment, inherits=False
    )


Builder = WithEngine | WithoutEngine


def choose(engine: Engine, *, platform: str, uid: int) -> Builder:
    """Choose how images are built here: with the engine that answers, else without one.

    Raises:
        DevclusterError: there is no engine, and this user or system can do without one neither.
    """
    if engine.name:
        return WithEngine(engine.name)
    if not platform.startswith("linux"):
        raise DevclusterError(
            f"no container engine answers ({engine.silence}), and without one images are built on Linux only, while "
            f"this is {platform}; start Docker or Podman"
        )
    if uid != 0:
        raise DevclusterError(
            f"no container engine answers ({engine.silence}), and without one only root builds images; start Docker "
            "or Podman, or become root: sudo --preserve-env=HOME,PATH,XDG_CACHE_HOME make image"
        )
    return WithoutEngine()
