"""The pods: what they may do, what they are told, from where their secrets come, how they are asked and how they end."""

import re

import pytest
from conftest import EVERYTHING, EXAMPLES, ROOT, render


# No metrics, nor what is made of them.
UNWATCHED = {
    "metrics": {"enabled": False, **{name: {"enabled": False} for name in ("serviceMonitor", "prometheusRule", "dashboard")}}
}


def containers(objects):
    """Every container of every pod."""
    pods = [o["spec"] for o in objects if o["kind"] == "Pod"] + [objects.pod()]
    return [c for pod in pods for c in pod.get("initContainers", []) + pod["containers"]]


@pytest.mark.parametrize("example", EXAMPLES)
def test_no_container_may_do_more_than_it_must(example):
    objects = render(example=example)
    for container in containers(objects):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, container["name"]
        assert context["readOnlyRootFilesystem"] is True, container["name"]
        assert context["capabilities"] == {"drop": ["ALL"]}, container["name"]
    for pod in [o["spec"] for o in objects if o["kind"] == "Pod"] + [objects.pod()]:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 65532
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)


@pytest.mark.parametrize("example", EXAMPLES)
def test_secrets_are_files_that_the_user_alone_may_read(example):
    objects = render(example=example)
    for container in containers(objects):
        sources = [entry.get("valueFrom", {}) for entry in container.get("env", [])]
        assert not any("secretKeyRef" in source for source in sources)
    for volume in objects.pod()["volumes"]:
        assert "secret" not in volume, "secrets are projected"
        if "projected" in volume:
            assert volume["projected"]["defaultMode"] == 0o440
    for container in containers(objects):
        for mount in container.get("volumeMounts", []):
            if mount["mountPath"].startswith("/etc/halyard"):
                assert mount["readOnly"] is True
                # A mount with a subPath does not follow its Secret.
                assert "subPath" not in mount


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.parametrize("measured", [True, False], ids=["", "without metrics"])
def test_every_file_that_is_named_is_mounted(example, measured):
    objects = render(None if measured else UNWATCHED, example=example)
    for pod in [o["spec"] for o in objects if o["kind"] == "Pod"] + [objects.pod()]:
        volumes = {v["name"]: v for v in pod.get("volumes", [])}
        for container in pod.get("initContainers", []) + pod["containers"]:
            there = set()
            for mount in container.get("volumeMounts", []):
                for source in volumes[mount["name"]].get("projected", {}).get("sources", []):
                    there |= {f"{mount['mountPath']}/{item['path']}" for item in source["secret"]["items"]}
            words = container.get("args", []) + [str(entry.get("value", "")) for entry in container.get("env", [])]
            probe = container.get("livenessProbe", {}).get("exec", {}).get("command", [])
            named = {
                part.split("=")[-1]
                for word in words + probe
                for part in [word.split("sslrootcert=")[-1]]
                if "/etc/halyard/" in part
            }
            assert named <= there, container["name"]
            # And nothing is mounted that a container has no use for: a URL may name what it needs.
            assert there - named <= {"/etc/halyard/database-ca/ca.crt"}, container["name"]


def test_the_image_is_pinned_by_digest():
    assert render().server()["image"] == "halyard:0.1.0"
    digest = "sha256:" + "0" * 64
    image = render({"image": {"digest": digest, "tag": "2", "repository": "r/h"}}).server()["image"]
    assert image == f"r/h:2@{digest}"


def test_the_server_serves():
    objects = render()
    assert [c["name"] for c in objects.pod()["containers"]] == ["halyard"]
    assert objects.server()["args"] == ["serve"]
    assert "command" not in objects.server()


def test_migrations_run_before_the_server_which_leaves_them_alone():
    objects = render()
    assert [c["name"] for c in objects.pod()["initContainers"]] == ["migrate"]
    migrate = objects.container("migrate")
    assert migrate["args"] == ["migrate"]
    assert "restartPolicy" not in migrate
    assert objects.options("migrate")["database-url-file"] == "/etc/halyard/database/url"
    assert objects.options()["migrate"] == "never"
    assert [m["name"] for m in migrate["volumeMounts"]] == ["database"]


