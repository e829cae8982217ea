"""Every value is documented, checked and used; wrong ones are refused with a reason."""

import json
import re

import pytest
import yaml
from conftest import CHART, EVERYTHING, nested, refusal, render, rendered
from generate import Comments, leaves

SOURCE = (CHART / "values.yaml").read_text()
VALUES = yaml.safe_load(SOURCE)
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
PATHS = {".".join(path): value for path, value in leaves(VALUES, Comments(SOURCE))}

# Another value for what cannot be made of the one that is there, and what else must be so that it shows.
OTHERS = {
    "image.digest": "sha256:" + "1" * 64,
    "image.pullPolicy": "Never",
    "migrations.mode": "none",
    "database.sslMode": "require",
    "database.url.existingSecret": "other",
    "tls.clientCertificates": "required",
    "listenAddress": "0.0.0.0",
    "log.format": "json",
    "service.type": "NodePort",
    "topologySpread.whenUnsatisfiable": "ScheduleAnyway",
    "topologySpreadConstraints": [{"topologyKey": "rack", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}],
    "tracing.otlpEndpoint": "http://other:4317",
    "tracing.sampleRatio": 0.5,
    "openId.issuer": "https://other.example.com",
    "podDisruptionBudget.minAvailable": 1,
    "tuning": {"poll-interval": "2s"},
    "cors.adminOrigins": ["https://other.example.com"],
    "cors.evaluationOrigins": ["https://other.example.com"],
    "history.retention": "77h",
    "streams.heartbeat": "33s",
    "events.windowDays": 9,
    "ingress.hosts": ["other.example.com"],
    "grpcRoute.hostnames": ["other.example.com"],
    "httpRoute.hostnames": ["other.example.com"],
    "imagePullSecrets": ["other"],
    "resources": {"requests": {"cpu": "1"}},
    "podSecurityContext": {"runAsUser": 1000},
    "securityContext": {"privileged": False},
    "extraObjects": [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}}],
    "extraEnvFrom": [{"secretRef": {"name": "other"}}],
    "ingress.tls": [{"hosts": ["other.example.com"]}],
    "autoscaling.behavior": {"scaleUp": {"stabilizationWindowSeconds": 1}},
    "affinity": {"podAffinity": {}},
    "commonLabels": {"other": "label"},
}
# No metrics, nor what is made of them.
UNWATCHED = {"enabled": False, **{name: {"enabled": False} for name in ("serviceMonitor", "prometheusRule", "dashboard")}}
# Values that others outdo: what must be so for them to count.
NEEDS = {
    "replicas": {"autoscaling": {"enabled": False}},
    "podDisruptionBudget.maxUnavailable": {"podDisruptionBudget": {"minAvailable": ""}},
    "database.url.existingSecret": {"database": {"host": "", "sslMode": "", "ca": {"existingSecret": ""}, "url": {"existingSecret": "url"}}},
    "database.url.key": {"database": {"host": "", "sslMode": "", "url": {"existingSecret": "url"}}},
    "tls.probeName": {"tls": {"clientCertificates": "required"}, "metrics": UNWATCHED},
    "migrations.mode": {"firstAdministrator": {"email": "", "password": {"existingSecret": ""}}},
    "metrics.enabled": {"metrics": {**UNWATCHED, "enabled": True}},
}
# They cannot be changed alone; tests of what they do are in test_objects.py.
NOT_ALONE = {"tls.enabled", "database.ca.system"}


def different(path, value):
    if path in OTHERS:
        return OTHERS[path]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 3
    if isinstance(value, list):
        if part(path).get("items", {}).get("type") == "string":
            return ["other.example.com"]
        return [{"name": "other"}]
    if isinstance(value, dict):
        return {"other": "value"}
    schema = json.dumps(part(path))
    if "(ns|us|ms|s|m|h)" in schema:
        return "77s"
    if part(path).get("anyOf", [{}])[0].get("type") == "integer":
        return max(77, part(path)["anyOf"][0]["minimum"])
    if "definitions/port" in schema:
        return 77
    if "prometheusDuration" in schema:
        return "9s"
    if "definitions/share" in schema or "definitions/part" in schema:
        return "10%"
    return "other"


