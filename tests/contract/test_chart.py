"""What Helm makes of the chart in every way of installing it, and whether the API server could take it."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes.client
import pytest
import yaml
from manifests.install import render
from pydantic import BaseModel, ValidationError

from arbiter import __version__
from arbiter.api import crd
from arbiter.cli.main import parser
from arbiter.controller.kinds import CHILDREN
from arbiter.controller.options import Options
from arbiter.kubeapi.access import operator_cluster_rules, operator_home_rules, operator_rules, router_rules
from arbiter.kubeapi.resources import SECRETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arbiter.kubeapi.access import Rule
    from tests.contract.judge import Judge

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "arbiter"

NAMESPACE = "arbiter-system"
DIGEST = "sha256:" + "0a" * 32

MODES: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "one operator": {"replicas": 1},
    "no operator for now": {"replicas": 0},
    "two namespaces": {"watch": {"namespaces": ["team-a", "team-b"]}},
    "two namespaces and no nodes": {"watch": {"namespaces": ["team-a", "team-b"]}, "rbac": {"readNodes": False}},
    "everything optional left out": {
        "crds": {"install": False},
        "rbac": {"create": False, "userRoles": False},
        "serviceAccount": {"create": False, "name": "given"},
        "metrics": {"service": False},
        "podDisruptionBudget": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "engines": {"llamaServerGpu": {"repository": ""}, "ollamaGpu": {"repository": ""}},
    },
    "everything optional given": {
        "fullnameOverride": "keeper-of-models",
        "image": {"repository": "registry.example:5000/team/arbiter", "tag": "1.2.3", "digest": DIGEST},
        "imagePullSecrets": ["login"],
        "engines": {"ollama": {"repository": "registry.example/ollama", "tag": "", "digest": DIGEST}},
        "logFormat": "text",
        "trustConfigMap": "company-authorities",
        "serviceAccount": {"name": "keeper", "annotations": {"example.com/role": "reader"}},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "Exists"}]}]
                }
            }
        },
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
        ],
        "priorityClassName": "system-cluster-critical",
        "podAnnotations": {"example.com/note": "yes"},
        "podLabels": {"team": "models"},
        "metrics": {"annotations": {"prometheus.io/scrape": "true"}},
        "networkPolicy": {
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
            "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
        },
        "crds": {"keep": False},
    },
}

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a key that does not exist": ({"replica": 3}, "additional properties 'replica' not allowed"),
    "a key that does not exist, deeper": (
        {"watch": {"namespace": "a"}},
        "at '/watch': additional properties 'namespace' not allowed",
    ),
    "an engine that does not exist": (
        {"engines": {"tgi": {"repository": "a"}}},
        "at '/engines': additional properties 'tgi' not allowed",
    ),
    "a number as text": ({"replicas": "two"}, "at '/replicas': got string, want integer"),
    "too many operators": ({"replicas": 9}, "at '/replicas': maximum: got 9, want 5"),
    "a short digest": ({"image": {"digest": "sha256:12"}}, "at '/image/digest': 'sha256:12' does not match pattern"),
    "a tag within the repository": ({"image": {"repository": "a/b:1"}}, "at '/image/repository': 'a/b:1' does not"),
    "a pull policy in lower case": ({"image": {"pullPolicy": "always"}}, "at '/image/pullPolicy': value must be one"),
    "a namespace that cannot be": ({"watch": {"namespaces": ["Team"]}}, "at '/watch/namespaces/0': 'Team' does not"),
    "a namespace twice": ({"watch": {"namespaces": ["a", "a"]}}, "at '/watch/namespaces': items at 0 and 1 are equal"),
    "a log that nobody reads": ({"logFormat": "xml"}, "at '/logFormat': value must be one of 'json', 'text'"),
    "a label that is the chart's": (
        {"podLabels": {"app.kubernetes.io/name": "mine"}},
        "podLabels must not set app.kubernetes.io/name: the chart finds its pods by it",
    ),
    "no account": (
        {"serviceAccount": {"create": False}},
        "serviceAccount.create is false: give the account that is to be used in serviceAccount.name",
    ),
    "an image of any version": (
        {"engines": {"ollama": {"tag": ""}}},
        "engines.ollama needs a tag or a digest",
    ),
}

CLUSTER_KINDS = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace"}


def helm(*arguments: str, values: str = "{}") -> subprocess.CompletedProcess[str]:
    """Run Helm on the chart, with these values as JSON."""
    return subprocess.run(  # noqa: S603  the local cluster's own program
        (render.helm(), *arguments, "--values=-"), input=values, capture_output=True, text=True, check=False
    )


@cache
def _made(values: str, release: str, namespace: str) -> str:
    done = helm("template", release, str(CHART), f"--namespace={namespace}", values=values)
    assert done.returncode == 0, done.stderr
    return done.stdout


def made(
    values: dict[str, Any] | None = None, *, release: str = "arbiter", namespace: str = NAMESPACE
) -> list[dict[str, Any]]:
    """Give what the chart makes, without the definitions, which have a test of their own."""
    settings = json.dumps({"crds": {"install": False}} | (values or {}))
    everything = yaml.safe_load_all(_made(settings, release, namespace))
    return [each for each in everything if each and each["kind"] != "CustomResourceDefinition"]


def of_kind(objects: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Choose objects of one kind."""
    return [each for each in objects if each["kind"] == kind]


