"""An evaluator of flags, as plain as can be: it reads the stored forms anew for every question.

It shares no code with the service, so that a mistake would have to be made twice. What it answers is compared with the outcome that
was written beside each case by hand.
"""

import operands
from bucketing import cbor_text, murmur3_x86_32, text_of

FORMAT = 1
# Flags, and segments, that one question may ask: hand-written circles end.
BUDGET = 256
LARGEST_TOTAL = 2**31 - 1


class Malformed(Exception):
    """A stored form that makes no sense."""


class Exhausted(Exception):
    """Prerequisites that go round in a circle."""


def need(condition):
    if not condition:
        raise Malformed


# --- attributes -------------------------------------------------------------------------------------------------------------


def find(context, name):
    """The attribute of a name or path. None: it is absent."""
    attributes = context.get("attributes", {})
    if name == "targeting_key":
        return context.get("targeting_key") or None
    if attributes.get(name) is not None:
        return attributes[name]
    first, *rest = name.split(".")
    if not rest or first == "targeting_key":
        return None
    found = attributes.get(first)
    for part in rest:
        found = found.get(part) if isinstance(found, dict) else None
    return found


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def type_of(value):
    if isinstance(value, bool):
        return "bool"
    return "number" if is_number(value) else {str: "string", list: "list", dict: "object"}.get(type(value), "null")


# --- conditions -------------------------------------------------------------------------------------------------------------

COMPARISONS = {
    "equal": lambda a, b: a == b,
    "not_equal": lambda a, b: a != b,
    "less": lambda a, b: a < b,
    "less_or_equal": lambda a, b: a <= b,
    "greater": lambda a, b: a > b,
    "greater_or_equal": lambda a, b: a >= b,
}


def one_value(condition, of=("string", "number", "bool")):
    values = condition.get("values", [])
    need(len(values) == 1 and type_of(values[0]) in of)
    return values[0]


def read(parse, text):
    parsed = parse(text)
    need(parsed is not None)
    return parsed


def texts(condition):
    values = condition.get("values", [])
    need(values and all(isinstance(value, str) for value in values))
    return values


def asked(parse, compare):
    """A question to text that has to be read first. None: it cannot be read."""

    def ask(attribute):
        parsed = parse(attribute) if isinstance(attribute, str) else None
        return None if parsed is None else compare(parsed)

    return ask


def test(condition):
    """The question that a condition puts to one value: True, False, or None if it cannot be put to it."""
    operator = condition["operator"]
    kind, _, comparison = operator.partition("_")
    if operator in ("equals", "one_of"):
        values = [one_value(condition)] if operator == "equals" else condition.get("values", [])
        need(values and all(type_of(value) in ("string", "number", "bool") for value in values))

        def ask(attribute):
            same_type = [value for value in values if type_of(value) == type_of(attribute)]
            return attribute in same_type if same_type else None

        return ask
    if operator in ("contains", "starts_with", "ends_with"):
        values = texts(condition)
        compare = {"contains": str.__contains__, "starts_with": str.startswith, "ends_with": str.endswith}[operator]
        return asked(str, lambda text: any(compare(text, value) for value in values))
    if operator == "matches":
        patterns = [read(operands.pattern, value) for value in texts(condition)]
        return asked(str, lambda text: any(pattern.search(text) for pattern in patterns))
    if kind == "number":
        than = one_value(condition, ["number"])
        return lambda attribute: COMPARISONS[comparison](attribute, than) if is_number(attribute) else None
    if kind == "version":
        base = read(operands.version, one_value(condition, ["string"]))
        if comparison in ("tilde", "caret"):
            return asked(operands.version, lambda parsed: getattr(operands, comparison)(parsed, base))
        than = operands.precedence(base)
        return asked(operands.version, lambda parsed: COMPARISONS[comparison](operands.precedence(parsed), than))
    if operator in ("before", "after"):
        than = read(operands.moment, one_value(condition, ["string"]))
        compare = COMPARISONS["less" if operator == "before" else "greater"]
        return asked(operands.moment, lambda moment: compare(moment, than))
    need(operator == "ip_in_range")
    networks = [read(operands.network, value) for value in texts(condition)]
    return asked(operands.address, lambda address: any(address in network for network in networks))


def holds(condition, context, world):
    """Whether a condition holds, negation included."""
    operator, negated = condition["operator"], condition.get("negated", False)
    attribute = condition.get("attribute", "")
    if operator == "in_segment":
        need(not attribute)
        return any(contains(key, context, world, [BUDGET]) for key in texts(condition)) != negated
    need(attribute)
    value = find(context, attribute)
    if operator == "exists":
        need(not condition.get("values"))
        return (value is not None) != negated
    ask = test(condition)
    outcomes = [ask(element) for element in (value if isinstance(value, list) else [value])]
    outcomes = [outcome for outcome in outcomes if outcome is not None]
    return bool(outcomes) and any(outcomes) != negated