def part(path):
    """The schema of a value."""
    schema = SCHEMA
    for key in path.split("."):
        schema = schema["properties"][key]
    return schema


def combine(one, other):
    for key, value in other.items():
        one[key] = combine(dict(one[key]), value) if isinstance(one.get(key), dict) and isinstance(value, dict) else value
    return one


@pytest.mark.parametrize("path", sorted(set(PATHS) - NOT_ALONE))
def test_every_value_is_used(path):
    now = yaml.safe_load((CHART / "ci" / EVERYTHING).read_text())
    for key in path.split("."):
        now = now.get(key, {}) if isinstance(now, dict) else {}
    needs = NEEDS.get(path, {})
    other = nested(path, different(path, PATHS[path] if now == {} else now))
    before = rendered(json.dumps(needs), files=(EVERYTHING,))
    after = rendered(json.dumps(combine(dict(needs), other)), files=(EVERYTHING,))
    assert before.returncode == after.returncode == 0, before.stderr + after.stderr
    assert before.stdout != after.stdout, f"{path} changes nothing"


def test_every_value_is_documented():
    texts = Comments(SOURCE).texts
    for path in PATHS:
        text = texts.get(tuple(path.split(".")), "")
        assert len(text) > 5 and text[0].isupper() and text.rstrip(")")[-1] in ".…", f"{path}: {text!r}"
    readme = (CHART / "README.md").read_text()
    for path in PATHS:
        assert f"| `{path}` |" in readme


def test_the_schema_is_closed_at_every_level():
    def walk(schema, path):
        if schema.get("type") == "object" and "properties" in schema and "required" not in schema:
            assert schema["additionalProperties"] is False, path
        for key, value in schema.get("properties", {}).items():
            walk(value, f"{path}.{key}")

    walk(SCHEMA, "")
    assert SCHEMA["additionalProperties"] is False
    assert set(SCHEMA["properties"]) == set(VALUES) | {"global"}


def groups(values, path=""):
    yield path
    for key, value in values.items():
        here = f"{path}.{key}".lstrip(".")
        if isinstance(value, dict) and here not in PATHS:
            yield from groups(value, here)


@pytest.mark.parametrize("path", sorted(groups(VALUES)), ids=lambda path: path or "top")
def test_a_misspelt_value_is_refused_at_every_level(path):
    said = refusal(nested(f"{path}.misspelt".lstrip("."), 1))
    assert "misspelt" in said


# Their schema is Kubernetes's.
HANDED_THROUGH = {"affinity", "autoscaling.behavior"}


@pytest.mark.parametrize("path", sorted(set(PATHS) - HANDED_THROUGH))
def test_a_value_of_another_type_is_refused(path):
    wrong = {bool: "yes", int: "many", str: {"not": "text"}, list: {"not": "a list"}, dict: ["not a map"]}
    said = refusal(nested(path, wrong[type(PATHS[path])]))
    assert path.split(".")[-1] in said