@pytest.mark.parametrize(("mode", "told"), [("atStart", "at-start"), ("none", "never")])
def test_migrations_may_be_left_to_others(mode, told):
    objects = render({"migrations": {"mode": mode}})
    assert "initContainers" not in objects.pod()
    assert objects.options()["migrate"] == told


def test_the_order_before_the_start():
    names = [c["name"] for c in render(example=EVERYTHING).pod()["initContainers"]]
    assert names == ["before", "migrate", "create-admin"]


def test_the_first_administrator_comes_from_a_secret():
    objects = render(example=EVERYTHING)
    container = objects.container("create-admin")
    assert container["args"] == ["create-admin"]
    options = objects.options("create-admin")
    assert options["admin-email"] == "ada@example.com"
    assert options["admin-password-file"] == "/etc/halyard/administrator/password"
    assert "administrator" not in [m["name"] for m in objects.server()["volumeMounts"]]


def test_a_database_by_its_parts():
    options = render(example=EVERYTHING).options()
    assert options["database-url"] == (
        "postgres://halyard%40tenant@db.internal:6432/flags%20and%20more"
        "?sslmode=verify-full&sslrootcert=/etc/halyard/database-ca/ca.crt"
    )
    assert options["database-password-file"] == "/etc/halyard/database/password"
    assert "database-url-file" not in options
    trusting = {"host": "db", "url": {"existingSecret": ""}, "password": {"existingSecret": "s"}, "ca": {"system": True}}
    url = render({"database": {**trusting, "sslMode": "verify-full"}}).options()["database-url"]
    assert url == "postgres://halyard@db:5432/halyard?sslmode=verify-full&sslrootcert=system"
    url = render({"database": {**trusting, "ca": {}, "user": "a user"}}).options()["database-url"]
    assert url == "postgres://a%20user@db:5432/halyard"
    values = {"database": {"host": "::1", "url": {"existingSecret": ""}, "password": {"existingSecret": "s"}}}
    assert render(values).options()["database-url"] == "postgres://halyard@[::1]:5432/halyard"


def test_a_url_without_a_password_may_get_one():
    objects = render({"database": {"password": {"existingSecret": "other"}}})
    options = objects.options()
    assert options["database-url-file"] == "/etc/halyard/database/url"
    assert options["database-password-file"] == "/etc/halyard/database/password"
    sources = [v for v in objects.pod()["volumes"] if v["name"] == "database"][0]["projected"]["sources"]
    assert [(s["secret"]["name"], s["secret"]["items"][0]) for s in sources] == [
        ("halyard", {"key": "database-url", "path": "url"}),
        ("other", {"key": "password", "path": "password"}),
    ]


def volume(objects, name):
    sources = [v for v in objects.pod()["volumes"] if v["name"] == name][0]["projected"]["sources"]
    return {s["secret"]["items"][0]["path"]: (s["secret"]["name"], s["secret"]["items"][0]["key"]) for s in sources}


def test_every_secret_has_its_name_and_key():
    objects = render(example=EVERYTHING)
    assert volume(objects, "database") == {"password": ("db", "pass")}
    assert volume(objects, "database-ca") == {"ca.crt": ("db-ca", "root.pem")}
    assert volume(objects, "signing") == {"key": ("keys", "current"), "previous": ("keys", "previous")}
    assert volume(objects, "administrator") == {"password": ("administrator", "first")}
    assert volume(objects, "tls") == {"tls.crt": ("halyard-tls", "cert.pem"), "tls.key": ("halyard-tls", "key.pem")}
    assert volume(objects, "client-ca") == {"ca.crt": ("callers-ca", "bundle.pem")}
    values = {"tls": {"caKey": "root.pem"}, "metrics": {"enabled": False}}
    objects = render(values, example="mutual-tls-values.yaml")
    assert volume(objects, "server-ca") == {"ca.crt": ("halyard-tls", "root.pem")}


