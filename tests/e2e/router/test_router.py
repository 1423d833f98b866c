"""A router in front of two real models: real clients are served, and traffic moves without a failed request.

The router runs in a pod by exactly the role that it needs and follows its ConfigMap, as in production. The clients are
on the host; half of them stream across every step.
"""

from __future__ import annotations

import json
import re
import urllib.request
from typing import TYPE_CHECKING, Any

import ollama
import openai
import pytest

from arbiter.api.localmodel import EngineType
from arbiter.core.routes import Backend, Hold, Limits, RouteTable, Target, Task
from arbiter.core.traffic import Side
from arbiter.kubeapi.access import router_rules
from devcluster.images.recipes import reference
from devcluster.waiting import wait_until
from tests.e2e.engines import answers, llama_server
from tests.e2e.running import RESTRICTED, Cluster, said
from tests.traffic.driver import Load, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.cluster

TABLE = "chat-routes"
OLD, NEW = "0a0a0a0a0a", "1b1b1b1b1b"
STEPS = (10, 50, 100, 0)
QUESTION = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]
REQUESTS = 60
"""Requests that end at each weight before the next one comes."""


def table(generation: int, weight: int) -> RouteTable:
    """The table in which the new side has this weight."""
    new = Target(Side.NEW, Backend(NEW, "gemma3-270m", EngineType.LlamaCpp, "llama-gemma3-270m"), weight)
    old = Target(Side.OLD, Backend(OLD, "smollm2", EngineType.LlamaCpp, "llama-smollm2"), 100 - weight)
    task = Task("chat", (new, old), (), Hold(), "chat-to-gemma", ("chat",), 1024, {})
    return RouteTable(1, generation, 15_000, {"chat": task}, Limits(), None)


def config_map(namespace: str, routes: RouteTable) -> dict[str, Any]:
    """The ConfigMap as the operator writes it."""
    metadata = {"name": TABLE, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"routes.json": routes.to_text()}}


def router(namespace: str) -> list[dict[str, Any]]:
    """The router with its account, role and Services."""
    about, labels = {"name": "router", "namespace": namespace}, {"app": "router"}
    rbac = "rbac.authorization.k8s.io"
    everywhere = ("--host", "0.0.0.0", "--admin-host", "0.0.0.0")  # noqa: S104  inside its pod
    container = {
        "name": "router",
        "image": reference("arbiter"),
        "imagePullPolicy": "IfNotPresent",
        "args": ["router", "--config-map", TABLE, "--namespace", namespace, "--kept", "/kept", *everywhere],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 9090}, "periodSeconds": 1},
        "securityContext": RESTRICTED,
        "volumeMounts": [{"name": "kept", "mountPath": "/kept"}],
    }
    pod = {"containers": [container], "serviceAccountName": "router", "volumes": [{"name": "kept", "emptyDir": {}}]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    ports = [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "admin", "port": 9090}]
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": about},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "Role",
            "metadata": about,
            "rules": [rule.to_fields() for rule in router_rules(TABLE)],
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": about,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "router"},
            "subjects": [{"kind": "ServiceAccount", **about}],
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": about,
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        },
        {"apiVersion": "v1", "kind": "Service", "metadata": about, "spec": {"selector": labels, "ports": ports}},
    ]