WRONG = [
    ("image.digest", "sha256:12"),
    ("image.digest", "latest"),
    ("image.pullPolicy", "Sometimes"),
    ("image.repository", ""),
    ("image.repository", "my image"),
    ("image.tag", "bad tag"),
    ("image.tag", "-1"),
    ("fullnameOverride", "UPPER_case"),
    ("fullnameOverride", "1st"),
    ("nameOverride", "not a name"),
    ("serviceAccount.name", "Some One"),
    ("priorityClassName", "Most_Important"),
    ("runtimeClassName", "gVisor!"),
    ("database.url.existingSecret", "Bad_Name"),
    ("signingKey.existingSecret", "Bad_Name"),
    ("tls.existingSecret", "-tls"),
    ("tests.key.existingSecret", "a/b"),
    ("signingKey.key", "../../x"),
    ("signingKey.key", ".."),
    ("signingKey.key", ""),
    ("database.ca.key", "ca/root.pem"),
    ("tls.caKey", "a b"),
    ("imagePullSecrets", ["Not A Name"]),
    ("replicas", 0),
    ("replicas", -1),
    ("autoscaling.minReplicas", 0),
    ("autoscaling.targetCPUUtilizationPercentage", 0),
    ("podDisruptionBudget.maxUnavailable", "half"),
    ("podDisruptionBudget.minAvailable", -1),
    ("updateStrategy.maxSurge", "25"),
    ("updateStrategy.maxUnavailable", "101%"),
    ("podDisruptionBudget.minAvailable", "101%"),
    ("minReadySeconds", -1),
    ("minReadySeconds", 600),
    ("database.port", 0),
    ("database.port", 65536),
    ("database.host", "db/name"),
    ("database.host", "user@db"),
    ("database.sslMode", "verify"),
    ("database.name", ""),
    ("database.poolSize", 0),
    ("migrations.mode", "always"),
    ("openId.issuer", "id.example.com"),
    ("tls.clientCertificates", "maybe"),
    ("tls.certificateKey", ""),
    ("listenAddress", "127.0.0.1"),
    ("log.format", "xml"),
    ("limits.maxConnections", 0),
    ("limits.maxConnections", "many"),
    ("limits.maxConnections", 99999999999),
    ("limits.maxRequests", 10000001),
    ("database.poolSize", 1001),
    ("workerThreads", 1025),
    ("streams.maxSnapshotBytes", 4294967296),
    ("events.windowDays", 31),
    ("limits.openingTimeout", "10"),
    ("limits.openingTimeout", "ten seconds"),
    ("limits.maxDeadline", 30),
    ("cors.adminOrigins", ["flags.example.com"]),
    ("cors.adminOrigins", ["https://flags.example.com/path"]),
    ("cors.evaluationOrigins", ["https://a.example.com,https://b.example.com"]),
    ("cors.adminOrigins", ["*"]),
    ("cors.evaluationOrigins", ["*", "https://a.example.com"]),
    ("cors.evaluationOrigins", ["https://Shop.example.com"]),
    ("cors.evaluationOrigins", ["https://*.example.com"]),
    ("cors.evaluationOrigins", ["https://shop.example.com:443"]),
    ("cors.evaluationOrigins", ["http://shop.example.com:80"]),
    ("cors.evaluationOrigins", ["https://[::1]:443"]),
    ("cors.evaluationOrigins", ["https://shop.example.com:0443"]),
    ("cors.evaluationOrigins", ["https://shop.example.com:65536"]),
    ("cors.evaluationOrigins", ["https://shop.example.com?x"]),
    ("cors.evaluationOrigins", ["https://somebody@shop.example.com"]),
    ("cors.adminOrigins", ["https://*.example.com"]),
    ("cors.adminOrigins", ["null"]),
    ("limits.maxRequestBytes", 65535),
    ("limits.maxHeaderBytes", 1048577),
    ("streams.heartbeat", "-1s"),
    ("tuning", {"pole-interval": "1s"}),
    ("tuning", {"poll-interval": 1}),
    ("tuning", {"poll-interval": "fast"}),
    ("tuning", {"resume-revisions": 0}),
    ("tuning", {"resume-revisions": 1000001}),
    ("tuning", {"max-streams": 1}),
    ("shutdown.graceSeconds", 0),
    ("shutdown.graceSeconds", 3601),
    ("shutdown.preStopSleepSeconds", -1),
    ("tracing.otlpEndpoint", "collector:4317"),
    ("tracing.otlpEndpoint", "http://c:4318/v1/traces"),
    ("tracing.otlpEndpoint", "http://somebody@c:4317"),
    ("tracing.otlpEndpoint", "http://c:4317?x"),
    ("tracing.sampleRatio", 1.5),
    ("tracing.sampleRatio", -0.1),
    ("tracing.sampleRatio", "half"),
    ("metrics.port", 0),
    ("metrics.serviceMonitor.interval", "often"),
    ("service.type", "ExternalName"),
    ("service.port", 0),
    ("service.annotations", {"number": 1}),
    ("ingress.hosts", [{"host": "flags.example.com"}]),
    ("ingress.hosts", ["not a host"]),
    ("ingress.hosts", ["https://flags.example.com"]),
    ("ingress.hosts", ["flags.*.example.com"]),
    ("ingress.className", "not a name"),
    ("grpcRoute.hostnames", ["flags.example.com:443"]),
    ("httpRoute.hostnames", ["Flags.example.com"]),
    ("ingress.tls", [{"secretName": "s"}]),
    ("ingress.tls", [{"hosts": ["h"], "secretName": "Not A Name"}]),
    ("ingress.tls", [{"hosts": ["h"], "secret": "s"}]),
    ("grpcRoute.parentRefs", [{"namespace": "gateways"}]),
    ("grpcRoute.parentRefs", [{"name": "g", "port": "https"}]),
    ("httpRoute.parentRefs", ["public"]),
    ("networkPolicy.databasePort", "postgres"),
    ("resources", {"request": {"cpu": 1}}),
    ("resources.limits.memory", "abc"),
    ("resources.limits.memory", "512 Mi"),
    ("resources.limits.memory", "512MB"),
    ("resources.requests.cpu", "-1"),
    ("resources.requests.cpu", -1),
    ("podSecurityContext.runAsNonRot", True),
    ("podSecurityContext.runAsNonRoot", "yes"),
    ("podSecurityContext.runAsUser", "root"),
    ("securityContext.readOnlyRootFileSystem", True),
    ("securityContext.privileged", "no"),
    ("probes.liveness.failureThreshold", 0),
    ("topologySpread.whenUnsatisfiable", "Perhaps"),
    ("extraEnv", [{"value": "without a name"}]),
    ("extraVolumes", ["more"]),
    ("extraObjects", [1]),
    ("tests.flag", "not a flag"),
]


