"""Writes the vectors as the fuzzer's first inputs: seeds.py <folder>. `targets/input.rs` says what an input looks like."""

import json
import sys
from pathlib import Path

SEPARATOR = b"\xff"
VECTORS = Path(__file__).resolve().parents[1] / "tests" / "vectors"


def text(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def item(kind, key, form):
    return f"{kind} {key}\n".encode() + text(form)


def seed(case):
    flags = {case["flag"]: {"definition": case["definition"], "configuration": case["configuration"]}} | case.get("flags", {})
    pieces = []
    for key, flag in flags.items():
        pieces += [item(f"flag_{part}", key, flag[part]) for part in ("definition", "configuration") if flag[part] is not None]
    pieces += [item("segment_configuration", key, form) for key, form in case.get("segments", {}).items() if form is not None]
    # Not shared out as they should be: where a key is does not matter here.
    lists = case.get("key_lists", {})
    pieces += [item("segment_keys", f"{key}/0", {"format": 1, "keys": sorted(keys)[:20]}) for key, keys in lists.items()]
    return SEPARATOR.join([*pieces, text(case["context"])])


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(VECTORS.glob("*.json")):
        if file.name != "bucketing.json":
            for number, case in enumerate(json.loads(file.read_text())):
                (folder / f"{file.stem}-{number:04}").write_bytes(seed(case))


if __name__ == "__main__":
    main()
