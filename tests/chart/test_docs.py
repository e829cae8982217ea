"""What the documentation of the installation says is so: links lead somewhere, values exist, the examples in it are those that are tested."""

import re

import pytest
import yaml
from conftest import CHART, ROOT, helm
from generate import Comments, examples, leaves

PAGES = ["docs/kubernetes.md", "docs/operations.md", "helm/halyard/README.md", "SECURITY.md"]
SOURCE = (CHART / "values.yaml").read_text()
VALUES = yaml.safe_load(SOURCE)


def anchors(path):
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES)
def test_values_that_are_named_exist(page):
    groups = set(VALUES)
    for word in re.findall(r"`([a-z][A-Za-z]+(?:\.[A-Za-z]+)+)(?:: [^`]*)?`", (ROOT / page).read_text()):
        if word.split(".")[0] not in groups or word in ("tls.crt", "tls.key"):
            continue
        value = VALUES
        for key in word.split("."):
            assert isinstance(value, dict) and key in value, f"{page}: {word}"
            value = value[key]


def test_every_alert_is_in_the_table_of_operations_as_it_is():
    page = (ROOT / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| `(Halyard\w+)` \| (page|ticket) \| \S.* \| \S.* \|$", page, re.M)
    alerts = yaml.safe_load((ROOT / "docs" / "alerts.yaml").read_text())
    rules = [(rule["alert"], rule["labels"]["severity"]) for group in alerts["groups"] for rule in group["rules"]]
    assert len(set(rules)) == len(rules)
    assert sorted(rows) == sorted(rules)


def test_the_documented_keys_of_secrets_are_the_defaults():
    rows = re.findall(r"^\| .* \| `([\w.]+)\.existingSecret` \| `([\w.-]+)`", (ROOT / "docs" / "kubernetes.md").read_text(), re.M)
    assert len(rows) == 8
    for group, key in rows:
        value = VALUES
        for part in group.split("."):
            value = value[part]
        assert key == value.get("key", value.get("certificateKey")), group


def test_every_secret_is_in_that_table():
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    secrets = {".".join(path) for path, _ in leaves(VALUES, Comments(SOURCE)) if path[-1] == "existingSecret"}
    documented = set(re.findall(r"`([\w.]+\.existingSecret)`", page))
    assert secrets - documented == {"tests.key.existingSecret"}


@pytest.mark.parametrize("page", ["docs/kubernetes.md", "helm/halyard/README.md"])
def test_the_commands_that_install_are_taken(page):
    [command] = re.findall(r"^helm install halyard helm/halyard -n halyard ((?:.*\\\n)*.*)$", (ROOT / page).read_text(), re.M)
    words = command.replace("\\\n", " ").split()
    result = helm("template", *words)
    assert result.returncode == 0, result.stderr


def test_values_in_the_documentation_are_taken(tmp_path):
    page = (ROOT / "docs" / "kubernetes.md").read_text() + (CHART / "README.md").read_text()
    blocks = [block for block in re.findall(r"```yaml\n(.*?)```", page, re.S) if "apiVersion" not in block]
    assert len(blocks) >= 2
    for block in blocks:
        path = tmp_path / "values.yaml"
        path.write_text(block)
        result = helm("template", "-f", str(CHART / "ci" / "minimal-values.yaml"), "-f", str(path))
        assert result.returncode == 0, result.stderr


def test_the_sidecar_in_the_documentation_is_the_one_that_is_tested():
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    example = (ROOT / "helm" / "examples" / "sidecar.yaml").read_text().strip()
    assert example in page
    assert examples(page) == page
