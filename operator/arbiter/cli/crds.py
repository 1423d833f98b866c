"""`arbiter crds`: writes everything that is generated from the kinds, or says what has drifted from them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from arbiter.api import crd, reference
from arbiter.cli import reasons_page
from arbiter.errors import InvalidInputError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path


def generated() -> dict[str, str]:
    """Give every generated file's text, by its path from the repository's root."""
    crds = crd.definitions()
    files = {f"crds/{plural}.yaml": crd.to_yaml(made) for plural, made in crds.items()}
    files |= {
        f"charts/arbiter/templates/crds/{plural}.yaml": crd.to_chart_template(made) for plural, made in crds.items()
    }
    return {
        **files,
        "docs/reference/api.md": reference.to_markdown(crds),
        "docs/reference/reasons.md": reasons_page.to_markdown(),
    }


def drifted(root: Path, files: dict[str, str]) -> list[str]:
    """Give the paths whose text below `root` is not what would be generated."""
    return [path for path, text in files.items() if not (root / path).is_file() or (root / path).read_text() != text]


def run(arguments: argparse.Namespace) -> int:
    """Print, check or write, and give the exit code: 1 when files have drifted.

    Raises:
        InvalidInputError: the folder is not a checkout of Arbiter.
    """
    if arguments.print:
        sys.stdout.write("---\n".join(crd.to_yaml(made) for made in crd.definitions().values()))
        return 0
    root: Path = arguments.root
    if not (root / "operator" / "arbiter").is_dir():
        raise InvalidInputError("--root", f"{root} is no checkout of Arbiter; use --print for the definitions alone")
    files = generated()
    stale = drifted(root, files)
    if arguments.check:
        for path in stale:
            print(f"{path} differs from what operator/arbiter/api says; run `arbiter crds` and commit it")
        print(f"{len(files) - len(stale)} of {len(files)} generated files are in sync")
        return 1 if stale else 0
    for path in stale:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(files[path])
        print(f"wrote {path}")
    print(f"{len(files)} generated files are in sync")
    return 0