def test_without_its_own_secret_the_client_ca_is_that_of_the_certificate():
    values = {"tls": {"enabled": True, "existingSecret": "t", "clientCertificates": "optional"}}
    assert volume(render(values), "client-ca") == {"ca.crt": ("t", "ca.crt")}


@pytest.mark.parametrize("example", EXAMPLES)
def test_kubernetes_asks_where_no_caller_can_take_its_connection(example):
    objects = render(example=example)
    server = objects.server()
    [port] = [port["containerPort"] for port in server["ports"] if port["name"] == "metrics"]
    assert objects.options()["metrics-listen"].endswith(f":{port}")
    for probe, path in [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]:
        assert server[probe]["httpGet"] == {"port": "metrics", "path": path}
    assert server["readinessProbe"]["periodSeconds"] == 2
    # What only probes of the program's own would need is not there.
    assert "server-ca" not in [volume["name"] for volume in objects.pod()["volumes"]]


def test_without_tls_kubernetes_asks_by_grpc():
    server = render(UNWATCHED).server()
    assert server["startupProbe"]["grpc"] == server["livenessProbe"]["grpc"] == {"port": 50051, "service": "liveness"}
    assert server["readinessProbe"]["grpc"] == {"port": 50051}


def test_with_tls_kubernetes_asks_by_https():
    server = render(UNWATCHED, example="tls-values.yaml").server()
    for probe, path in [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]:
        assert server[probe]["httpGet"] == {"scheme": "HTTPS", "port": "grpc", "path": path}
        assert "grpc" not in server[probe]


def test_where_certificates_are_required_the_program_asks_itself():
    server = render(UNWATCHED, example="mutual-tls-values.yaml").server()
    shown = [
        "--endpoint=https://localhost:50051",
        "--server-ca-file=/etc/halyard/server-ca/ca.crt",
        "--own-certificate-file=/etc/halyard/tls/tls.crt",
        "--own-key-file=/etc/halyard/tls/tls.key",
    ]
    liveness = ["halyard", "health", "--service=liveness", *shown]
    assert server["livenessProbe"]["exec"]["command"] == server["startupProbe"]["exec"]["command"] == liveness
    assert server["readinessProbe"]["exec"]["command"] == ["halyard", "health", *shown]


def test_no_probe_asks_in_two_ways():
    for example, values in [(example, values) for example in EXAMPLES for values in (None, UNWATCHED)]:
        server = render(values, example=example).server()
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert len({"grpc", "httpGet", "exec", "tcpSocket"} & set(server[probe])) == 1, example


def test_the_pod_may_end_as_slowly_as_the_program():
    for shutdown in [(5, 10, 30), (0, 0, 1), (30, 600, 3600)]:
        pause, drain, grace = shutdown
        objects = render(
            {"shutdown": {"preStopSleepSeconds": pause, "drainWindowSeconds": drain, "graceSeconds": grace}}
        )
        assert objects.options()["drain-window"] == f"{drain}s"
        assert objects.options()["shutdown-grace"] == f"{grace}s"
        # Beyond the grace the program takes five seconds and a half at most to end its tasks.
        assert objects.pod()["terminationGracePeriodSeconds"] >= pause + grace + 6
        sleeps = objects.server().get("lifecycle", {}).get("preStop", {}).get("sleep")
        assert sleeps == ({"seconds": pause} if pause else None)


