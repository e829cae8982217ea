"""The cases of prerequisites.json: flags that ask other flags."""

from forms import DISABLED, FAILED, MALFORMED, STATIC, case, condition, configuration, context, definition, rule, split

PRO = condition("equals", "pro", attribute="plan")
ON = configuration(default="on")


def needs(*wanted, **more):
    """An enabled configuration with prerequisites, pairs of a flag and the variants asked for; serves `on`."""
    prerequisites = [{"flag": flag, "variants": variants if isinstance(variants, list) else [variants]} for flag, variants in wanted]
    return configuration(default="on", prerequisites=prerequisites, **more)


def flag(configured, key="g", **defined):
    return {"definition": definition(key, **defined), "configuration": configured}


def one(name, other, expected, variants="on", asks=None, **more):
    flags = {} if other is None else {"g": other}
    asks = context("u") if asks is None else asks
    return case(f"prerequisite: {name}", needs(("g", variants)), asks, expected, flags=flags, **more)


def of_one():
    yield one("satisfied", flag(ON), STATIC)
    yield one("the second of the variants", flag(configuration(default="off")), STATIC, variants=["on", "off"])
    yield one("another variant", flag(configuration(default="off")), FAILED)
    yield one("off", flag(configuration(default="on", enabled=False)), FAILED)
    yield one("off, though the off variant is the one asked for", flag(configuration(default="on", enabled=False)), FAILED, variants="off")
    yield one("not configured, though the off variant is the one asked for", flag(None), FAILED, variants="off")
    yield one("on, and serves the off variant that is asked for", flag(configuration(default="off")), STATIC, variants="off")
    yield one("unknown", None, FAILED, stored_only=True)
    yield one("configured but not defined", {"definition": None, "configuration": ON}, FAILED, stored_only=True)
    yield one("malformed", flag({}), FAILED, variants="off", stored_only=True)
    yield one("a malformed definition", {"definition": 7, "configuration": ON}, FAILED, stored_only=True)
    yield one("a variant that the other does not have", flag(ON), FAILED, variants="maybe", stored_only=True)
    yield one("serves no value", flag(configuration(default=None), off=None), FAILED)
    by_rule = flag(configuration(rule(PRO)))
    yield one("by a rule that holds", by_rule, STATIC, asks=context("u", plan="pro"))
    yield one("by a rule that does not hold", by_rule, FAILED, asks=context("u", plan="free"))
    yield one("by its default, after rules", by_rule, STATIC, asks=context("u"), variants="off")
    halves = flag(configuration(default=split(("on", 1), ("off", 1))))
    yield one("by a split", halves, STATIC, variants=["on", "off"])
    yield one("by a split that nobody is in", flag(configuration(default=split(("on", 0), ("off", 1)))), FAILED)
    yield one("in error, though the off variant is the one asked for", halves, FAILED, variants=["on", "off"], asks={})
    yield one("of another type", flag(configuration(default="b"), type="string"), STATIC, variants="b")
    yield one("of another type, another variant", flag(configuration(default="c"), type="string"), FAILED, variants=["a", "b"])
    yield one("its definition's default", flag(configuration(default=None), default_variant="on"), STATIC)


def of_the_asking_flag():
    on, off = {"g": flag(ON)}, {"g": flag(configuration(default="off"))}
    asks = context("u", plan="pro")
    matched = {"variant": "on", "reason": "TARGETING_MATCH", "rule": "r"}
    with_rule = needs(("g", "on"), rules=[rule(PRO)])
    yield case("prerequisite: satisfied, then the rules", with_rule, asks, matched, flags=on)
    yield case("prerequisite: satisfied, then the default", with_rule, context("u"), {"variant": "on", "reason": "DEFAULT"}, flags=on)
    yield case("prerequisite: failed, though a rule holds", with_rule, asks, FAILED, flags=off)
    yield case("prerequisite: a flag that is off asks none", needs(("g", "on"), enabled=False), asks, DISABLED, flags=off)
    yield case("prerequisite: a flag that is off asks none that is satisfied", needs(("g", "on"), enabled=False), asks, DISABLED, flags=on)
    no_off = {"variant": None, "reason": "PREREQUISITE_FAILED"}
    yield case("prerequisite: failed, no off variant", needs(("g", "on")), asks, no_off, defined=definition(off=None), flags=off)
    shares = split(("on", 1), ("off", 0))
    splitting = configuration(default=shares, prerequisites=[{"flag": "g", "variants": ["on"]}])
    yield case("prerequisite: satisfied, then a split", splitting, asks, {"variant": "on", "reason": "SPLIT"}, flags=on)
    missing = {"variant": "off", "reason": "ERROR", "error": "TARGETING_KEY_MISSING"}
    yield case("prerequisite: satisfied, then nothing to bucket by", splitting, {}, missing, flags=on)
    yield case("prerequisite: failed comes before nothing to bucket by", splitting, {}, FAILED, flags=off)
    for type, off_variant in [("string", "off"), ("integer", "off"), ("double", "off"), ("object", "off")]:
        served = {"string": "a", "integer": "large", "double": "half", "object": "red"}[type]
        form = configuration(default=served, prerequisites=[{"flag": "g", "variants": ["on"]}])
        defined = definition(type=type)
        yield case(f"prerequisite: satisfied, of type {type}", form, asks, {"variant": served, "reason": "STATIC"}, defined=defined, flags=on)
        yield case(
            f"prerequisite: failed, of type {type}", form, asks, {"variant": off_variant, "reason": "PREREQUISITE_FAILED"}, defined=defined, flags=off
        )