# --- segments ---------------------------------------------------------------------------------------------------------------


def contains(key, context, world, budget):
    """Whether a segment contains the context. One that is not configured, makes no sense or is asked too often contains nobody."""
    if budget[0] == 0:
        return False
    budget[0] -= 1
    form = world["segments"].get(key)
    try:
        need(isinstance(form, dict) and form.get("format") == FORMAT)
        for condition in form.get("conditions", []):
            check_condition(condition)
    except (Malformed, KeyError, TypeError):
        return False
    who = context.get("targeting_key", "")
    if who and who in form.get("excluded", []):
        return False
    if who and (who in form.get("included", []) or who in world["key_lists"].get(key, [])):
        return True
    if any(contains(part, context, world, budget) for part in form.get("segments", [])):
        return True
    conditions = form.get("conditions", [])
    return bool(conditions) and all(
        any(contains(part, context, world, budget) for part in condition["values"]) != condition.get("negated", False)
        if condition["operator"] == "in_segment"
        else holds(condition, context, world)
        for condition in conditions
    )


def check_condition(condition):
    holds(condition, {}, {"segments": {}, "key_lists": {}})


# --- flags ------------------------------------------------------------------------------------------------------------------


def serves(serve, flag, configuration, context):
    """The variant that a rule or the default serves, and whether a split chose it. None: a split that has nothing to bucket by."""
    if "variant" in serve:
        return serve["variant"], False
    split = serve["split"]
    value = find(context, split.get("attribute", "targeting_key"))
    if type_of(value) not in ("string", "number", "bool"):
        return None
    salt = configuration.get("salt", flag)
    hashed = murmur3_x86_32(cbor_text(f"{salt}:{text_of(value)}".ljust(100)))
    bucket = hashed * sum(share["weight"] for share in split["variants"]) >> 32
    for share in split["variants"]:
        bucket -= share["weight"]
        if bucket < 0:
            return share["variant"], True
    raise AssertionError("a bucket lies below the sum of the weights")


# --- experiments ------------------------------------------------------------------------------------------------------------

PLACES = 1_000_000


def place_of(salt, value):
    return murmur3_x86_32(cbor_text(f"{salt}:{text_of(value)}".ljust(100))) * PLACES >> 32


def check_experiment(form, flag, keys):
    need(isinstance(form, dict) and form.get("format") == FORMAT and form["flag"] == flag)
    weights = {share["variant"]: share["weight"] for share in form["arms"]}
    need(set(weights) <= set(keys) and 1 <= sum(weights.values()) <= LARGEST_TOTAL)
    for condition in form.get("audience", []):
        check_condition(condition)


def take_part(key, form, context, world):
    """The arm that a context has in an experiment, and its part. None: it does not take part."""
    unit = find(context, form.get("attribute", "targeting_key"))
    if type_of(unit) not in ("string", "number", "bool") or unit == "":
        return None
    if not all(holds(condition, context, world) for condition in form.get("audience", [])):
        return None
    layer = form.get("layer")
    if layer and not layer["start"] <= place_of(layer["salt"], unit) < layer["end"]:
        return None
    place = place_of(f"{form['salt']}/allocation", unit)
    if form["sticky"] and place < max(form["allocation"], form["largest_allocation"]):
        known = world["assignments"].get(key, {}).get(text_of(unit))
        if known and known["arm"] in [share["variant"] for share in form["arms"]]:
            return known["arm"], {"experiment": key, "iteration": known["iteration"], "stored": True}
    if place >= form["allocation"]:
        return None
    shares = form["arms"]
    hashed = murmur3_x86_32(cbor_text(f"{form['salt']}/arms:{text_of(unit)}".ljust(100)))
    bucket = hashed * sum(share["weight"] for share in shares) >> 32
    for share in shares:
        bucket -= share["weight"]
        if bucket < 0:
            return share["variant"], {"experiment": key, "iteration": form["iteration"], "stored": False}
    raise AssertionError("a bucket lies below the sum of the weights")


def standing(flag, keys, rules, world):
    """The experiments of a flag by the number of rules that are asked before each; those that make no sense are left out."""
    placed = {}
    for key, form in sorted(world["experiments"].items()):
        if isinstance(form, dict) and form.get("flag") == flag:
            try:
                check_experiment(form, flag, keys)
            except (Malformed, KeyError, TypeError):
                continue
            names = [rule["key"] for rule in rules]
            before = form.get("before_rule")
            placed.setdefault(names.index(before) if before in names else len(rules), []).append((key, form))
    return placed


def in_an_experiment(experiments, context, world):
    for key, form in experiments:
        part = take_part(key, form, context, world)
        if part:
            return {"variant": part[0], "reason": "EXPERIMENT", "experiment": part[1]}
    return None


