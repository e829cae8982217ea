"""The options that the chart and the examples set are those of the program."""

import re

import pytest
import yaml
from conftest import CHART, EXAMPLES, ROOT, render

DECLARED = re.compile(
    r'(?:Setting::(?:value|values|switch|secret|hidden)|\bbounded|\bcounted)\(\s*"([a-z0-9-]+)"'
    r'|Setting::value\(\s*\n\s*"([a-z0-9-]+)"'
)
# Options of the server that the chart does not set, and why.
ELSEWHERE = {
    "embedded": "a pod has no PostgreSQL of its own",
    "data-dir": "of the embedded PostgreSQL",
    "postgres-bin-dir": "of the embedded PostgreSQL",
    "print-config": "prints and ends",
    "server-ca-file": "of commands that ask a server",
    "own-certificate-file": "of commands that ask a server",
    "own-key-file": "of commands that ask a server",
    "otlp-ca-file": "a file of one's own: extraVolumes, and OTEL_EXPORTER_OTLP_CERTIFICATE in extraEnv",
    "otlp-certificate-file": "likewise",
    "otlp-key-file": "likewise",
    "metrics-on-listen": "metrics have a port of their own, which only the metrics Service names",
}


def declared():
    """Every option of src/config, secrets with their files."""
    found = set()
    for path in (ROOT / "src" / "config").rglob("*.rs"):
        if "tests" in path.parts or path.name == "tests.rs":
            continue
        source = path.read_text()
        for match in DECLARED.finditer(source):
            name = match[1] or match[2]
            found.add(name)
            if "secret(" in match[0] or "hidden(" in match[0]:
                found.add(f"{name}-file")
        # Settings with a variable of another name.
        for variable in re.findall(r'variable\("HALYARD_([A-Z_]+)"\)', source):
            name = variable.lower().replace("_", "-")
            found |= {name, f"{name}-file"}
    return found


def of_serve():
    """The options of `halyard serve`: of all files of settings but those of other commands."""
    others = {"admin.rs", "audit.rs", "bench.rs", "client.rs", "sidecar.rs", "who.rs"}
    found = set()
    for path in (ROOT / "src" / "config").glob("*.rs"):
        if path.name not in others | {"tests.rs"}:
            source = path.read_text().split("#[cfg(test)]")[0]
            found |= {match[1] or match[2] for match in DECLARED.finditer(source)}
    return found


def test_the_declarations_are_found():
    assert {"listen", "signing-key-file", "admin-email", "admin-password-file", "poll-interval", "state-file"} <= declared()


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_option_exists(example):
    objects = render(example=example)
    for container in [c["name"] for c in objects.pod().get("initContainers", []) if c["name"] != "before"] + ["halyard"]:
        unknown = set(objects.options(container)) - declared()
        assert not unknown, f"{container}: {unknown}"


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_argument_exists(example):
    objects = render(example=example)
    commands = [c["args"] for o in objects if o["kind"] == "Pod" for c in o["spec"]["containers"]]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        commands.append(objects.server()[probe].get("exec", {}).get("command", []))
    for command in commands:
        options = {word.split("=")[0].removeprefix("--") for word in command if word.startswith("--")}
        assert options <= declared() | {"service"}, command


def test_every_option_of_the_server_can_be_set():
    settable = set(render(example="everything-values.yaml").options()) | {"database-url", "database-password"}
    secrets = {name.removesuffix("-file") for name in settable}
    schema = (CHART / "values.schema.json").read_text()
    assert len(of_serve()) > 25
    for option in of_serve() - set(ELSEWHERE):
        assert option in settable | secrets or f'"{option}": {{' in schema, f"--{option} has no value in the chart"


def test_fine_tuning_is_that_of_the_documentation():
    servers = (ROOT / "docs" / "tuning.md").read_text().split("\n## Servers\n")[1].split("\n## ")[0]
    options = re.findall(r"^\| `--([a-z-]+)`", servers, re.M)
    assert len(options) > 15
    values = {name: 1000 if "bytes" in name or "revisions" in name else "1s" for name in options}
    values["probe-timeout"] = "500ms"
    set_ = render({"tuning": values}).options()
    assert {name: str(value) for name, value in values.items()}.items() <= set_.items()


def test_the_sidecar_of_the_example_is_told_what_it_knows():
    [deployment] = yaml.safe_load_all((ROOT / "helm" / "examples" / "sidecar.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    [sidecar] = pod["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["args"] == ["sidecar"]
    options = {e["name"].removeprefix("HALYARD_").lower().replace("_", "-"): e["value"] for e in sidecar["env"]}
    assert set(options) <= declared()
    assert {"upstream", "key-file", "state-file", "listen"} <= set(options)
    mounts = {m["mountPath"]: m for m in sidecar["volumeMounts"]}
    assert options["key-file"].rsplit("/", 1)[0] in mounts
    state = mounts[options["state-file"].rsplit("/", 1)[0]]
    assert not state.get("readOnly")
    # The application asks where the sidecar listens, and Kubernetes where it can reach it and no caller takes its connection.
    [application] = pod["containers"]
    endpoint = {e["name"]: e["value"] for e in application["env"]}["HALYARD_ENDPOINT"]
    assert endpoint == f"http://{options['listen']}"
    [port] = sidecar["ports"]
    assert options["metrics-listen"] == f"0.0.0.0:{port['containerPort']}"
    assert sidecar["startupProbe"]["httpGet"] == {"port": port["name"], "path": "/readyz"}
    assert sidecar["livenessProbe"]["httpGet"] == {"port": port["name"], "path": "/healthz"}
    context = sidecar["securityContext"]
    assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    volumes = {v["name"]: v for v in pod["volumes"]}
    assert volumes["halyard-key"]["secret"]["defaultMode"] == 0o440
    assert pod["securityContext"]["runAsNonRoot"] and not pod["enableServiceLinks"]


def test_the_sidecar_is_of_the_charts_version():
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    text = (ROOT / "helm" / "examples" / "sidecar.yaml").read_text()
    assert f"image: halyard:{version}\n" in text


def test_the_chart_is_of_the_programs_version():
    version = re.search(r'^version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == version


def test_the_defaults_of_stopping_are_the_programs():
    source = (ROOT / "src" / "config" / "stopping.rs").read_text()
    options = render().options()
    assert f'SHUTDOWN_GRACE.default("{options["shutdown-grace"]}")' in source
    assert f'DRAIN_WINDOW.default("{options["drain-window"]}")' in source