def of_several():
    on, off = flag(ON), configuration(default="off")
    asks = context("u")
    for name, g, h, expected in [
        ("both satisfied", ON, ON, STATIC),
        ("the first failed", off, ON, FAILED),
        ("the second failed", ON, off, FAILED),
        ("both failed", off, off, FAILED),
    ]:
        flags = {"g": flag(g), "h": flag(h, key="h")}
        yield case(f"prerequisites: {name}", needs(("g", "on"), ("h", "on")), asks, expected, flags=flags)

    def chain(last):
        return {"g": flag(needs(("h", "on"))), "h": flag(needs(("i", "on")), key="h"), "i": flag(last, key="i")}

    yield case("prerequisites: a chain, satisfied", needs(("g", "on")), asks, STATIC, flags=chain(ON))
    yield case("prerequisites: a chain, its last failed", needs(("g", "on")), asks, FAILED, flags=chain(off))
    yield case("prerequisites: a chain, its last is off", needs(("g", "on")), asks, FAILED, flags=chain(None))
    yield case(
        "prerequisites: one that failed itself serves its off variant, which does not count", needs(("g", "off")), asks, FAILED, flags=chain(off)
    )
    diamond = {"g": flag(needs(("i", "on"))), "h": flag(needs(("i", "on")), key="h"), "i": flag(ON, key="i")}
    yield case("prerequisites: one flag by two ways", needs(("g", "on"), ("h", "on")), asks, STATIC, flags=diamond)
    wide = {f"g{n}": flag(ON, key=f"g{n}") for n in range(20)}
    yield case("prerequisites: twenty of them", needs(*((key, "on") for key in wide)), asks, STATIC, flags=wide)
    long = {f"g{n}": flag(needs((f"g{n + 1}", "on")) if n < 63 else ON, key=f"g{n}") for n in range(64)}
    yield case("prerequisites: a chain of sixty-four", needs(("g0", "on")), asks, STATIC, flags=long)
    yield case(
        "prerequisites: one flag twice, with other variants", needs(("g", ["on", "off"]), ("g", "on")), asks, STATIC, flags={"g": on},
        stored_only=True,
    )


def circles():
    asks = context("u")
    yield case("prerequisites: a circle of one", needs(("f", "on")), asks, MALFORMED, stored_only=True)
    two = {"g": flag(needs(("f", "on")))}
    yield case("prerequisites: a circle of two", needs(("g", "on")), asks, MALFORMED, flags=two, stored_only=True)
    three = {"g": flag(needs(("h", "on"))), "h": flag(needs(("f", "on")), key="h")}
    yield case("prerequisites: a circle of three", needs(("g", "on")), asks, MALFORMED, flags=three, stored_only=True)
    many = needs(*[("f", "on")] * 20)
    yield case("prerequisites: a circle that doubles with every turn", many, asks, MALFORMED, stored_only=True)
    yield case(
        "prerequisites: a circle without an off variant", needs(("f", "on")), asks, MALFORMED | {"variant": None}, defined=definition(off=None),
        stored_only=True,
    )
    yield case("prerequisites: a circle that is off", needs(("f", "on"), enabled=False), asks, DISABLED, stored_only=True)
    broken = {"g": flag(needs(("f", "on"), enabled=False))}
    yield case("prerequisites: a circle with a flag that is off", needs(("g", "on")), asks, FAILED, flags=broken, stored_only=True)
    first = {"g": flag(configuration(default="off"))}
    yield case("prerequisites: one that failed before a circle is reached", needs(("g", "on"), ("f", "on")), asks, FAILED, flags=first, stored_only=True)
    yield case("prerequisites: a circle after one that is satisfied", needs(("g", "on"), ("f", "on")), asks, MALFORMED, flags={"g": flag(ON)}, stored_only=True)


def malformed():
    asks = context("u")
    good = {"g": flag(ON)}
    for name, prerequisite in [
        ("without variants", {"flag": "g", "variants": []}),
        ("without a flag", {"variants": ["on"]}),
    ]:
        form = configuration(default="on", prerequisites=[prerequisite])
        yield case(f"malformed: a prerequisite {name}", form, asks, MALFORMED, flags=good, stored_only=True)


def cases():
    for part in (of_one, of_the_asking_flag, of_several, circles, malformed):
        yield from part()