def check_serve(serve, keys):
    need(isinstance(serve, dict) and len(serve) == 1)
    if "variant" in serve:
        need(serve["variant"] in keys)
        return
    shares = serve["split"]["variants"]
    variants = [share["variant"] for share in shares]
    need(len(set(variants)) == len(variants) and set(variants) <= set(keys))
    need(1 <= sum(share["weight"] for share in shares) <= LARGEST_TOTAL)
    need(serve["split"].get("attribute", "targeting_key"))


def check_definition(key, form):
    """The keys of its variants."""
    need(isinstance(form, dict) and form.get("format") == FORMAT and form["key"] == key)
    keys = [variant["key"] for variant in form["variants"]]
    need(keys and len(set(keys)) == len(keys))
    need(all(list(variant["value"]) == [form["type"]] for variant in form["variants"]))
    need(all(form[name] in keys for name in ("off_variant", "default_variant") if name in form))
    return keys


def check_configuration(form, keys):
    need(isinstance(form, dict) and form.get("format") == FORMAT and isinstance(form["enabled"], bool))
    rules = form.get("rules", [])
    need(len({rule["key"] for rule in rules}) == len(rules))
    for prerequisite in form.get("prerequisites", []):
        need(prerequisite["flag"] and prerequisite["variants"])
    for rule in rules:
        need(rule["conditions"])
        for condition in rule["conditions"]:
            check_condition(condition)
        check_serve(rule["serve"], keys)
    if "default" in form:
        check_serve(form["default"], keys)


def answer(variant, reason, rule=None, error=None):
    given = {"variant": variant, "reason": reason, "rule": rule, "error": error}
    return {name: value for name, value in given.items() if name == "variant" or value is not None}


def evaluate_flag(key, context, world, budget):
    """A flag's answer. None: it is unknown."""
    flag = world["flags"].get(key)
    if flag is None or flag["definition"] is None:
        return None
    definition, configuration = flag["definition"], flag["configuration"]
    try:
        keys = check_definition(key, definition)
    except (Malformed, KeyError, TypeError):
        return answer(None, "ERROR", error="FLAG_MALFORMED")
    off = definition.get("off_variant")
    if configuration is None:
        return answer(off, "DISABLED")
    try:
        check_configuration(configuration, keys)
    except (Malformed, KeyError, TypeError):
        return answer(off, "ERROR", error="FLAG_MALFORMED")
    if not configuration["enabled"]:
        return answer(off, "DISABLED")
    for prerequisite in configuration.get("prerequisites", []):
        if not satisfied(prerequisite, context, world, budget):
            return answer(off, "PREREQUISITE_FAILED")
    rules = configuration.get("rules", [])
    experiments = standing(key, keys, rules, world)
    for number, rule in enumerate(rules):
        given = in_an_experiment(experiments.get(number, []), context, world)
        if given:
            return given
        if all(holds(condition, context, world) for condition in rule["conditions"]):
            served = serves(rule["serve"], key, configuration, context)
            if served:
                return answer(served[0], "SPLIT" if served[1] else "TARGETING_MATCH", rule["key"])
    given = in_an_experiment(experiments.get(len(rules), []), context, world)
    if given:
        return given
    default = configuration.get("default") or {"variant": definition.get("default_variant", off)}
    served = serves(default, key, configuration, context)
    if served is None:
        return answer(off, "ERROR", error="TARGETING_KEY_MISSING")
    return answer(served[0], "SPLIT" if served[1] else "DEFAULT" if rules or is_asked(key, world) else "STATIC")


def is_asked(flag, world):
    """Whether there are experiments on a flag, whatever they are like."""
    return any(form["flag"] == flag for form in world["experiments"].values())


def satisfied(prerequisite, context, world, budget):
    if budget[0] == 0:
        raise Exhausted
    budget[0] -= 1
    other = evaluate_flag(prerequisite["flag"], context, world, budget)
    on = other is not None and other["reason"] not in ("DISABLED", "PREREQUISITE_FAILED", "ERROR")
    return on and other["variant"] in prerequisite["variants"]


def evaluate(case):
    """The answer to a case, in the form of its `expected`."""
    flags = {case["flag"]: {"definition": case["definition"], "configuration": case["configuration"]}}
    world = {
        "flags": flags | case.get("flags", {}),
        "segments": case.get("segments", {}),
        "key_lists": case.get("key_lists", {}),
        "experiments": case.get("experiments", {}),
        "assignments": case.get("assignments", {}),
    }
    try:
        return evaluate_flag(case["flag"], case["context"], world, [BUDGET])
    except Exhausted:
        return answer(case["definition"].get("off_variant"), "ERROR", error="FLAG_MALFORMED")
