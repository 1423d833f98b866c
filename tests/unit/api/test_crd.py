"""The translation from pydantic's schemas to structural ones: what it makes, and what it refuses to leave out."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field

from arbiter.api import crd, reference
from arbiter.api.amounts import Duration, Quantity
from arbiter.api.localmodel import LocalModel
from arbiter.api.meta import Names, Part, Resource, Rule
from arbiter.api.modelpool import ModelPool
from arbiter.api.swappolicy import DEFAULT_POLICY


class Nested(Part):
    """A nested value."""

    size: int = 3
    """Its size."""

    tags: tuple[str, ...] = ()
    """Its tags."""


class Ruled(Part):
    """A nested value with a rule."""

    size: int = 3
    """Its size."""

    note: str | None = None
    """A note."""

    rules: ClassVar = (Rule("self.size > 0", "size must be above 0"),)


def kind_with(**fields: Any) -> type[Resource]:  # noqa: ANN401  a field may have any type
    """Make a kind whose spec has these fields."""
    spec = type(
        "Spec",
        (Part,),
        {
            "__annotations__": {k: v[0] for k, v in fields.items()},
            **{k: v[1] for k, v in fields.items()},
            "__doc__": "The spec.",
            "__module__": __name__,
        },
    )
    return type(
        "Thing",
        (Resource,),
        {
            "__annotations__": {"spec": spec},
            "names": Names("things", ("th",), ()),
            "__doc__": "A thing.",
            "__module__": __name__,
        },
    )


def spec_of(kind: type[Resource]) -> dict[str, Any]:
    """Give the schema of the kind's spec."""
    properties: dict[str, Any] = crd.schema(kind)["properties"]["spec"]["properties"]
    return properties


@pytest.mark.parametrize(
    ("annotation", "default", "want"),
    [
        pytest.param(int, Field(description="A."), {"type": "integer"}, id="a required integer"),
        pytest.param(int | None, Field(None, description="A."), {"type": "integer"}, id="nothing is no type"),
        pytest.param(
            Annotated[float, Field(gt=0, lt=2)],
            Field(description="A."),
            {"type": "number", "minimum": 0, "exclusiveMinimum": True, "maximum": 2, "exclusiveMaximum": True},
            id="exclusive bounds are flags",
        ),
        pytest.param(
            Annotated[dict[str, int], Field(max_length=3)],
            Field(description="A."),
            {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 3},
            id="a map",
        ),
    ],
)
def test_type_is_translated(annotation: object, default: object, want: dict[str, Any]) -> None:
    """Each form that pydantic gives has one in a structural schema."""
    made = spec_of(kind_with(a=(annotation, default)))["a"]

    assert made.pop("description") == "A."
    assert made == want


@pytest.mark.parametrize(
    ("annotation", "default", "want"),
    [
        pytest.param(int, 3, {"default": 3, "description": "A. Default: 3."}, id="a number"),
        pytest.param(bool, False, {"default": False, "description": "A. Default: false."}, id="a truth value"),
        pytest.param(str, "", {"description": "A."}, id="an empty string says the same as none"),
        pytest.param(tuple[int, ...], (), {"description": "A."}, id="an empty list says the same as none"),
        pytest.param(
            Duration, Duration.parse("5m"), {"default": "5m", "description": "A. Default: 5m."}, id="a duration"
        ),
        pytest.param(
            Quantity, Quantity.parse("1Gi"), {"default": "1Gi", "description": "A. Default: 1Gi."}, id="a quantity"
        ),
        pytest.param(Nested, Nested(), {"default": {}, "description": "A."}, id="an object whose fields say it"),
        pytest.param(Nested, Nested(size=4), {"default": {"size": 4}, "description": "A."}, id="an object beyond that"),
        pytest.param(Ruled, Ruled(), {"default": {"size": 3}, "description": "A."}, id="an object that rules judge"),
    ],
)
def test_default_is_written_where_the_api_server_needs_it(
    annotation: object, default: object, want: dict[str, Any]
) -> None:
    """Defaults are said in the description too, and empty ones leave a user's object alone."""
    made = spec_of(kind_with(a=(annotation, Field(default, description="A."))))["a"]

    assert {key: made[key] for key in ("default", "description") if key in made} == want


