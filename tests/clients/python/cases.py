"""The vectors' cases that can be written through the API, sorted into places and the states that these have one after another."""

import json
from dataclasses import dataclass, field

from contract import ROOT

FILES = ["matching", "operators", "prerequisites", "segments", "splits"]
# More would take one worker longer than all others need.
STATES = 40


@dataclass
class State:
    """The flags' configurations of cases that have them in common."""

    configurations: dict  # flag -> form, or None
    cases: list = field(default_factory=list)


@dataclass
class Place:
    """What an environment holds besides, and the states to bring it to."""

    definitions: dict  # flag -> form
    segments: dict  # segment -> form, or None
    key_lists: dict  # segment -> keys
    states: list = field(default_factory=list)


def read():
    """The places, and how many cases there are beside them that only a row edited by hand can be like."""
    states, left_out = {}, 0
    for name in FILES:
        for case in json.loads((ROOT / "tests" / "vectors" / f"{name}.json").read_text()):
            if case.get("stored_only"):
                left_out += 1
                continue
            place, state = parts(case)
            held = json.dumps([place.definitions, place.segments, place.key_lists, state.configurations], sort_keys=True)
            states.setdefault(held, (place, state))[1].cases.append(case)
    return gather(states.values()), left_out


def parts(case):
    flags = dict(case.get("flags", {}))
    if case["definition"] is not None:
        flags[case["flag"]] = {"definition": case["definition"], "configuration": case["configuration"]}
    definitions = {key: flag["definition"] for key, flag in flags.items()}
    configurations = {key: flag["configuration"] for key, flag in flags.items()}
    return Place(definitions, case.get("segments", {}), case.get("key_lists", {})), State(configurations)


def gather(states):
    """Puts states into one place if one can follow another there: of a single flag that is configured in both."""
    places, open_places = [], {}
    for place, state in states:
        follows = len(state.configurations) == 1 and None not in state.configurations.values()
        held = json.dumps([place.definitions, place.segments, place.key_lists], sort_keys=True)
        found = open_places.get(held) if follows else None
        if found is None or len(found.states) == STATES:
            found = place
            places.append(found)
            if follows:
                open_places[held] = found
        found.states.append(state)
    return places