def container(objects: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Give the operator's container."""
    (deployment,) = of_kind(objects, "Deployment")
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = only
    return found


def rules_of(*rules: Rule) -> list[dict[str, list[str]]]:
    """Give rules in the form of a Role, one for each kind of object."""
    return [rule.to_fields() for rule in rules]


def granted(rules: Sequence[dict[str, Any]]) -> set[tuple[str, str, str, str]]:
    """Take rules apart into single rights: group, kind of object, verb, and name or nothing for all."""
    return {
        (group, resource, verb, name)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }


def holds(rights: set[tuple[str, str, str, str]], right: tuple[str, str, str, str]) -> bool:
    """Say whether somebody with these rights has that one; a right to all objects is one to each."""
    return right in rights or (*right[:3], "") in rights


MODE = pytest.mark.parametrize("values", MODES.values(), ids=MODES)


@MODE
def test_every_object_has_the_fields_of_its_kind_and_no_other(values: dict[str, Any]) -> None:
    """By the Python client's own classes of Kubernetes' API, which refuse what they do not know."""
    for each in made(values):
        typed(each)


def typed(obj: dict[str, Any]) -> BaseModel:
    """Read an object strictly, as one of its kind."""
    version = obj["apiVersion"].rpartition("/")[2].capitalize()
    model: type[BaseModel] = getattr(kubernetes.client, f"{version}{obj['kind']}")
    return model.model_validate(obj)


def test_a_field_that_nobody_knows_would_be_noticed() -> None:
    """The check above is real, at any depth."""
    (deployment,) = of_kind(made(), "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["securityContext"]["readonly"] = True

    with pytest.raises(ValidationError, match="readonly"):
        typed(deployment)


@MODE
def test_every_object_has_its_place_a_name_that_fits_and_our_labels(values: dict[str, Any]) -> None:
    """What belongs to the release is found by its labels, and no name is refused."""
    objects = made(values)
    places = {NAMESPACE, *values.get("watch", {}).get("namespaces", [])}

    for each in objects:
        about = each["metadata"]
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", about["name"])
        assert about.get("namespace") in ({None} if each["kind"] in CLUSTER_KINDS else places)
        assert about["labels"].items() >= {
            ("app.kubernetes.io/name", "arbiter"),
            ("app.kubernetes.io/instance", "arbiter"),
            ("app.kubernetes.io/version", __version__),
            ("app.kubernetes.io/managed-by", "Helm"),
        }
    identities = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in objects]
    assert len(set(identities)) == len(identities)


@pytest.mark.parametrize(
    ("release", "namespace"),
    [
        pytest.param("a" * 53, "b" * 63, id="as long as Helm and Kubernetes allow"),
        pytest.param("arbiter.team", "models", id="a release with a dot"),
        pytest.param("a", "b", id="one letter"),
    ],
)
def test_names_fit_whatever_the_release_is_called(release: str, namespace: str) -> None:
    """A Service's name is a label of 63 characters; a longer one would fail when it is installed."""
    for each in made({"watch": {"namespaces": ["team-a"]}}, release=release, namespace=namespace):
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", each["metadata"]["name"])


def test_releases_in_two_namespaces_do_not_meet() -> None:
    """What belongs to the whole cluster carries the namespace in its name, but for the roles of people."""

    def names(namespace: str) -> set[str]:
        objects = made({"rbac": {"userRoles": False}}, namespace=namespace)
        return {each["metadata"]["name"] for each in objects if each["kind"] in CLUSTER_KINDS}

    assert names("one")
    assert names("one").isdisjoint(names("two"))
    # Cut to the same length, they differ all the same.
    assert names("a" * 62 + "1").isdisjoint(names("a" * 62 + "2"))


@MODE
def test_every_image_names_its_version(values: dict[str, Any]) -> None:
    """An image without a tag or a digest is another one tomorrow."""
    found = container(made(values))
    given = [argument.partition("=")[2] for argument in found["args"] if "image=" in argument]

    without_gpus = "llamaServerGpu" in values.get("engines", {})
    assert len(given) == (4 if without_gpus else 6)
    assert found["image"] == given[0]
    for image in given:
        assert re.fullmatch(r"[a-z0-9.:-]+(/[a-z0-9._-]+)+(:[A-Za-z0-9._-]+)?(@sha256:[0-9a-f]{64})?", image)
        assert "@" in image or ":" in image.rpartition("/")[2]
        assert not image.endswith(":latest")


def test_the_versions_are_those_of_the_code() -> None:
    """The chart's defaults are those that the program has without being told."""
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    arguments = container(made())["args"]
    default = Options()

    assert about["appVersion"] == __version__
    assert set(arguments) >= {
        f"--image={default.image}",
        f"--llama-server-image={default.llama_server_image}",
        f"--ollama-image={default.ollama_image}",
        f"--vllm-image=docker.io/{default.vllm_image}",
        f"--pull-policy={default.pull_policy}",
        f"--cluster-domain={default.cluster_domain}",
        f"--log-format={default.log_format}",
        f"--port={default.port}",
    }


def test_what_is_set_reaches_the_operator() -> None:
    """Each value that is the operator's own becomes one of its flags."""
    found = container(made(MODES["everything optional given"] | {"watch": {"namespaces": ["team-a", "team-b"]}}))

    assert found["args"][0] == "operator"
    assert {
        "--namespaces=team-a,team-b",
        f"--image=registry.example:5000/team/arbiter:1.2.3@{DIGEST}",
        f"--ollama-image=registry.example/ollama@{DIGEST}",
        "--log-format=text",
        "--port=8081",
    } <= set(found["args"])
    assert not any(argument.startswith("--namespaces") for argument in container(made())["args"])


@MODE
def test_operators_run_at_the_restricted_level(values: dict[str, Any]) -> None:
    """They fit a namespace that enforces it, with a read-only root, bounds, and no rights of their node."""
    (deployment,) = of_kind(made(values), "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    found = container(made(values))

    assert pod["securityContext"].items() >= {("runAsNonRoot", True), ("runAsUser", 65532)}
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert found["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.keys()
    assert all(set(volume) == {"name", "emptyDir"} for volume in pod["volumes"])
    assert found["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in found["resources"]["limits"]
    assert {probe for probe in found if probe.endswith("Probe")} == {"startupProbe", "livenessProbe", "readinessProbe"}


@MODE
def test_what_chooses_pods_chooses_the_operators(values: dict[str, Any]) -> None:
    """Deployment, Service, budget and policy name labels that the pods carry, and their port by its name."""
    objects = made(values)
    (deployment,) = of_kind(objects, "Deployment")
    carried = deployment["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        *(each["spec"]["selector"] for each in of_kind(objects, "Service")),
        *(each["spec"]["selector"]["matchLabels"] for each in of_kind(objects, "PodDisruptionBudget")),
        *(each["spec"]["podSelector"]["matchLabels"] for each in of_kind(objects, "NetworkPolicy")),
    ]

    assert all(selector and selector.items() <= carried for selector in selectors)
    assert container(objects)["ports"] == [{"name": "metrics", "containerPort": 8081, "protocol": "TCP"}]
    assert ("app.kubernetes.io/component", "operator") in carried


@pytest.mark.parametrize(
    ("replicas", "want_budgets"),
    [
        pytest.param(0, 0, id="none"),
        pytest.param(1, 0, id="a single operator could never be evicted or protected"),
        pytest.param(2, 1, id="two"),
        pytest.param(3, 1, id="three"),
    ],
)
def test_a_budget_is_there_where_it_means_something(replicas: int, want_budgets: int) -> None:
    """It lets one go at a time, so that no drain waits for ever and none takes all."""
    budgets = of_kind(made({"replicas": replicas}), "PodDisruptionBudget")

    assert len(budgets) == want_budgets
    assert all(budget["spec"]["maxUnavailable"] == 1 for budget in budgets)


def test_nothing_reaches_an_operator_but_its_metrics_and_probes() -> None:
    """One port in, from everybody or from whom the values name; out whatever the values allow."""
    (plain,) = of_kind(made(), "NetworkPolicy")
    (narrow,) = of_kind(made(MODES["everything optional given"]), "NetworkPolicy")
    (silent,) = of_kind(made({"networkPolicy": {"egress": []}}), "NetworkPolicy")

    assert plain["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert plain["spec"]["ingress"] == [{"ports": [{"port": "metrics", "protocol": "TCP"}]}]
    assert plain["spec"]["egress"] == [{}]
    wanted = MODES["everything optional given"]["networkPolicy"]
    assert narrow["spec"]["ingress"][0]["from"] == wanted["metricsFrom"]
    assert narrow["spec"]["egress"] == wanted["egress"]
    assert silent["spec"]["egress"] == []


def test_rights_in_all_namespaces_are_those_of_the_code() -> None:
    """One ClusterRole, bound to the operator's account, says what the code says and no more."""
    objects = made({"rbac": {"userRoles": False}})
    (role,) = of_kind(objects, "ClusterRole")
    (binding,) = of_kind(objects, "ClusterRoleBinding")

    assert granted(role["rules"]) == granted(rules_of(*operator_rules(), *operator_cluster_rules()))
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "arbiter", "namespace": NAMESPACE}]


@pytest.mark.parametrize("nodes", [pytest.param(True, id="with nodes"), pytest.param(False, id="without nodes")])
def test_rights_in_listed_namespaces_are_those_of_the_code(nodes: bool) -> None:
    """A Role in each of them, and of the whole cluster nothing but its nodes."""
    objects = made({"watch": {"namespaces": ["team-a", "team-b"]}, "rbac": {"userRoles": False, "readNodes": nodes}})
    there = {each["metadata"]["namespace"]: each for each in of_kind(objects, "Role")}
    bindings = {each["metadata"]["namespace"]: each for each in of_kind(objects, "RoleBinding")}
    cluster = [granted(each["rules"]) for each in of_kind(objects, "ClusterRole")]

    assert set(there) == set(bindings) == {"team-a", "team-b", NAMESPACE}
    for namespace in ("team-a", "team-b"):
        assert granted(there[namespace]["rules"]) == granted(rules_of(*operator_rules()))
        assert bindings[namespace]["roleRef"]["name"] == there[namespace]["metadata"]["name"]
        assert bindings[namespace]["subjects"][0]["namespace"] == NAMESPACE
    assert cluster == ([granted(rules_of(*operator_cluster_rules()))] if nodes else [])


@MODE
def test_rights_at_home_are_those_of_the_code(values: dict[str, Any]) -> None:
    """The Lease is the release namespace's own."""
    roles = [each for each in of_kind(made(values), "Role") if each["metadata"]["namespace"] == NAMESPACE]

    if values.get("rbac", {}).get("create", True):
        assert [granted(role["rules"]) for role in roles] == [granted(rules_of(*operator_home_rules()))]
    else:
        assert roles == []


def test_the_operator_may_give_routers_their_role() -> None:
    """Kubernetes lets nobody grant what they do not have; the operator has it, and no right to go around that."""
    (role,) = of_kind(made({"rbac": {"userRoles": False}}), "ClusterRole")
    rights = granted(role["rules"])

    assert [right for right in granted(rules_of(*router_rules("any-routes"))) if not holds(rights, right)] == []
    assert not {verb for _, _, verb, _ in rights} & {"*", "bind", "escalate", "impersonate"}
    assert not {part for group, resource, _, _ in rights for part in (group, resource)} & {"*"}


def test_the_operator_may_make_all_that_pools_are_made_of() -> None:
    """Each kind that a plan names can be made, whatever rule it stands in; each that is read can be followed."""
    (role,) = of_kind(made({"rbac": {"userRoles": False}}), "ClusterRole")
    rights = granted(role["rules"])
    makes = [(kind, "create") for kind in (*CHILDREN, SECRETS)]
    follows = [(kind, verb) for kind in CHILDREN for verb in ("list", "watch", "delete")]

    assert [
        f"{verb} {kind.plural}"
        for kind, verb in (*makes, *follows)
        if not holds(rights, (kind.group, kind.plural, verb, ""))
    ] == []


def test_people_see_and_edit_our_kinds_with_the_roles_that_they_have() -> None:
    """Whoever may view a namespace sees all of it; who may edit it edits all but the statuses."""
    view, edit = (
        next(each for each in of_kind(made(), "ClusterRole") if each["metadata"]["name"] == name)
        for name in ("arbiter-view", "arbiter-edit")
    )
    kinds = set(crd.definitions())
    aggregate = "rbac.authorization.k8s.io/aggregate-to-"

    assert view["metadata"]["labels"].items() >= {(f"{aggregate}view", "true")}
    assert edit["metadata"]["labels"].items() >= {(f"{aggregate}edit", "true"), (f"{aggregate}admin", "true")}
    seen = {resource for _, resource, verb, _ in granted(view["rules"]) if verb == "get"}
    assert seen == kinds | {f"{kind}/status" for kind in kinds} | {"modelpools/scale"}
    assert {verb for _, _, verb, _ in granted(view["rules"])} == {"get", "list", "watch"}
    edited = {resource for _, resource, _, _ in granted(edit["rules"])}
    assert edited == kinds | {"modelpools/scale"}


@pytest.mark.parametrize(("values", "want_says"), WRONG.values(), ids=WRONG)
def test_wrong_value_is_refused_by_its_name(values: dict[str, Any], want_says: str) -> None:
    """Nothing is installed, and the message leads to the value."""
    refused = helm("template", "arbiter", str(CHART), values=json.dumps(values))

    assert refused.returncode != 0
    assert refused.stdout == ""
    assert want_says in refused.stderr


def test_the_chart_has_no_lint() -> None:
    """Helm's own check has nothing to say, warnings included."""
    checked = helm("lint", "--strict", str(CHART))

    assert checked.returncode == 0, checked.stdout
    assert "[WARNING]" not in checked.stdout


def test_schema_and_values_name_the_same() -> None:
    """A value that is not in the schema could not be set, and one without a default would be known to nobody."""
    schema = json.loads((CHART / "values.schema.json").read_text())

    def resolved(part: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = schema["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        return found

    def compared(part: dict[str, Any], values: dict[str, Any], path: str) -> None:
        part = resolved(part)
        assert part["additionalProperties"] is False, path
        assert set(part["properties"]) - {"global"} == set(values), path
        for key, value in values.items():
            if isinstance(value, dict) and "properties" in resolved(part["properties"][key]):
                compared(part["properties"][key], value, f"{path}.{key}")

    compared(schema, yaml.safe_load((CHART / "values.yaml").read_text()), "")


def test_every_value_is_explained() -> None:
    """Each value, or a group that it belongs to, has a sentence above it."""
    explained: set[str] = set()
    place: list[str] = []
    keys: list[str] = []
    above = ""
    for line in (CHART / "values.yaml").read_text().splitlines():
        if key := re.match(r"( *)([A-Za-z]+):", line):
            place[len(key[1]) // 2 :] = [key[2]]
            keys.append(".".join(place))
            if above.startswith("#"):
                assert above.endswith("."), line
                explained.add(keys[-1])
        above = line.strip()

    def parents(key: str) -> set[str]:
        parts = key.split(".")
        return {".".join(parts[:length]) for length in range(1, len(parts) + 1)}

    leaves = [key for key in keys if not any(other.startswith(f"{key}.") for other in keys)]
    # What opens the file is no explanation of a group, and "engines" explains none of its images.
    assert [key for key in leaves if not parents(key) & (explained - {"engines"})] == []


@pytest.mark.parametrize("keep", [pytest.param(True, id="kept"), pytest.param(False, id="not kept")])
def test_definitions_come_with_the_chart(keep: bool) -> None:
    """Helm makes of the templates what the code says, and marks what it must not delete."""
    values = json.dumps({"crds": {"install": True, "keep": keep}})
    everything = yaml.safe_load_all(_made(values, "arbiter", NAMESPACE))
    installed = {each["metadata"]["name"]: each for each in everything if each["kind"] == "CustomResourceDefinition"}
    wanted = {definition["metadata"]["name"]: definition for definition in crd.definitions().values()}

    for name, definition in installed.items():
        marks = definition["metadata"].pop("annotations")
        assert (marks.get("helm.sh/resource-policy") == "keep") is keep
        assert definition == wanted[name]
    assert set(installed) == set(wanted)
    assert of_kind(made(), "CustomResourceDefinition") == []


def test_the_notes_say_the_next_step(judge: Judge) -> None:
    """What a person is told to paste is the quickstart, and the API server takes it."""
    told = helm("install", "arbiter", str(CHART), f"--namespace={NAMESPACE}", "--dry-run=client").stdout
    notes = told.partition("\nNOTES:\n")[2]
    pasted = list(yaml.safe_load_all(notes.partition("<<END\n")[2].partition("\nEND\n")[0]))

    assert f"kubectl --namespace {NAMESPACE} rollout status deployment/arbiter" in notes
    assert pasted == list(yaml.safe_load_all((ROOT / "manifests" / "samples" / "quickstart.yaml").read_text()))
    assert all(judge.review(each).errors == () for each in pasted)


@pytest.mark.parametrize("path", render.GENERATED)
def test_rendered_manifests_are_in_sync(path: str) -> None:
    """What kustomize installs is what the chart installs, and the chart's rules are the code's."""
    assert render.GENERATED[path]() == (ROOT / path).read_text(), "run `python -m manifests.install.render`"


def test_kustomize_installs_what_helm_does() -> None:
    """Its files are all there, hold no mark of Helm, and bring the namespace that the objects live in."""
    folder = ROOT / "manifests" / "install"
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    objects = [each for name in listed for each in yaml.safe_load_all((folder / name).read_text())]
    identities = {(each["kind"], each["metadata"]["name"]) for each in objects}

    assert set(listed) == {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
    assert identities == {("Namespace", NAMESPACE)} | {
        *((each["kind"], each["metadata"]["name"]) for each in made()),
        *(("CustomResourceDefinition", definition["metadata"]["name"]) for definition in crd.definitions().values()),
    }
    assert not any("helm" in json.dumps(each).lower() for each in objects)


def test_the_operator_understands_the_flags_that_it_is_given() -> None:
    """A flag that the program does not know would end it before it says a word to the cluster."""
    try:
        parser().parse_args(["operator", "--help"])
    except SystemExit as ended:
        if ended.code:
            pytest.skip("the program has no command `operator` yet")

    for values in MODES.values():
        parser().parse_args(container(made(values))["args"])