@pytest.mark.parametrize(
    ("annotation", "want_error"),
    [
        pytest.param(int | str, "no choice between types", id="a choice of types"),
        pytest.param(Any, "has no single type", id="anything at all"),
        pytest.param(Literal["a"], "has no 'const'", id="a constant"),
        pytest.param(tuple[int, str], "has no 'prefixItems'", id="a mixed list"),
        pytest.param(set[int], "has no 'uniqueItems'", id="a set"),
    ],
)
def test_what_cannot_be_said_is_not_left_out(annotation: object, want_error: str) -> None:
    """A schema that says less than the class would let wrong manifests in."""
    with pytest.raises(TypeError, match=want_error):
        crd.schema(kind_with(a=(annotation, Field(description="A."))))


def test_definition_says_what_kubectl_shows() -> None:
    """Names, columns with the age behind them, selectable fields and subresources."""
    made = crd.definition(ModelPool)
    version = made["spec"]["versions"][0]

    assert made["metadata"]["name"] == "modelpools.arbiter.dev"
    assert made["spec"]["names"]["listKind"] == "ModelPoolList"
    assert [column["name"] for column in version["additionalPrinterColumns"]] == [
        "Ready", "Serving", "Coming", "Progress", "Why", "Endpoint", "Policy", "Age",
    ]  # fmt: skip
    assert [column.get("priority", 0) for column in version["additionalPrinterColumns"]] == [0, 0, 0, 0, 0, 1, 1, 0]
    assert version["selectableFields"] == [{"jsonPath": ".spec.swapPolicy"}]
    assert version["subresources"]["scale"] == {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    assert "scale" not in crd.definition(LocalModel)["spec"]["versions"][0]["subresources"]


def test_spec_is_required_where_it_has_no_default() -> None:
    """A policy without a spec is the built-in one; a pool without a spec is nothing."""
    schemas = {kind.__name__: crd.schema(kind) for kind in crd.KINDS}

    assert {name for name, schema in schemas.items() if schema.get("required") == ["spec"]} == {
        "LocalModel", "ModelPool", "ModelSwap", "TaskProfile",
    }  # fmt: skip
    assert schemas["SwapPolicy"]["properties"]["spec"]["default"] == {}


def test_chart_template_is_the_definition_behind_its_values() -> None:
    """Helm installs and keeps the definitions as the values say."""
    template = crd.to_chart_template(crd.definition(LocalModel))

    assert template.startswith(crd.HEADER + "{{- if .Values.crds.install }}\napiVersion: apiextensions.k8s.io/v1\n")
    assert template.endswith("{{- end }}\n")
    assert "    {{- if .Values.crds.keep }}\n    helm.sh/resource-policy: keep\n    {{- end }}\n" in template


def test_chart_template_refuses_what_helm_would_expand() -> None:
    """A description with braces would become part of the template."""
    with pytest.raises(TypeError, match=r"things holds '\{\{'"):
        crd.to_chart_template({"metadata": {"name": "things"}, "description": "{{ .Values }}"})


def test_reference_tells_every_field_and_its_bounds() -> None:
    """The page is made of the schemas, nested fields and lists included."""
    page = reference.to_markdown(crd.definitions())

    assert "## SwapPolicy" in page
    assert "| `windows[].timeZone` | string | " in page
    assert "| `tasks[].name` | string | The name that clients send as `model`. (required) |" in page
    assert "One of Manual, Automatic." in page
    assert "Range: above 1 to 100." in page
    assert "| `memory` | quantity | " in page
    assert "| `placement.nodeSelector` | map of string | " in page


def test_built_in_policy_is_the_documented_one() -> None:
    """The figures that the design promises to who names no policy."""
    policy = DEFAULT_POLICY

    assert policy.mode == "Manual"
    assert str(policy.trigger.cooldown) == "5m"
    assert (policy.trigger.min_samples, policy.trigger.performance_threshold) == (10, 0.8)
    assert (policy.rollout.ramp, policy.rollout.steps) == (None, None)
    assert (str(policy.rollout.watch), str(policy.rollout.keep_warm)) == ("1h", "168h")
    analysis = policy.analysis
    assert (analysis.rollback_error_rate, analysis.promotion_error_rate) == (0.01, 0.05)
    assert (analysis.min_success_ratio, analysis.max_error_ratio, analysis.min_quality_ratio) == (0.95, 2.0, 0.95)
    assert (analysis.max_first_token_ratio, analysis.max_per_token_ratio) == (1.2, 1.2)
    assert (analysis.min_requests, analysis.max_extensions, analysis.on_inconclusive) == (50, 3, "Rollback")
    assert (policy.rollback.first_failures, str(policy.rollback.cooldown), str(policy.rollback.max_cooldown)) == (
        12,
        "6h",
        "48h",
    )
