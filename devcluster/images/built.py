"""Says where the images that are built lie, and whether they are those that the checkout would make now.

Asking builds nothing, runs nothing and needs no root.
"""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster.errors import DevclusterError
from devcluster.images import inputs, recipes, store
from devcluster.images.builders import Building, WithoutEngine
from devcluster.images.recipes import Recipe, recipe

if TYPE_CHECKING:
    from collections.abc import Iterator


def archive(name: str) -> Path:
    """Give the archive of an image by its short name; raise where it is not built as the checkout is now."""
    path = place(recipe(name))
    if not path.exists():
        raise DevclusterError(f"not built: {name}; run `make image`, or `python -m devcluster.images {name}`")
    store.mark_used(path)
    return path


def place(one: Recipe) -> Path:
    """Where this state of an image is kept, or will be."""
    return store.place(one.name, key(one), ".tar")


def key(one: Recipe) -> str:
    """Say what an image is made from, in 16 hexadecimal digits: another input, another key.

    Who builds it has no part in it: with an engine or without one, it is the same Dockerfile.
    """
    digest = hashlib.sha256()
    for part in _parts(one):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def _parts(one: Recipe) -> Iterator[bytes]:
    yield platform.machine().encode()
    yield (recipes.ROOT / one.dockerfile).read_bytes()
    building = Building(one.reference, Path(), Path(), one.build_arguments, Path())
    yield repr([command.arguments for command in WithoutEngine().commands(building)]).encode()
    for made_from in (*one.inputs, *(base for _, _, base in one.bases)):
        yield inputs.key(made_from).encode()
