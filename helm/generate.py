#!/usr/bin/env python3
"""Write what follows from others: python3 helm/generate.py

- `halyard/values.schema.json` and the table in `halyard/README.md` from the comments of `halyard/values.yaml`, whose first lines say
  how they are written; the options under `tuning` come from docs/tuning.md.
- `halyard/templates/_bounds.tpl`, the bounds of the options among them, which tests hold against the program.
- `halyard/files/alerts.yaml` and `dashboard.json` from docs/, since a chart can only hold what lies in its folder.
- The examples in docs/kubernetes.md from `examples/`.

With `--check` nothing is written: what is there must be what would be. Needs PyYAML.
"""

import json
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "helm" / "halyard"
DOCS = ROOT / "docs"
BEGIN, END = "<!-- values: made by helm/generate.py -->", "<!-- end of values -->"
TAG = "@schema "

DURATION = r"^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h) ?)+$"
STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
# As Kubernetes writes amounts.
QUANTITY = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$"
QUANTITIES = {
    "type": "object",
    "additionalProperties": {"anyOf": [{"type": "string", "pattern": QUANTITY}, {"type": "number", "minimum": 0}]},
}
NAME = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
PORT = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"


def closed(booleans, numbers, others):
    """A map of Kubernetes's with no more than these, so that what is misspelt is not left out silently."""
    properties = {name: {"type": "boolean"} for name in booleans}
    properties |= {name: {"type": "integer", "minimum": 0} for name in numbers}
    properties |= {name: {"type": ["object", "array", "string"]} for name in others}
    return {"type": "object", "additionalProperties": False, "properties": properties}


SECURITY = ("appArmorProfile", "seLinuxOptions", "seccompProfile", "windowsOptions")

# Parts that more than one value uses. Those of Kubernetes that are handed through are open: their schema is Kubernetes's own.
PARTS = {
    "any": {},
    "strings": STRINGS,
    "name": {"type": "string", "pattern": f"^{NAME}$"},
    "noName": {"type": "string", "pattern": f"^({NAME})?$"},
    # Of a Secret; it is no path.
    "key": {"type": "string", "pattern": r"^\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]{0,251}$"},
    "host": {"type": "string", "pattern": rf"^(\*\.)?{LABEL}(\.{LABEL})*$"},
    # As browsers say it, which the program compares as it is: without the port that is the scheme's own.
    "origin": {
        "type": "string",
        "pattern": rf"^[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:{PORT})?$",
        "not": {"pattern": r"^(http://.*[^\]]:80|http://.*\]:80|https://.*[^\]]:443|https://.*\]:443)$"},
    },
    "named": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string", "minLength": 1}}},
    "port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "prometheusDuration": {"type": "string", "pattern": r"^([0-9]+(ms|s|m|h))+$"},
    "share": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^([0-9]{1,3}%)?$"}]},
    "part": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^((100|[0-9]{1,2})%)?$"}]},
    "podSecurity": closed(
        ["runAsNonRoot"],
        ["fsGroup", "runAsGroup", "runAsUser"],
        ["fsGroupChangePolicy", "seLinuxChangePolicy", "supplementalGroups", "supplementalGroupsPolicy", "sysctls", *SECURITY],
    ),
    "security": closed(
        ["allowPrivilegeEscalation", "privileged", "readOnlyRootFilesystem", "runAsNonRoot"],
        ["runAsGroup", "runAsUser"],
        ["capabilities", "procMount", *SECURITY],
    ),
    "parent": {
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {
            name: {"type": "integer" if name == "port" else "string"}
            for name in ("group", "kind", "namespace", "name", "sectionName", "port")
        },
    },
    "resources": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "requests": QUANTITIES,
            "limits": QUANTITIES,
            "claims": {"type": "array", "items": {"type": "object"}},
        },
    },
}
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}


