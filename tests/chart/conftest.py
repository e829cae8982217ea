"""Rendering the chart with the real helm, and what its parts are called.

`make chart` says in HELM3 and HELM4 where the programs are. A missing one fails the tests, it skips none.
"""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
CHART = ROOT / "helm" / "halyard"
sys.path.insert(0, str(ROOT / "helm"))

HELMS = {name: os.environ[name] for name in ("HELM3", "HELM4")}
EXAMPLES = sorted(path.name for path in (CHART / "ci").glob("*-values.yaml"))
EVERYTHING = "everything-values.yaml"
NAMESPACE = "flags"


def helm(*arguments, program="HELM4"):
    command = [HELMS[program], arguments[0], *(["halyard"] if arguments[0] == "template" else []), str(CHART)]
    return subprocess.run([*command, *arguments[1:]], capture_output=True, text=True, timeout=60)


@functools.cache
def rendered(values, program="HELM4", files=("minimal-values.yaml",), further=()):
    """What helm makes of files of `ci/` and the JSON of further values. The values may be wrong."""
    arguments = [argument for name in files for argument in ("-f", str(CHART / "ci" / name))]
    path = None
    if values:
        path = Path(os.environ.get("TMPDIR", "/tmp")) / f"halyard-values-{os.getpid()}.json"
        path.write_text(values)
        arguments += ["-f", str(path)]
    result = helm("template", "--namespace", NAMESPACE, *arguments, *further, program=program)
    if path:
        path.unlink()
    return result


class Objects(list):
    """The objects of a release."""

    def one(self, kind, name=None):
        found = [o for o in self if o["kind"] == kind and name in (None, o["metadata"]["name"])]
        assert len(found) == 1, f"{len(found)} of {kind} {name or ''}"
        return found[0]

    def kinds(self):
        return sorted({o["kind"] for o in self})

    def pod(self):
        return self.one("Deployment")["spec"]["template"]["spec"]

    def server(self):
        return self.container("halyard")

    def container(self, name):
        pod = self.pod()
        found = [c for c in pod.get("initContainers", []) + pod["containers"] if c["name"] == name]
        assert len(found) == 1, f"{len(found)} containers {name}"
        return found[0]

    def options(self, name="halyard"):
        """The options that a container is given, by name."""
        return {
            entry["name"].removeprefix("HALYARD_").lower().replace("_", "-"): entry["value"]
            for entry in self.container(name)["env"]
            if entry["name"].startswith("HALYARD_")
        }


def parse(text):
    return Objects(o for o in yaml.safe_load_all(text) if o)


def render(values=None, example="minimal-values.yaml", program="HELM4", further=()):
    """The objects of a release with the values of an example, and these on top."""
    result = rendered(json.dumps(values) if values else "", program, (example,), tuple(further))
    assert result.returncode == 0, result.stderr
    return parse(result.stdout)


def refusal(values, example="minimal-values.yaml", program="HELM4"):
    """Why helm refuses these values."""
    result = rendered(json.dumps(values), program, (example,))
    assert result.returncode != 0, "helm takes these values"
    return result.stderr


def nested(path, value):
    """A value with its place in the values: {"a": {"b": value}}."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


@pytest.fixture(params=sorted(HELMS))
def program(request):
    return request.param
