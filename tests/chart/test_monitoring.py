"""The dashboard and the alert rules name only metrics, labels and values of labels that the program has."""

import json
import re

import pytest
import yaml
from conftest import CHART, ROOT

ROW = re.compile(r"^\| `((?:halyard|process)_\w+)` \| (\w+) \| [^|]* \|(.*?)\| .* \|$", re.M)
# What Prometheus adds by itself.
ADDED = {"job", "instance", "le", "namespace", "pod"}


def metrics():
    """What docs/metrics.md, which a test keeps equal to the program, says of each series: its labels, and their values if told."""
    told = {}
    for name, kind, labels in ROW.findall((ROOT / "docs" / "metrics.md").read_text()):
        has = {}
        for part in labels.split(";"):
            # `one`, `two`, `three`: `values`, `of`, `three`
            *others, last = [re.findall(r"`([^`]+)`", side) for side in part.split(":")]
            names, values = (others[0], last) if others else (last, [])
            has |= {name: set() for name in names[:-1]} | {name: set(values) for name in names[-1:]}
        suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        for suffix in suffixes:
            told[name + suffix] = has
    return told


def expressions():
    alerts = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    for group in alerts["groups"]:
        for rule in group["rules"]:
            yield f"alert {rule.get('alert')}", rule["expr"]
    dashboard = json.loads((CHART / "files" / "dashboard.json").read_text())
    panels = list(dashboard["panels"])
    for panel in panels:
        panels.extend(panel.get("panels", []))
        for target in panel.get("targets", []):
            yield f"panel {panel['title']}", target["expr"]


ALL = list(expressions())


def test_there_are_metrics_and_expressions():
    assert len(metrics()) > 40 and len(ALL) > 15


@pytest.mark.parametrize(("where", "text"), ALL, ids=[f"{n} {where}" for n, (where, _) in enumerate(ALL)])
def test_metrics_exist_with_these_labels(where, text):
    told = metrics()
    named = set(re.findall(r"\b(?:halyard|process)_\w+", text))
    assert named, f"{where} names no metric"
    assert named <= set(told), f"{where}: {named - set(told)}"
    for name, selector in re.findall(r"\b((?:halyard|process)_\w+)\s*\{([^}]*)\}", text):
        for label, operator, value in re.findall(r"(\w+)\s*(=~|!~|!=|=)\s*\"([^\"]*)\"", selector):
            assert label in set(told[name]) | ADDED, f"{where}: {name} has no label {label}"
            if label in told[name] and told[name][label] and "$" not in value:
                assert set(value.split("|")) <= told[name][label], f"{where}: {label}={value}"
    labels = {label.strip() for by in re.findall(r"\bby \(([^)]*)\)", text) for label in by.split(",")}
    having = set().union(*(told[name] for name in named)) | ADDED
    assert labels <= having, f"{where}: {labels - having}"


def test_alerts_say_what_to_do():
    alerts = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    for rule in [rule for group in alerts["groups"] for rule in group["rules"]]:
        assert rule["labels"]["severity"]
        assert rule["annotations"]["summary"] and rule["annotations"]["description"]


def test_panels_do_not_lie_on_one_another():
    panels = json.loads((CHART / "files" / "dashboard.json").read_text())["panels"]
    cells = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in panels
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert all(x < 24 for x, _ in cells)
    assert len({panel["id"] for panel in panels}) == len(panels)