class Comments:
    """What stands above the keys of the values, by their paths."""

    def __init__(self, text):
        self.texts, self.schemas, self.titles = {}, {}, {}
        path, lines, title = [], [], None
        for line in text.splitlines():
            comment = re.match(r"\s*# (.*)", line)
            key = re.match(r"( *)([A-Za-z]\w*):", line)
            if comment:
                lines.append(comment[1])
            elif key:
                path = [*path[: len(key[1]) // 2], key[2]]
                self.note(tuple(path), lines, title)
                lines, title = [], None
            elif not line.strip():
                # What stands alone is about the file, or a heading of the table.
                headings = [text[3:] for text in lines if text.startswith("## ")]
                title = headings[-1] if headings else title
                lines = []

    def note(self, path, lines, title):
        if title:
            self.titles[path] = title
        for line in lines:
            if line.startswith(TAG):
                self.schemas[path] = json.loads(line.removeprefix(TAG))
        text = " ".join(line for line in lines if not line.startswith(TAG))
        if text:
            self.texts[path] = text


def is_documented_whole(path, value, comments):
    """Whether a value has its documentation as a whole; otherwise it is a group of others."""
    return not isinstance(value, dict) or path in comments.texts


def leaves(values, comments, path=()):
    """Every value that is documented by itself, with its path."""
    for key, value in values.items():
        here = (*path, key)
        if is_documented_whole(here, value, comments):
            yield here, value
        else:
            yield from leaves(value, comments, here)


def schema_of(value, comments, path):
    """The schema of a value: what its default says of its type, and what its comment adds."""
    if is_documented_whole(path, value, comments):
        added = dict(comments.schemas.get(path, {}))
        description = described(path, comments)
        if "option" in added:
            return {"description": description, "anyOf": [bounded(added), {"const": ""}]}
        if "$ref" in added:
            # Beside a reference draft 7 hears nothing else.
            return {"description": description, "allOf": [{"$ref": f"#/definitions/{added.pop('$ref')}"}], **added}
        added = references(added)
        if not {"type", "anyOf", "enum"} & set(added):
            added["type"] = TYPES[type(value)]
        return {"description": description, **added}
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {key: schema_of(value[key], comments, (*path, key)) for key in value},
    }


def bounded(tag):
    """The schema of an option with bounds. Those of durations are no pattern: the templates have them, and say them in words."""
    if isinstance(tag["least"], int):
        return {"type": "integer", "minimum": tag["least"], "maximum": tag["most"]}
    return {"type": "string", "pattern": DURATION}


def described(path, comments):
    """What is said of a value, with the bounds that it has."""
    text, tag = comments.texts.get(path, ""), comments.schemas.get(path, {})
    return f"{text} {tag['least']} to {tag['most']}." if "option" in tag else text


def references(part):
    if isinstance(part, dict):
        return {
            key: f"#/definitions/{value}" if key == "$ref" else references(value) for key, value in part.items()
        }
    return [references(element) for element in part] if isinstance(part, list) else part


def tuned():
    """The options of docs/tuning.md for servers, which a test keeps equal to the program's: bounds, default and meaning of each."""
    servers = (DOCS / "tuning.md").read_text().split("\n## Servers\n")[1].split("\n## ")[0]
    for name, default, bounds, what in re.findall(r"^\| `--([a-z-]+)` \| (.*?) \| (.*?) \| (.*?) \|$", servers, re.M):
        least, most = (int(bound) if bound.isdigit() else bound for bound in bounds.split(" to "))
        yield {"option": name, "least": least, "most": most}, default, what


def tuning():
    options = {
        tag["option"]: {
            "description": f"{what}. By default {default}; {tag['least']} to {tag['most']}.",
            **bounded(tag),
        }
        for tag, default, what in tuned()
    }
    return {"type": "object", "additionalProperties": False, "properties": options}


def bounds(comments):
    """The bounds of options, each on a line, for the templates and for the test that asks the program."""
    lines = [
        {"value": ".".join(path), **tag} for path, tag in comments.schemas.items() if "option" in tag
    ] + [{"value": f"tuning.{tag['option']}", **tag, "default": default} for tag, default, _ in tuned()]
    listed = "\n".join(f"- {json.dumps(line)}" for line in lines)
    return (
        "{{/* The bounds of options, of values.yaml and docs/tuning.md; made by helm/generate.py. */}}\n"
        f'{{{{- define "halyard.bounds" -}}}}\n{listed}\n{{{{- end }}}}\n'
    )


def schema(values, comments):
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the Halyard chart",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "global": {"description": "What charts around this one share; nothing of it is used here.", "type": "object"},
            **{key: schema_of(value, comments, (key,)) for key, value in values.items()},
        },
        "definitions": {**PARTS, "tuning": tuning()},
    }


def table(values, comments):
    lines = []
    for path, value in leaves(values, comments):
        # Headings stand above keys of the first level; the first value below such a key has it.
        title = comments.titles.pop(path[:1], None)
        if title:
            lines += ["", f"### {title}", "", "| value | default | what |", "|---|---|---|"]
        default = json.dumps(value, ensure_ascii=False)
        text = described(path, comments).replace("|", "\\|")
        lines.append(f"| `{'.'.join(path)}` | `{default}` | {text} |")
    return "\n".join(lines).strip()


def between(text, begin, end, content):
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


def examples(text):
    """The page with each block between `<!-- example: FILE -->` and `<!-- end -->` as the file has it."""

    def block(found):
        content = (ROOT / "helm" / "examples" / found[1]).read_text().strip()
        return f"<!-- example: {found[1]} -->\n\n```yaml\n{content}\n```\n\n<!-- end -->"

    return re.sub(r"<!-- example: (\S+) -->.*?<!-- end -->", block, text, flags=re.S)


def files():
    """What is made, by its path."""
    source = (CHART / "values.yaml").read_text()
    values, comments = yaml.safe_load(source), Comments(source)
    yield CHART / "values.schema.json", json.dumps(schema(values, comments), indent=2, ensure_ascii=False) + "\n"
    yield CHART / "templates" / "_bounds.tpl", bounds(comments)
    readme = CHART / "README.md"
    yield readme, between(examples(readme.read_text()), BEGIN, END, table(values, comments))
    for name in ("alerts.yaml", "dashboard.json"):
        if (DOCS / name).exists():
            yield CHART / "files" / name, (DOCS / name).read_text()
    page = DOCS / "kubernetes.md"
    yield page, examples(page.read_text())


def main():
    stale = []
    for path, text in files():
        if path.exists() and path.read_text() == text:
            continue
        if "--check" in sys.argv:
            stale.append(str(path.relative_to(ROOT)))
        else:
            path.write_text(text)
    if stale:
        sys.exit(f"not what they would be made anew, by python3 helm/generate.py: {', '.join(stale)}")


if __name__ == "__main__":
    main()
