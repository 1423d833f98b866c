"""Images of a model server that does wrong on purpose (`engine/main.go`), and a model's file that is hardly there.

Each push has a tag of its own: a node keeps what it pulled once, and then no image is ever missing there again.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devcluster.images.archive import Image, write_archive
from devcluster.pushing import Registry
from tests.e2e.running import ROOT, run, said
from tests.e2e.serving import wishes
from tests.e2e.serving.wishes import REGISTRY
from tests.unit.fetch import gguf_example

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.serving.place import Place

PORT = 8000

QUIET: dict[str, Any] = {
    "router": {
        "replicas": 0,
        "limits": {"totalTimeout": "5s", "firstByteTimeout": "5s", "idleTimeout": "5s"},
    }
}
"""What a pool says that needs no routers. Its engines go within seconds: they sleep as long as an answer may take."""


@dataclass(frozen=True)
class OddEngine:
    """The images of one run.

    Attributes:
        tag: what sets this run's images apart.
        engine: the archive of the server.
        weights: the archive of the model's file.
        file: that file's content.
    """

    tag: str
    engine: Path
    weights: Path
    file: bytes

    @staticmethod
    def build(place: Place, folder: Path) -> OddEngine:
        """Make the images of one namespace's stories, and push them under the names that most of them use."""
        space = json.loads(said(place.cluster.kubectl("get", "namespace", place.namespace, "--output=json")))
        program, file = folder / "engine", folder / "model.gguf"
        compiler = ("go", "build", "-trimpath", "-ldflags=-s -w", "-o", str(program), "main.go")
        sources = ROOT / "tests/e2e/serving/engine"
        said(run(*compiler, cwd=sources, env=os.environ | {"CGO_ENABLED": "0", "GOFLAGS": ""}))
        file.write_bytes(gguf_example.model(64 * 1024))
        write_archive(Image("engine:1", {"/engine": program}, ("/engine",)), folder / "engine.tar")
        write_archive(Image("weights:1", {"/model.gguf": file}, ("/model.gguf",)), folder / "weights.tar")
        made = OddEngine(space["metadata"]["uid"][:8], folder / "engine.tar", folder / "weights.tar", file.read_bytes())
        made.push(made.engine, "engine")
        made.push(made.weights, "weights")
        return made

    def name(self, what: str, registry: str = REGISTRY) -> str:
        """Give the name of an image of this run, pushed or not."""
        return f"{registry}/stories/{what}:{self.tag}"

    def push(self, archive: Path, what: str, registry: str = REGISTRY, login: tuple[str, str] = ("", "")) -> None:
        """Push an archive under a name of this run."""
        Registry(registry, *login).push(archive, f"stories/{what}", self.tag)

    def does(self, *words: str, image: str = "", **engine: object) -> dict[str, Any]:
        """Give what a LocalModel says about this server: what it does, and in which image it is."""
        resources = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}}
        return {
            "type": "Custom",
            "image": image or self.name("engine"),
            "args": list(words),
            "port": PORT,
            "resources": resources,
            **engine,
        }

    def model(self, name: str, *words: str, **spec: object) -> dict[str, Any]:
        """Give a LocalModel of this server; without words it answers."""
        fields = {"source": f"oci://{self.name('weights')}", "engine": self.does(*(words or ("answer",))), **spec}
        return wishes.model(name, str(fields.pop("source")), **fields)
