"""`arbiter operator`: decides what serves, in the pools of a cluster or of some namespaces."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from arbiter import settings

if TYPE_CHECKING:
    from collections.abc import Callable


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "operator",
        help="run the pools of a cluster",
        description="Run the pools of a cluster: model servers, routers, and which model serves which task.",
    )
    # Only here and in `run`, so that other commands need nothing of it.
    from arbiter.controller.options import Options  # noqa: PLC0415  as above

    default = Options()

    def setting(name: str, read: Callable[[str], object], help_text: str) -> None:
        settings.add_setting(
            parser,
            flag=name.replace("_", "-"),
            read=read,
            default=getattr(default, name),
            help_text=help_text,
            environ=os.environ,
        )

    setting("namespaces", settings.read_names, "the namespaces whose pools it serves, with commas; all by default")
    setting("namespace", settings.read_name, "the namespace that it runs in, where its Lease is")
    setting("identity", str, "what it is called, in the Lease and in events; the machine's name by default")
    setting("kubeconfig", Path, "how to reach the cluster from outside of it")
    setting("host", str, "the address of its port for probes and metrics")
    setting("port", settings.read_port, "that port")
    setting("log_format", _log_format, "json, one object a line, or text, for people")
    setting("cluster_domain", settings.read_domain, "the domain behind the names of Services")
    setting("image", settings.read_image, "the image of arbiter itself, for routers, resolvers and downloads")
    setting("llama_server_image", settings.read_image, "the image of LlamaCpp engines")
    setting("ollama_image", settings.read_image, "the image of Ollama engines")
    setting("vllm_image", settings.read_image, "the image of VLLM engines")
    setting("llama_server_gpu_image", settings.read_image, "the same with GPUs; without it LlamaCpp is refused there")
    setting("ollama_gpu_image", settings.read_image, "the same with GPUs; without it Ollama is refused there")
    setting("pull_policy", _pull_policy, "when a node pulls images: Always, IfNotPresent or Never")
    setting("plain_http", settings.read_registries, "registries of models that are asked without TLS, with commas")
    setting(
        "trust_config_map",
        settings.read_object_name,
        "the ConfigMap whose ca.crt holds further authorities for sources",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the operator until it is told to end."""
    from arbiter.controller.main import run as run_operator  # noqa: PLC0415  other commands need nothing of it
    from arbiter.controller.options import Options  # noqa: PLC0415  as above

    return run_operator(Options(**{name: getattr(arguments, name) for name in Options.__dataclass_fields__}))


def _log_format(text: str) -> str:
    if text not in {"json", "text"}:
        raise argparse.ArgumentTypeError(f"must be json or text, not {text!r}")
    return text


def _pull_policy(text: str) -> object:
    from arbiter.engines.runnable import PullPolicy  # noqa: PLC0415  as above

    if text not in set(PullPolicy):
        raise argparse.ArgumentTypeError(f"must be {', '.join(PullPolicy)}, not {text!r}")
    return PullPolicy(text)