def test_replicas_are_replaced_one_by_one_without_a_gap():
    deployment = render().one("Deployment")["spec"]
    assert deployment["replicas"] == 2
    assert deployment["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def test_the_next_replica_is_replaced_when_clients_know_the_last_one():
    deployment = render().one("Deployment")["spec"]
    # gRPC's own bound, before which no client looks a name up a second time.
    assert deployment["minReadySeconds"] > 30
    # Kubernetes refuses more than it waits for progress, ten minutes.
    assert render({"minReadySeconds": 590}).one("Deployment")["spec"]["minReadySeconds"] == 590
    page = (ROOT / "docs" / "database.md").read_text()
    assert f"minReadySeconds: {deployment['minReadySeconds']}`" in page


def test_autoscaling_owns_the_number_of_replicas():
    objects = render(example=EVERYTHING)
    assert "replicas" not in objects.one("Deployment")["spec"]
    scaler = objects.one("HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["name"] == objects.one("Deployment")["metadata"]["name"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 9)
    assert scaler["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 60}
    assert scaler["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 1800


def test_disruptions_are_bounded_one_way_or_the_other():
    assert render().one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    spec = render(example=EVERYTHING).one("PodDisruptionBudget")["spec"]
    assert spec["minAvailable"] == "50%" and "maxUnavailable" not in spec
    spec = render({"podDisruptionBudget": {"minAvailable": 0}}).one("PodDisruptionBudget")["spec"]
    assert spec["minAvailable"] == 0 and "maxUnavailable" not in spec
    assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert "PodDisruptionBudget" not in render({"podDisruptionBudget": {"enabled": False}}).kinds()


def test_replicas_are_spread():
    keys = [(c["topologyKey"], c["whenUnsatisfiable"]) for c in render().pod()["topologySpreadConstraints"]]
    assert keys == [("topology.kubernetes.io/zone", "ScheduleAnyway"), ("kubernetes.io/hostname", "ScheduleAnyway")]
    assert "topologySpreadConstraints" not in render({"topologySpread": {"enabled": False}}).pod()
    own = [{"topologyKey": "rack", "maxSkew": 2, "whenUnsatisfiable": "DoNotSchedule"}]
    assert render({"topologySpreadConstraints": own}).pod()["topologySpreadConstraints"] == own


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("streams.max", 1000000, "1000000"),
        ("streams.maxSnapshotBytes", 4294967295, "4294967295"),
        ("tracing.sampleRatio", 0, "0"),
        ("tracing.sampleRatio", 0.001, "0.001"),
        ("tracing.sampleRatio", 1, "1"),
    ],
)
def test_numbers_are_written_as_people_write_them(path, value, text, program):
    option = {"max": "max-streams", "maxSnapshotBytes": "max-snapshot-bytes", "sampleRatio": "trace-sample-ratio"}
    values = {"tracing": {"otlpEndpoint": "http://collector:4317"}}
    values.setdefault(path.split(".")[0], {})[path.split(".")[1]] = value
    assert render(values, program=program).options()[option[path.split(".")[1]]] == text


def test_as_many_connections_are_let_in_as_there_is_memory_for():
    """By the sizes of docs/operations.md: what is there anyway, what may be used, and connections over TLS."""
    page = (ROOT / "docs" / "operations.md").read_text()

    def size(row):
        return sum(float(part) for part in re.search(rf"^\| {row}.*?\| ([0-9.+ ]+)", page, re.M)[1].split("+"))

    objects = render()
    limit = objects.server()["resources"]["limits"]["memory"]
    connections = int(objects.options()["max-connections"])
    each = size("a client with a connection of its own") + size("what TLS adds to a connection")
    whole = size("a replica with one environment") + size("what may be on its way") + connections * each
    assert whole < int(limit.removesuffix("Mi"))
    assert str(connections) in page or f"{connections:,}".replace(",", " ") in page


def test_what_is_left_to_the_program_is_not_set():
    assert render().options() == {
        "listen": "0.0.0.0:50051",
        "metrics-listen": "0.0.0.0:9464",
        "max-connections": "5000",
        "migrate": "never",
        "database-url-file": "/etc/halyard/database/url",
        "signing-key-file": "/etc/halyard/signing/key",
        "drain-window": "10s",
        "shutdown-grace": "30s",
        "log-format": "json",
    }
