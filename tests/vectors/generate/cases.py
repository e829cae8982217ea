#!/usr/bin/env python3
"""Write operators.json, segments.json, prerequisites.json, splits.json and experiments.json: python3 generate/cases.py

What is expected stands beside each case, written by hand; `semantics.py`, a second evaluator, must agree with all of it, that of
the hand-written matching.json included. With `--check` nothing is written: what is there must be what would be.
"""

import json
import sys
from pathlib import Path

import experiments
import operators
import prerequisites
import segments
import semantics
import splits

FOLDER = Path(__file__).resolve().parent.parent
MODULES = {
    "operators": operators,
    "segments": segments,
    "prerequisites": prerequisites,
    "splits": splits,
    "experiments": experiments,
}


def agree(name, cases):
    """How many cases there are, once the second evaluator agrees with each."""
    for case in cases:
        answered = semantics.evaluate(case)
        if answered != case["expected"]:
            sys.exit(f"{name}: {case['name']}: expected {case['expected']}, the second evaluator says {answered}")
    return len(cases)


def main():
    sys.setrecursionlimit(10_000)
    files = {name: list(module.cases()) for name, module in MODULES.items()}
    files["matching"] = json.loads((FOLDER / "matching.json").read_text())
    names = [case["name"] for cases in files.values() for case in cases]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        sys.exit(f"cases of one name: {sorted(twice)}")
    for name, cases in files.items():
        path = FOLDER / f"{name}.json"
        text = "[\n" + ",\n".join("  " + json.dumps(case, ensure_ascii=False) for case in cases) + "\n]\n"
        if "--check" not in sys.argv and name != "matching":
            path.write_text(text)
        elif json.loads(path.read_text()) != json.loads(text):
            sys.exit(f"{path.name} is not what it would be made anew")
        print(f"{path.name}: {agree(name, cases)} cases")


if __name__ == "__main__":
    main()
