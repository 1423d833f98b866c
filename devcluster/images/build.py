"""Builds the images that are missing, and says where they lie.

Each is built once per state of its inputs, with the container engine that answers or with none, and kept in the user's
cache as one archive. Nothing else is left, whatever ends a build.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

from devcluster import caching, debian, engine
from devcluster.images import builders, built, inputs, recipes, store, tools
from devcluster.images.builders import Building
from devcluster.images.recipes import NAMES, recipe
from devcluster.waiting import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from devcluster.build import Report
    from devcluster.images.builders import Builder
    from devcluster.images.recipes import Recipe

NEEDED = 3 * 10**9
"""Bytes of disk for building: the archives and what they are made from 1 GB, the largest image's storage the rest."""


def ensure(names: Sequence[str] = NAMES, *, install: bool, report: Report) -> Mapping[str, Path]:
    """Build the images that are missing and give the archives of all; `install` allows Debian packages for it."""
    archives = {name: built.place(recipe(name)) for name in dict.fromkeys(names)}
    missing = [recipe(name) for name, archive in archives.items() if not archive.exists()]
    for name, archive in archives.items():
        if recipe(name) not in missing:
            store.mark_used(archive)
            report(f"{recipe(name).reference} is up to date")
    if missing:
        found = engine.find()
        builder = builders.choose(found, platform=sys.platform, uid=os.geteuid())
        debian.require(builder.debian, install=install, report=report)
        with (
            caching.locked(store.root(), "waits for another build of images", report),
            caching.scratch(store.root()) as room,
        ):
            store.check_disk(NEEDED)
            count = "1 image" if len(missing) == 1 else f"{len(missing)} images"
            report(f"builds {count} into {store.root()}, {_how(builder, found)}")
            archives |= _build(missing, builder, room, install=install, report=report)
    return archives


def _how(builder: Builder, found: engine.Engine) -> str:
    if isinstance(builder, builders.WithEngine):
        return f"with {builder.program}"
    return f"without a container engine ({found.silence})"


def _build(
    missing: Sequence[Recipe], builder: Builder, room: Path, *, install: bool, report: Report
) -> dict[str, Path]:
    archives = {}
    for number, one in enumerate(missing, start=1):
        watch = Stopwatch()
        kept = archives[one.name] = built.place(one)  # now: an edit meanwhile is another image
        if kept.exists():
            report(f"[{number}/{len(missing)}] {one.reference} was built meanwhile")
            continue
        corner = room / one.name
        corner.mkdir()
        made = _one(one, builder, corner, install=install, report=report)
        size = made.stat().st_size / 1e6
        store.keep(made, kept)
        shutil.rmtree(corner)  # room for the next one
        report(f"[{number}/{len(missing)}] {one.reference} {watch.seconds():.0f} s, {size:.0f} MB")
    return archives


def _one(one: Recipe, builder: Builder, corner: Path, *, install: bool, report: Report) -> Path:
    """Build one image and give its archive."""
    context = corner / "context"
    context.mkdir()
    for made_from in one.inputs:
        inputs.lay_out(made_from, context, corner, install=install, report=report)
    arguments = one.build_arguments
    if builder.uses_bases:
        bases = ((argument, inputs.base(base, name, corner)) for argument, name, base in one.bases)
        arguments = (*arguments, *bases)
    output = corner / "output"
    output.mkdir()
    building = Building(one.reference, recipes.ROOT / one.dockerfile, context, arguments, output)
    for command in builder.commands(building):
        tools.run(command, f"build {one.reference}")
    return building.archive
