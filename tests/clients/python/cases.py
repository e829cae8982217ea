"""The vectors' cases that can be written through the API, sorted into worlds: what one environment holds."""

import json
from dataclasses import dataclass, field

from contract import ROOT

FILES = ["matching", "operators", "prerequisites", "segments", "splits"]


@dataclass
class World:
    """The flags, segments and lists of cases that have them in common."""

    flags: dict  # key -> {"definition", "configuration"}
    segments: dict  # key -> form, or None
    key_lists: dict  # segment -> keys
    cases: list = field(default_factory=list)


def read():
    """The worlds, and how many cases there are beside them that only a row edited by hand can be like."""
    worlds, left_out = {}, 0
    for name in FILES:
        for case in json.loads((ROOT / "tests" / "vectors" / f"{name}.json").read_text()):
            if case.get("stored_only"):
                left_out += 1
                continue
            world = of(case)
            held = json.dumps([world.flags, world.segments, world.key_lists], sort_keys=True)
            worlds.setdefault(held, world).cases.append(case)
    return list(worlds.values()), left_out


def of(case):
    flags = dict(case.get("flags", {}))
    if case["definition"] is not None:
        flags[case["flag"]] = {"definition": case["definition"], "configuration": case["configuration"]}
    return World(flags, case.get("segments", {}), case.get("key_lists", {}))
