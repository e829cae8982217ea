#!/usr/bin/env python3
"""Write what follows from others: python3 helm/generate.py

- `halyard/values.schema.json` and the table in `halyard/README.md` from the comments of `halyard/values.yaml`, whose first lines say
  how they are written; the options under `tuning` come from docs/tuning.md.
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
QUANTITIES = {"type": "object", "additionalProperties": {"type": ["string", "number"]}}

# Parts that more than one value uses. Those of Kubernetes that are handed through are open: their schema is Kubernetes's own.
PARTS = {
    "any": {},
    "strings": STRINGS,
    "name": {"type": "string", "pattern": r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"},
    "named": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string", "minLength": 1}}},
    "port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "count": {"anyOf": [{"type": "integer", "minimum": 1}, {"const": ""}]},
    "duration": {"anyOf": [{"type": "string", "pattern": DURATION}, {"const": ""}]},
    "prometheusDuration": {"type": "string", "pattern": r"^([0-9]+(ms|s|m|h))+$"},
    "share": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^([0-9]{1,3}%)?$"}]},
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
        description = comments.texts.get(path, "")
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


def references(part):
    if isinstance(part, dict):
        return {
            key: f"#/definitions/{value}" if key == "$ref" else references(value) for key, value in part.items()
        }
    return [references(element) for element in part] if isinstance(part, list) else part


def tuning():
    """The options of docs/tuning.md for servers, which a test keeps equal to the program's."""
    servers = (DOCS / "tuning.md").read_text().split("\n## Servers\n")[1].split("\n## ")[0]
    options = {}
    for name, default, bounds, what in re.findall(r"^\| `--([a-z-]+)` \| (.*?) \| (.*?) \| (.*?) \|$", servers, re.M):
        least, most = bounds.split(" to ")
        schema = {"description": f"{what}. By default {default}; {bounds}."}
        if least.isdigit():
            schema |= {"type": "integer", "minimum": int(least), "maximum": int(most)}
        else:
            schema |= {"type": "string", "pattern": DURATION}
        options[name] = schema
    return {"type": "object", "additionalProperties": False, "properties": options}


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
        text = comments.texts.get(path, "").replace("|", "\\|")
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
