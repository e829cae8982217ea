"""Stored forms and cases, put together with as few words as the cases need."""

VARIANTS = {
    "bool": [("on", True), ("off", False)],
    "string": [("a", "a"), ("b", "b"), ("c", "c"), ("off", "")],
    "integer": [("small", 1), ("large", 9_007_199_254_740_993), ("off", 0)],
    "double": [("half", 0.5), ("off", 0.0)],
    "object": [("red", {"colour": "red", "size": {"width": 2}}), ("off", {})],
}


def definition(key="f", type="bool", off="off", **more):
    variants = [{"key": name, "value": {type: value}} for name, value in VARIANTS[type]]
    form = {"format": 1, "key": key, "type": type, "variants": variants}
    return form | ({"off_variant": off} if off else {}) | {"client_visible": False} | more


def configuration(*rules, default="off", enabled=True, **more):
    form = {"format": 1, "enabled": enabled} | more
    if rules:
        form["rules"] = list(rules)
    if default:
        form["default"] = {"variant": default} if isinstance(default, str) else default
    return form


def condition(operator, *values, attribute="x", negated=False):
    form = {"attribute": attribute} if attribute else {}
    form["operator"] = operator
    if values:
        form["values"] = list(values)
    return form | ({"negated": True} if negated else {})


def in_segment(*segments, negated=False):
    return condition("in_segment", *segments, attribute="", negated=negated)


def rule(*conditions, key="r", serve="on"):
    return {"key": key, "conditions": list(conditions), "serve": {"variant": serve} if isinstance(serve, str) else serve}


def split(*shares, attribute=None):
    form = {"variants": [{"variant": variant, "weight": weight} for variant, weight in shares]}
    return {"split": form | ({"attribute": attribute} if attribute else {})}


def segment(**what):
    return {"format": 1} | what


def context(who="u", **attributes):
    asks = {"targeting_key": who} if who else {}
    return asks | ({"attributes": attributes} if attributes else {})


def case(name, configured, asks, expected, defined=None, flag="f", **more):
    """`more`: flags, segments, key_lists, stored_only."""
    return {
        "name": name,
        "flag": flag,
        "definition": defined or definition(flag),
        "configuration": configured,
        **more,
        "context": asks,
        "expected": expected,
    }


MATCHED = {"variant": "on", "reason": "TARGETING_MATCH", "rule": "r"}
PASSED = {"variant": "off", "reason": "DEFAULT"}
DISABLED = {"variant": "off", "reason": "DISABLED"}
FAILED = {"variant": "off", "reason": "PREREQUISITE_FAILED"}
MALFORMED = {"variant": "off", "reason": "ERROR", "error": "FLAG_MALFORMED"}
STATIC = {"variant": "on", "reason": "STATIC"}


def asked(name, condition_form, asks, outcome, **more):
    """A condition and its negation. Outcome: "holds", "fails", or "never": neither holds."""
    for negated, suffix in ((False, ""), (True, ", negated")):
        matched = outcome == ("fails" if negated else "holds")
        form = condition_form | ({"negated": True} if negated else {})
        yield case(name + suffix, configuration(rule(form)), asks, MATCHED if matched else PASSED, **more)
