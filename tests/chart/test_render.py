"""Everything that the chart makes is what Kubernetes takes, by its own schemas, from helm 3 and helm 4 alike."""

import json
import subprocess
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from conftest import CHART, EXAMPLES, HELMS, ROOT, helm, parse, render, rendered

VERSIONS = ["1.30", "1.31", "1.32", "1.33", "1.34", "1.35"]
# Kinds that Kubernetes does not know by itself. The first have a schema here, as has what the
# documentation tells people to write; the others are those of examples.
OURS = {"ServiceMonitor", "PrometheusRule", "GRPCRoute", "HTTPRoute"}
OF_PAGES = {"BackendTLSPolicy"}
OF_EXAMPLES = {"Cluster", "Certificate"}
CUSTOM = json.loads((Path(__file__).parent / "custom_kinds.json").read_text())


def valid(thing, version):
    if thing["kind"] in OURS | OF_PAGES:
        jsonschema.Draft7Validator({**CUSTOM, **CUSTOM["definitions"][thing["kind"]]}).validate(thing)
    elif thing["kind"] not in OF_EXAMPLES:
        kubernetes_validate.validate(thing, version, strict=True)


def test_both_helms_are_what_they_are_called():
    said = [subprocess.run([HELMS[p], "version", "--short"], capture_output=True, text=True).stdout for p in sorted(HELMS)]
    assert [version[:3] for version in said] == ["v3.", "v4."]


def test_lint_has_nothing_to_say(program):
    for example in [None, *EXAMPLES]:
        values = ["-f", str(CHART / "ci" / example)] if example else []
        result = helm("lint", "--strict", *values, program=program)
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("example", EXAMPLES)
def test_both_helms_make_the_same(example):
    texts = [rendered("", p, (example,)).stdout for p in sorted(HELMS)]
    assert texts[0] == texts[1]
    assert parse(texts[0])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("example", EXAMPLES)
def test_kubernetes_takes_it(example, version):
    objects = render(example=example, further=("--kube-version", f"{version}.0"))
    for thing in objects:
        valid(thing, version)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", sorted((ROOT / "helm" / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_kubernetes_takes_the_examples(path, version):
    for thing in yaml.safe_load_all(path.read_text()):
        valid(thing, version)


def test_an_older_kubernetes_is_refused(program):
    result = rendered("", program, further=("--kube-version", "1.29.9"))
    assert "kubeVersion" in result.stderr


def test_the_validator_is_strict():
    service = render().one("Service", "halyard")
    service["spec"]["selectors"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        valid(service, VERSIONS[-1])


@pytest.mark.parametrize("example", EXAMPLES)
def test_no_two_objects_have_one_name(example):
    names = [(o["kind"], o["metadata"]["name"]) for o in render(example=example)]
    assert len(names) == len(set(names)), names


def test_between_them_the_examples_have_every_kind():
    kinds = {kind for example in EXAMPLES for kind in render(example=example).kinds()}
    assert kinds == OURS | OF_EXAMPLES | {
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "Ingress",
        "NetworkPolicy",
        "Pod",
        "PodDisruptionBudget",
        "Service",
        "ServiceAccount",
    }


def test_the_least_has_no_more_than_it_needs():
    assert render().kinds() == ["Deployment", "Pod", "PodDisruptionBudget", "Service", "ServiceAccount"]