@pytest.mark.parametrize(("path", "value"), WRONG, ids=[f"{path}={json.dumps(value)}" for path, value in WRONG])
def test_the_schema_refuses(path, value, program):
    said = refusal(nested(path, value), program=program)
    assert "values don't meet the specifications of the schema" in said
    assert path.split(".")[-1] in said


ACCEPTED = [
    ("cors.evaluationOrigins", ["capacitor://localhost"]),
    ("cors.evaluationOrigins", ["chrome-extension://abcdefghijklmnop"]),
    ("cors.evaluationOrigins", ["http://localhost:5173", "http://[::1]:3000", "https://[2001:db8::443]"]),
    ("cors.evaluationOrigins", ["http://shop.example.com:443", "https://shop.example.com:8443", "https://a.b:65535"]),
    ("cors.adminOrigins", ["https://xn--bcher-kva.example"]),
    ("image.tag", "v1.2.3_rc-1"),
    ("image.repository", "registry.example.com:5000/team/halyard"),
    ("signingKey.key", ".signing.key"),
    ("signingKey.existingSecret", "halyard.keys-1"),
    ("ingress.hosts", ["*.example.com", "flags"]),
    ("tracing.otlpEndpoint", "https://collector.observability.svc:4317/"),
    ("tracing.otlpEndpoint", "http://[2001:db8::1]:4317"),
    ("resources", {"requests": {"cpu": 0.5, "memory": "1e9"}, "limits": {"cpu": "1500m", "memory": "0.5Gi", "example.com/gpu": 1}}),
    ("podSecurityContext", {"supplementalGroups": [1], "fsGroupChangePolicy": "OnRootMismatch", "sysctls": []}),
    ("securityContext", {"privileged": False, "seccompProfile": {"type": "Localhost", "localhostProfile": "p"}}),
    ("limits.maxDeadline", "1h"),
    ("limits.maxDeadline", "1m30s"),
    ("limits.maxDeadline", "1m 30s 250ms"),
    ("limits.maxDeadline", "0.1s"),
    ("limits.maxConnections", 10000000),
    ("limits.maxConnections", ""),
    ("streams.heartbeat", "1m"),
    ("history.horizonAge", "0s"),
    ("tuning", {"heartbeat-least": "10ms"}),
    ("tuning", {"probe-timeout": "59s", "probe-interval": "1m"}),
    ("podDisruptionBudget", {"minAvailable": 1}),
    ("podDisruptionBudget", {"minAvailable": "50%"}),
    ("podDisruptionBudget", {"enabled": False, "minAvailable": 5}),
    ("podDisruptionBudget", {"maxUnavailable": "1%"}),
    ("updateStrategy", {"maxSurge": 0, "maxUnavailable": 1}),
    ("updateStrategy", {"maxSurge": "200%"}),
]