def read(url: str) -> dict[str, Any]:
    """What the admin port says."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  an address of the cluster
        found: dict[str, Any] = json.loads(answer.read())
    return found


@pytest.fixture(scope="module")
def address(cluster: Cluster, namespace: str, start: Callable[[list[dict[str, Any]]], str]) -> str:
    """Start both engines and the router; give its address."""
    for model in ("smollm2", "gemma3-270m"):
        start(llama_server(model, slots=8))
    cluster.apply([config_map(namespace, table(1, 0)), *router(namespace)])
    said(cluster.kubectl("-n", namespace, "rollout", "status", "deployment/router", "--timeout=120s"))
    query = "--output=jsonpath={.spec.clusterIP}"
    found = said(cluster.kubectl("-n", namespace, "get", "service", "router", query))
    assert wait_until(lambda: answers(f"http://{found}/v1/models"), 30, pause=0.2)
    return found


def test_weights_move_between_two_models_and_back_without_a_failed_request(
    cluster: Cluster, namespace: str, address: str, count: Callable[..., None]
) -> None:
    """0, 10, 50, 100 and back to 0 %: every share is as near to its weight as chance allows."""
    count("engines started", 2)
    with Traffic(f"http://{address}", Load("chat", stream_tokens=48, plain_tokens=4)) as traffic:
        traffic.more(REQUESTS)
        for generation, weight in enumerate(STEPS, start=2):
            traffic.mark(f"to {weight} %")
            cluster.apply([config_map(namespace, table(generation, weight))])
            assert wait_until(lambda wanted=generation: obeyed(address) == wanted, 30)  # type: ignore[misc]  # mypy gives a lambda with a default no type
            traffic.mark(f"at {weight} %")
            traffic.more(REQUESTS)
    report = traffic.report
    count("completions served", len(report.attempts) - len(report.failed))

    assert not report.failed, report
    assert all(verdict.clean for verdict in report.verdicts()), report
    assert report.split(before="to 10 %").within({OLD: 100}), report.split(before="to 10 %")
    for weight, following in zip(STEPS, (*STEPS[1:], None), strict=True):
        split = report.split(f"at {weight} %", None if following is None else f"to {following} %")
        assert split.within({OLD: 100 - weight, NEW: weight}), f"at {weight} %: {split}"
    assert wait_until(lambda: booked(address) == len(report.attempts), 30, pause=0.5), "each request is booked once"


def obeyed(address: str) -> int:
    """Which generation of the table the whole router obeys; 0 when there is none."""
    found = read(f"http://{address}:9090/internal/routes")["table"]
    return int(found["generation"]) if found else 0


def booked(address: str) -> int:
    """How many requests the books hold as answered in full."""
    with urllib.request.urlopen(f"http://{address}:9090/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return sum(map(int, re.findall(r'^arbiter_router_requests_total\{.*outcome="ok"\} (\d+)$', text, re.MULTILINE)))


def test_the_openai_client_is_served(address: str, count: Callable[..., None]) -> None:
    """Plain, streamed with the usage that it asks for, its list of models, and an error that it understands."""
    with openai.OpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0) as client:
        asked: dict[str, Any] = {"model": "chat", "messages": QUESTION, "temperature": 0, "max_tokens": 24}
        answer = client.chat.completions.create(**asked)
        chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
        count("completions served", 2)

        assert "Paris" in answer.choices[0].message.content
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert streamed == answer.choices[0].message.content
        assert chunks[-1].usage.completion_tokens == answer.usage.completion_tokens
        assert [model.id for model in client.models.list()] == ["chat"]
        with pytest.raises(openai.NotFoundError, match="the models here are: chat"):
            client.chat.completions.create(**{**asked, "model": "other"})


def test_the_ollama_client_is_served(address: str, count: Callable[..., None]) -> None:
    """The same model in Ollama's protocol, translated both ways."""
    with ollama.Client(host=f"http://{address}") as client:
        asked: dict[str, Any] = {
            "model": "chat",
            "messages": QUESTION,
            "options": {"temperature": 0, "num_predict": 24},
        }
        answer = client.chat(**asked)
        pieces = list(client.chat(**asked, stream=True))
        count("completions served", 2)

        assert "Paris" in answer.message.content
        assert answer.eval_count > 0
        assert "".join(piece.message.content or "" for piece in pieces) == answer.message.content
        assert (pieces[-1].done, pieces[-1].done_reason) == (True, answer.done_reason)
        assert [model.model for model in client.list().models] == ["chat"]
        with pytest.raises(ollama.ResponseError, match="the models here are: chat"):
            client.chat(**{**asked, "model": "other"})


def test_the_model_stops_when_its_client_leaves(cluster: Cluster, namespace: str, address: str) -> None:
    """A long answer that nobody reads any more would keep others waiting."""
    query = ("get", "service", "llama-smollm2", "--output=jsonpath={.spec.clusterIP}")
    engine = said(cluster.kubectl("-n", namespace, *query))
    question = [{"role": "user", "content": "Count to a thousand."}]
    asked: dict[str, Any] = {"model": "chat", "messages": question, "max_tokens": 900}
    with openai.OpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0) as client:
        stream = client.chat.completions.create(**asked, stream=True)
        next(iter(stream))
        assert busy(engine)
        stream.close()

    assert wait_until(lambda: not busy(engine), 10, pause=0.1), "the model goes on"


def busy(engine: str) -> bool:
    """Whether a llama-server works on anything."""
    with urllib.request.urlopen(f"http://{engine}:8080/slots", timeout=10) as answer:
        return any(slot["is_processing"] for slot in json.loads(answer.read()))
