"""Objects as such: names, labels, what is handed over as it is, and what is told after an installation."""

import json
import os
import re
import subprocess

import pytest
import yaml
from conftest import CHART, EVERYTHING, EXAMPLES, HELMS, NAMESPACE, render

SELECTOR = {
    "app.kubernetes.io/name": "halyard",
    "app.kubernetes.io/instance": "halyard",
    "app.kubernetes.io/component": "server",
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_object_has_the_common_labels_and_a_place(example):
    objects = render(example=example)
    values = yaml.safe_load((CHART / "ci" / example).read_text())
    for thing in objects:
        if thing["metadata"]["name"] in ("halyard-db", "halyard-tls", "more", "halyard-flags-tls"):
            continue  # objects of the examples' own
        labels = thing["metadata"]["labels"]
        assert thing["metadata"]["namespace"] == NAMESPACE
        assert labels["app.kubernetes.io/instance"] == "halyard"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["app.kubernetes.io/version"] == "0.1.0"
        assert labels["helm.sh/chart"] == "halyard-0.1.0"
        assert labels.items() >= values.get("commonLabels", {}).items(), thing["kind"]
        annotations = thing["metadata"].get("annotations", {})
        assert annotations.items() >= values.get("commonAnnotations", {}).items(), thing["kind"]


def test_pods_have_the_labels_by_which_they_are_selected_whatever_the_common_ones_are():
    objects = render({"commonLabels": {"app.kubernetes.io/component": "other"}, "podLabels": {"app.kubernetes.io/name": "x"}})
    labels = objects.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels.items() >= SELECTOR.items()
    assert objects.one("Deployment")["spec"]["selector"]["matchLabels"] == SELECTOR
    assert objects.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == SELECTOR
    for service in [o for o in objects if o["kind"] == "Service"]:
        assert service["spec"]["selector"] == SELECTOR
    for constraint in objects.pod()["topologySpreadConstraints"]:
        assert constraint["labelSelector"]["matchLabels"] == SELECTOR
    policy = render({"networkPolicy": {"enabled": True}}).one("NetworkPolicy")
    assert policy["spec"]["podSelector"]["matchLabels"] == SELECTOR


def test_pods_of_tests_are_not_selected():
    pod = render().one("Pod")
    assert pod["metadata"]["labels"]["app.kubernetes.io/component"] == "test"
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"


def test_names_fit_and_follow_the_release():
    long = render({"fullnameOverride": "a" * 60})
    assert all(len(o["metadata"]["name"]) <= 63 for o in long)
    assert render({"fullnameOverride": "flags"}).one("Deployment")["metadata"]["name"] == "flags"
    assert render({"nameOverride": "switches"}).one("Deployment")["metadata"]["name"] == "halyard-switches"


def test_helm_test_asks_with_the_image_of_the_release():
    objects = render(example="mutual-tls-values.yaml")
    health, evaluate = objects.one("Pod", "halyard-test-health"), objects.one("Pod", "halyard-test-evaluate")
    shown = [
        "--endpoint=https://halyard.flags.svc:50051",
        "--server-ca-file=/etc/halyard/server-ca/ca.crt",
        "--own-certificate-file=/etc/halyard/tls/tls.crt",
        "--own-key-file=/etc/halyard/tls/tls.key",
    ]
    assert health["spec"]["containers"][0]["args"] == ["health", *shown]
    assert evaluate["spec"]["containers"][0]["args"] == [
        "evaluate",
        "new-checkout",
        "--targeting-key=helm-test",
        *shown,
        "--key-file=/etc/halyard/key/key",
    ]
    assert health["spec"]["containers"][0]["image"] == objects.server()["image"]
    assert health["spec"]["restartPolicy"] == "Never"


def test_helm_test_asks_in_plain_text_without_tls():
    [container] = render({"service": {"port": 80}}).one("Pod")["spec"]["containers"]
    assert container["args"] == ["health", "--endpoint=http://halyard.flags.svc:80"]
    assert "Pod" not in render({"tests": {"enabled": False}}).kinds()


def test_the_service_account_may_do_nothing():
    objects = render()
    account = objects.one("ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    assert objects.pod()["serviceAccountName"] == account["metadata"]["name"] == "halyard"
    objects = render({"serviceAccount": {"create": False}})
    assert objects.pod()["serviceAccountName"] == "default" and "ServiceAccount" not in objects.kinds()
    assert not {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"} & set(render(example=EVERYTHING).kinds())


def test_extra_objects_may_be_maps_or_texts_with_templates():
    one = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-one"}}
    other = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-other\n"
    objects = render({"extraObjects": [one, other]})
    assert [o["metadata"]["name"] for o in objects if o["kind"] == "ConfigMap"] == ["halyard-one", "halyard-other"]


def notes(example):
    """What is told after an installation; only helm 4 can be asked without a cluster."""
    arguments = ["--dry-run=client", "-n", NAMESPACE, "-f", str(CHART / "ci" / example)]
    result = subprocess.run(
        [HELMS["HELM4"], "install", "halyard", str(CHART), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "KUBECONFIG": "/dev/null"},
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split("\nNOTES:\n")[1]


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_notes_name_what_there_is(example):
    told, objects = notes(example), render(example=example)
    deployment = objects.one("Deployment")["metadata"]["name"]
    assert f"rollout status deployment/{deployment}\n" in told
    named = re.findall(r"([\w-]+)\.flags\.svc:(\d+)", told)
    services = {o["metadata"]["name"]: o["spec"]["ports"][0]["port"] for o in objects if o["kind"] == "Service"}
    assert len(named) == 2 and all(services[name] == int(port) for name, port in named)
    secure = "tls-certificate-file" in objects.options()
    assert ("plain text" in told) is not secure
    assert ("https://" in told) is secure
    assert ("create-admin" in told) is ("create-admin" not in str(objects.pod()["initContainers"]))


def test_the_dashboard_is_handed_over_as_it_is():
    data = render(example=EVERYTHING).one("ConfigMap", "halyard-flags-dashboard")["data"]
    assert json.loads(data["halyard.json"]) == json.loads((CHART / "files" / "dashboard.json").read_text())


def test_the_alert_rules_are_handed_over_as_they_are():
    spec = render(example=EVERYTHING).one("PrometheusRule")["spec"]
    assert spec == yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