@pytest.mark.parametrize(("path", "value"), ACCEPTED, ids=[f"{path}={json.dumps(value)}" for path, value in ACCEPTED])
def test_what_the_program_and_kubernetes_take_is_taken(path, value, program):
    assert render(nested(path, value), program=program)


PARTS = {"host": "db", "url": {"existingSecret": ""}, "password": {"existingSecret": "s"}}
TOGETHER = [
    ({"database": {"url": {"existingSecret": ""}}}, "database.url.existingSecret is missing"),
    ({"database": {"host": "db"}}, "are both given; leave one out"),
    (
        {"database": {"host": "db", "url": {"existingSecret": ""}}},
        "database.password.existingSecret is missing beside database.host",
    ),
    ({"database": {"sslMode": "require"}}, "write sslmode=… into the URL"),
    ({"database": {**PARTS, "sslMode": "verify-full"}}, "database.sslMode verify-full needs database.ca"),
    ({"database": {**PARTS, "ca": {"existingSecret": "ca"}}}, "nothing would be verified"),
    ({"database": {**PARTS, "sslMode": "prefer", "ca": {"existingSecret": "ca"}}}, "nothing would be verified"),
    ({"database": {**PARTS, "sslMode": "verify-ca", "ca": {"system": True}}}, "database.ca.system is for"),
    (
        {"database": {**PARTS, "sslMode": "verify-full", "ca": {"system": True, "existingSecret": "ca"}}},
        "database.ca.system is for",
    ),
    ({"limits": {"maxDeadline": "5h"}}, "limits.maxDeadline must lie between 100ms and 1h"),
    ({"limits": {"maxDeadline": "59m 61s"}}, "limits.maxDeadline must lie between 100ms and 1h"),
    ({"limits": {"openingTimeout": "99.9ms"}}, "limits.openingTimeout must lie between 100ms and 10m"),
    ({"limits": {"requestTimeout": "99999999us"}, "history": {"retention": "59m"}}, "history.retention must lie between 1h"),
    ({"streams": {"heartbeat": "1ms"}}, "streams.heartbeat must lie between 10ms and 10m"),
    ({"streams": {"heartbeat": "100ms"}}, "streams.heartbeat must lie between tuning.heartbeat-least"),
    ({"streams": {"heartbeat": "20s"}, "tuning": {"heartbeat-most": "15s"}}, "must lie between tuning.heartbeat-least"),
    ({"tuning": {"poll-interval": "1h"}}, "tuning.poll-interval must lie between 10ms and 1m"),
    ({"tuning": {"poll-interval": "31s"}}, "tuning.poll-interval must not be longer than tuning.scan-interval"),
    ({"tuning": {"probe-timeout": "5s"}}, "tuning.probe-timeout must be shorter than tuning.probe-interval"),
    ({"events": {"windowDays": 30, "retentionDays": 29}}, "must not be less than events.windowDays"),
    (
        {"updateStrategy": {"maxSurge": 0, "maxUnavailable": "0%"}},
        "updateStrategy.maxSurge and updateStrategy.maxUnavailable are both 0",
    ),
    ({"podDisruptionBudget": {"maxUnavailable": 0}}, "podDisruptionBudget.maxUnavailable lets none be away"),
    ({"podDisruptionBudget": {"maxUnavailable": "0%"}}, "podDisruptionBudget.maxUnavailable lets none be away"),
    ({"podDisruptionBudget": {"minAvailable": 2}}, "podDisruptionBudget.minAvailable 2 leaves none of 2"),
    ({"podDisruptionBudget": {"minAvailable": "51%"}}, "podDisruptionBudget.minAvailable 51% leaves none of 2"),
    (
        {"podDisruptionBudget": {"minAvailable": 3}, "autoscaling": {"enabled": True, "minReplicas": 3}, "replicas": 9},
        "podDisruptionBudget.minAvailable 3 leaves none of 3",
    ),
    ({"tracing": {"sampleRatio": 0}}, "tracing.sampleRatio means nothing without tracing.otlpEndpoint"),
    ({"signingKey": {"existingSecret": ""}}, "signingKey.existingSecret is missing"),
    ({"firstAdministrator": {"email": "a@example.com"}}, "belong together; give both or none"),
    ({"firstAdministrator": {"password": {"existingSecret": "s"}}}, "belong together; give both or none"),
    (
        {
            "firstAdministrator": {"email": "a@example.com", "password": {"existingSecret": "s"}},
            "migrations": {"mode": "none"},
        },
        "firstAdministrator needs migrations.mode initContainer",
    ),
    ({"openId": {"issuer": "https://id.example.com"}}, "openId.issuer and openId.audience belong together"),
    ({"openId": {"audience": "halyard"}}, "openId.issuer and openId.audience belong together"),
    ({"openId": {"roles": "ops=administrator"}}, "mean nothing without openId.issuer"),
    ({"openId": {"rolesClaim": "roles"}}, "mean nothing without openId.issuer"),
    ({"tls": {"enabled": True}}, "tls.existingSecret is missing beside tls.enabled"),
    ({"tls": {"existingSecret": "t"}}, "callers would be answered in plain text"),
    ({"tls": {"clientCertificates": "required"}}, "callers would be answered in plain text"),
    ({"tls": {"clientCa": {"existingSecret": "c"}}}, "callers would be answered in plain text"),
    (
        {"tls": {"enabled": True, "existingSecret": "t", "clientCa": {"existingSecret": "c"}}},
        "does not say whether certificates are optional or required",
    ),
    ({"shutdown": {"drainWindowSeconds": 31}}, "must not be more than shutdown.graceSeconds"),
    ({"autoscaling": {"enabled": True, "minReplicas": 7}}, "must not be more than autoscaling.maxReplicas"),
    (
        {"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}},
        "autoscaling needs resources.requests.cpu",
    ),
    *[
        ({"metrics": {"enabled": False, name: {"enabled": True}}}, f"metrics.{name}.enabled means nothing")
        for name in ("serviceMonitor", "prometheusRule", "dashboard")
    ],
    ({"metrics": {"port": 50051}}, "metrics.port must not be 50051"),
    ({"ingress": {"enabled": True}}, "ingress.hosts is empty"),
    ({"grpcRoute": {"enabled": True}}, "grpcRoute.parentRefs is empty"),
    ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs is empty"),
    ({"tests": {"flag": "f"}}, "tests.key.existingSecret is missing beside tests.flag"),
]


@pytest.mark.parametrize(("values", "reason"), TOGETHER, ids=[reason for _, reason in TOGETHER])
def test_values_that_do_not_fit_together_are_refused(values, reason, program):
    assert reason in refusal(values, program=program)


def test_all_that_does_not_fit_is_told_at_once():
    said = refusal({"signingKey": {"existingSecret": ""}, "tls": {"enabled": True}, "ingress": {"enabled": True}})
    for reason in ("signingKey.existingSecret", "tls.existingSecret", "ingress.hosts"):
        assert reason in said


def test_a_parent_chart_may_share_values(program):
    assert render({"global": {"imageRegistry": "registry.example.com"}}, program=program)


def test_no_value_holds_a_secret():
    for path, value in PATHS.items():
        if re.search(r"(password|token|secret|signingkey)$", path, re.I) and not path.lower().endswith("existingsecret"):
            pytest.fail(f"{path} may hold a secret: name a Secret instead")
