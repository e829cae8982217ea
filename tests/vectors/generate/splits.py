"""The cases of splits.json: shares below a per cent, what can bucket, and off variants of every type."""

from bucketing import cbor_text, murmur3_x86_32
from forms import VARIANTS, case, condition, configuration, context, definition, rule, split

TOTAL = 100_000
# A thousandth of a per cent.
TINY = [("on", 1), ("off", TOTAL - 1)]


def bucket(salt, value, total=TOTAL):
    return murmur3_x86_32(cbor_text(f"{salt}:{value}".ljust(100))) * total >> 32


def of(variant):
    return {"variant": variant, "reason": "SPLIT"}


def tiny():
    keys = [f"user-{n}" for n in range(400_000)]
    inside = [key for key in keys if bucket("tiny", key) < 1]
    edges = [key for key in keys if bucket("tiny", key) in (1, 2, 3)]
    yield case("split: 0.001 % of nobody in particular", configuration(default=split(*TINY)), context("user-0"), of("off"), flag="tiny")
    for key in inside[:3]:
        yield case(f"split: 0.001 %, {key} is among them", configuration(default=split(*TINY)), context(key), of("on"), flag="tiny")
        by_salt = configuration(default=split(*TINY), salt="tiny")
        yield case(f"split: 0.001 %, {key} by salt", by_salt, context(key), of("on"), flag="other")
        more = split(("on", 2), ("off", TOTAL - 2))
        yield case(f"split: 0.002 %, {key} stays", configuration(default=more), context(key), of("on"), flag="tiny")
        last = split(("off", TOTAL - 1), ("on", 1))
        yield case(f"split: 0.001 % as the last share, {key} is not", configuration(default=last), context(key), of("off"), flag="tiny")
        larger = split(("on", 10_000), ("off", TOTAL * 10_000 - 10_000))
        yield case(f"split: 0.001 % in larger numbers, {key} is among them", configuration(default=larger), context(key), of("on"), flag="tiny")
    for key in edges[:4]:
        at = bucket("tiny", key)
        for weight in (at, at + 1):
            shares = split(("on", weight), ("off", TOTAL - weight))
            expected = of("on" if at < weight else "off")
            yield case(f"split: {key} at {at} of {TOTAL}, a share of {weight}", configuration(default=shares), context(key), expected, flag="tiny")
    three = [("a", 500), ("b", 1), ("c", 99_499)]
    middle = next(key for key in keys if bucket("tiny", key) == 500)
    for shares, expected in [(three, "b"), ([("a", 501), ("b", 0), ("c", 99_499)], "a"), ([("a", 500), ("c", 99_499), ("b", 1)], "c")]:
        written = ", ".join(f"{variant} {weight}" for variant, weight in shares)
        yield case(
            f"split: {middle} among {written}", configuration(default=split(*shares)), context(middle), of(expected), flag="tiny",
            defined=definition("tiny", type="string"),
        )


ATTRIBUTES = [
    ("text", "Ærø", "Ærø"),
    ("empty text", "", ""),
    ("long text", "x" * 150, "x" * 150),
    ("a whole number", 42, "42"),
    ("a negative number", -7, "-7"),
    ("zero", 0, "0"),
    ("minus zero", -0.0, "0"),
    ("a fraction", 0.1, "0.1"),
    ("a large number", 1e21, "1e+21"),
    ("a large whole number", 1e20, "100000000000000000000"),
    ("a small number", 1e-7, "1e-7"),
    ("true", True, "true"),
    ("false", False, "false"),
]
UNBUCKETED = [("a list", ["a"]), ("a list of one number", [1]), ("an object", {"a": 1}), ("null", None)]


def attributes():
    quarters = [("a", 1), ("b", 1), ("c", 1), ("off", 1)]
    string = definition(type="string")
    by_attribute = configuration(default=split(*quarters, attribute="x"))
    by_path = configuration(default=split(*quarters, attribute="p.x"))
    by_rule = configuration(rule(condition("exists"), serve=split(*quarters, attribute="x")), default="c")
    for name, value, text in ATTRIBUTES:
        expected = quarters[bucket("f", text, 4)][0]
        yield case(f"split by {name}", by_attribute, context("", x=value), of(expected), defined=string)
        yield case(f"split by {name} at a path", by_path, context("", p={"x": value}), of(expected), defined=string)
        yield case(f"split of a rule by {name}", by_rule, context("", x=value), of(expected) | {"rule": "r"}, defined=string)
    missing = {"variant": "off", "reason": "ERROR", "error": "TARGETING_KEY_MISSING"}
    for name, value in UNBUCKETED:
        yield case(f"not split by {name}", by_attribute, context("u", x=value), missing, defined=string)
        yield case(f"not split by {name} at a path", by_path, context("u", p={"x": value}), missing, defined=string)
        expected = {"variant": "c", "reason": "DEFAULT"}
        yield case(f"not split of a rule by {name}", by_rule, context("u", x=value), expected, defined=string)
    yield case("not split by a path through text", by_path, context("u", p="x"), missing, defined=string)


def off_variants():
    halves = condition("equals", "pro", attribute="plan")
    for type, variants in VARIANTS.items():
        first = variants[0][0]
        shares = split((first, 1))
        for off, suffix in (("off", ""), (None, " without one")):
            defined = definition(type=type, off=off)
            for name, configured, reason in [
                ("not configured", None, {"reason": "DISABLED"}),
                ("not enabled", configuration(rule(halves, serve=first), default=first, enabled=False), {"reason": "DISABLED"}),
                ("enabled, and nothing else said", configuration(default=None), {"reason": "STATIC"}),
                ("enabled, and nothing to bucket by", configuration(default=shares), {"reason": "ERROR", "error": "TARGETING_KEY_MISSING"}),
            ]:
                asks = context("", plan="pro")
                yield case(f"off variant, {type}{suffix}: {name}", configured, asks, {"variant": off} | reason, defined=defined)
            yield case(f"off variant, {type}{suffix}: served by a split", configuration(default=shares), context("u"), of(first), defined=defined)


def cases():
    for part in (tiny, attributes, off_variants):
        yield from part()
