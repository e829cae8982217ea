"""How the server is reached, by whom, and how its metrics are."""

import pytest
from conftest import EVERYTHING, NAMESPACE, render


def test_clients_may_see_every_replica_or_one():
    objects = render()
    service, headless = objects.one("Service", "halyard"), objects.one("Service", "halyard-headless")
    assert service["spec"]["type"] == "ClusterIP" and "clusterIP" not in service["spec"]
    assert headless["spec"]["clusterIP"] == "None"
    # Clients that balance must not be sent to a replica that is not ready.
    assert "publishNotReadyAddresses" not in headless["spec"]
    for one in (service, headless):
        [port] = one["spec"]["ports"]
        assert port == {"name": "grpc", "port": 50051, "targetPort": "grpc", "appProtocol": "kubernetes.io/h2c"}
    names = [p["name"] for p in objects.server()["ports"]]
    assert names == ["grpc", "metrics"]
    assert len([o for o in render({"headlessService": {"enabled": False}}) if o["kind"] == "Service"]) == 2


def test_nobody_is_told_to_speak_plain_text_to_a_server_with_tls():
    for name in ("halyard", "halyard-headless"):
        assert "appProtocol" not in render(example="tls-values.yaml").one("Service", name)["spec"]["ports"][0]


def test_metrics_are_apart_from_everything_else():
    objects = render(example=EVERYTHING)
    metrics = objects.one("Service", "halyard-flags-metrics")
    assert metrics["spec"]["publishNotReadyAddresses"] is True
    assert [p["port"] for p in metrics["spec"]["ports"]] == [9100]
    monitor = objects.one("ServiceMonitor")["spec"]
    labels = monitor["selector"]["matchLabels"]
    selected = [
        o["metadata"]["name"]
        for o in objects
        if o["kind"] == "Service" and labels.items() <= o["metadata"]["labels"].items()
    ]
    # Each replica is scraped once.
    assert selected == ["halyard-flags-metrics"]
    assert monitor["endpoints"][0]["port"] == metrics["spec"]["ports"][0]["name"]
    assert monitor["namespaceSelector"] == {"matchNames": [NAMESPACE]}
    assert objects.options()["metrics-listen"] == "[::]:9100"
    assert {"name": "metrics", "containerPort": 9100} in objects.server()["ports"]


def test_without_metrics_there_is_no_port_for_them():
    objects = render({"metrics": {"enabled": False}})
    assert "metrics-listen" not in objects.options()
    assert [p["name"] for p in objects.server()["ports"]] == ["grpc"]
    assert [o["metadata"]["name"] for o in objects if o["kind"] == "Service"] == ["halyard", "halyard-headless"]


def test_what_is_closed_stays_closed():
    spec = render(example=EVERYTHING).one("NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    callers, scrapers = spec["ingress"]
    assert callers["ports"] == [{"port": "grpc"}]
    assert callers["from"][0] == {"namespaceSelector": {}}
    # `helm test` is let in too.
    assert callers["from"][1]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "test"
    assert scrapers["ports"] == [{"port": "metrics"}]
    names, database, issuer = spec["egress"]
    assert [(p["port"], p["protocol"]) for p in names["ports"]] == [
        (53, "UDP"),
        (53, "TCP"),
        (5353, "UDP"),
        (5353, "TCP"),
    ]
    assert database == {"ports": [{"port": 5432}], "to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}
    assert issuer == {"ports": [{"port": 443}]}


def test_nobody_may_scrape_who_is_not_named():
    spec = render({"networkPolicy": {"enabled": True}, "database": {"port": 6543}}).one("NetworkPolicy")["spec"]
    assert spec["ingress"] == [{"ports": [{"port": "grpc"}]}]
    assert spec["egress"][1] == {"ports": [{"port": 6543}]}


def test_an_ingress_leads_to_the_service():
    objects = render(example=EVERYTHING)
    spec = objects.one("Ingress")["spec"]
    assert spec["ingressClassName"] == "nginx"
    [rule] = spec["rules"]
    [path] = rule["http"]["paths"]
    assert (rule["host"], path["path"], path["pathType"]) == ("flags.example.com", "/", "Prefix")
    assert path["backend"]["service"] == {"name": "halyard-flags", "port": {"name": "grpc"}}
    assert spec["tls"] == [{"secretName": "flags-example-com", "hosts": ["flags.example.com"]}]


@pytest.mark.parametrize("kind", ["GRPCRoute", "HTTPRoute"])
def test_routes_lead_to_the_service(kind):
    objects = render(example=EVERYTHING)
    spec = objects.one(kind)["spec"]
    service = objects.one("Service", "halyard-flags")
    assert spec["rules"][0]["backendRefs"] == [{"name": "halyard-flags", "port": service["spec"]["ports"][0]["port"]}]
    assert spec["parentRefs"][0]["name"] == "public"
    assert spec["hostnames"][0].endswith(".example.com")


def test_browsers_reach_no_administration_by_default():
    matches = render(example="gateway-values.yaml").one("HTTPRoute")["spec"]["rules"][0]["matches"]
    assert [m["path"]["value"] for m in matches] == [
        "/halyard.evaluation.v1.EvaluationService",
        "/halyard.evaluation.v1.WatchService",
    ]


def test_a_grpc_route_leads_everything_unless_told_otherwise():
    values = {"grpcRoute": {"enabled": True, "parentRefs": [{"name": "g"}]}}
    assert "matches" not in render(values).one("GRPCRoute")["spec"]["rules"][0]
