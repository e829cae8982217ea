"""The cases of experiments.json: who takes part in a running experiment, with which arm, and where it is asked."""

from bucketing import cbor_text, murmur3_x86_32
from forms import DISABLED, FAILED, MATCHED, PASSED, case, condition, configuration, context, definition, in_segment, rule, segment

SALT = "0197a3c4-2f6e-7b1d-9c55-3f0e8a6d2b41"
OTHER = "0197a3c4-3a02-7c41-8a0e-6f2b1d9c5531"
LAYER = "5b0c7e1a-94d2-4f6b-8a53-0d9e2c61f784"
WHOLE = 1_000_000
UNITS = [f"user-{n}" for n in range(2_000)]
STRING = definition(type="string")


def place(salt, unit, of=WHOLE):
    """Where a unit is among so many places."""
    return murmur3_x86_32(cbor_text(f"{salt}:{unit}".ljust(100))) * of >> 32


def allocated(unit, salt=SALT):
    return place(f"{salt}/allocation", unit)


def arm_of(arms, unit, salt=SALT):
    at = place(f"{salt}/arms", unit, sum(weight for _, weight in arms))
    for variant, weight in arms:
        at -= weight
        if at < 0:
            return variant


def experiment(*arms, flag="f", salt=SALT, iteration=1, allocation=WHOLE, largest=None, sticky=False, **more):
    """`more`: audience, attribute, layer, before_rule."""
    return {
        "format": 1,
        "flag": flag,
        "salt": salt,
        "iteration": iteration,
        "arms": [{"variant": variant, "weight": weight} for variant, weight in arms or [("on", 1), ("off", 1)]],
        "allocation": allocation,
        "largest_allocation": allocation if largest is None else largest,
        "sticky": sticky,
    } | more


def layer(start, end):
    return {"layer": {"salt": LAYER, "start": start, "end": end}}


def given(variant, key="x", iteration=1, stored=False):
    part = {"experiment": key, "iteration": iteration, "stored": stored}
    return {"variant": variant, "reason": "EXPERIMENT", "experiment": part}


def takes_part(name, unit, expected, configured=None, asks=None, flag="f", defined=None, stored=None, **experiments):
    """One case; experiments by their keys."""
    told = {"assignments": stored} if stored else {}
    configured = configuration() if configured is None else configured
    asks = context(unit) if asks is None else asks
    return case(f"experiment: {name}", configured, asks, expected, defined, flag, experiments=experiments, **told)


def arms():
    thirds = [("a", 1), ("b", 1), ("c", 1)]
    for unit in UNITS[:12]:
        yield takes_part(f"a third each, {unit}", unit, given(arm_of(thirds, unit)), defined=STRING, x=experiment(*thirds))
    turned = thirds[::-1]
    for unit in UNITS[:3]:
        yield takes_part(f"in the written order, {unit}", unit, given(arm_of(turned, unit)), defined=STRING, x=experiment(*turned))
        yield takes_part(
            f"by its own salt, {unit}", unit, given(arm_of(thirds, unit, OTHER)), defined=STRING, x=experiment(*thirds, salt=OTHER)
        )
        yield takes_part(
            f"by no salt of the flag, {unit}", unit, given(arm_of(thirds, unit)), configuration(salt="s"), defined=STRING,
            x=experiment(*thirds),
        )
    rare = [("on", 1), ("off", 1_999)]
    lucky = next(unit for unit in UNITS if arm_of(rare, unit) == "on")
    yield takes_part(f"one in two thousand, {lucky}", lucky, given("on"), x=experiment(*rare))
    yield takes_part("the iteration that goes on", "u", given(arm_of(thirds, "u"), iteration=7), defined=STRING, x=experiment(*thirds, iteration=7))
    for unit in ["", " ", "Ærø", "日本 🎌", "sha256:", "x" * 150]:
        if unit:
            yield takes_part(f"the unit {unit[:10]!r}", unit, given(arm_of(thirds, unit)), defined=STRING, x=experiment(*thirds))
    yield takes_part("an empty targeting key", "", PASSED, asks={"targeting_key": ""}, x=experiment())
    yield takes_part("no targeting key", "", PASSED, x=experiment())
    yield takes_part("one arm is all", "u", given("on"), x=experiment(("on", 1)))
    yield takes_part("an arm without weight is nobody's", "u", given("off"), x=experiment(("on", 0), ("off", 1)))


def allocation():
    whole = [("on", 1)]
    for unit in UNITS[:6]:
        at = allocated(unit)
        yield takes_part(f"{unit} at {at}, an allocation of {at}", unit, PASSED, x=experiment(*whole, allocation=at))
        yield takes_part(f"{unit} at {at}, an allocation of {at + 1}", unit, given("on"), x=experiment(*whole, allocation=at + 1))
        yield takes_part(
            f"{unit} at {at}, an allocation of {at} that was larger", unit, PASSED, x=experiment(*whole, allocation=at, largest=WHOLE)
        )
        yield takes_part(
            f"{unit} at {at}, the same where arms are stored, and none is", unit, PASSED,
            x=experiment(*whole, allocation=at, largest=WHOLE, sticky=True),
        )
    yield takes_part("an allocation of nothing", "u", PASSED, x=experiment(allocation=0))
    halves = [("on", 1), ("off", 1)]
    for arm in ("on", "off"):
        unit = next(unit for unit in UNITS if allocated(unit) < WHOLE // 2 and arm_of(halves, unit) == arm)
        yield takes_part(f"half of all, {unit} with the arm {arm}", unit, given(arm), x=experiment(*halves, allocation=WHOLE // 2))


def layers():
    first, second = layer(0, WHOLE // 2), layer(WHOLE // 2, WHOLE)
    pair = {"x": experiment(("on", 1), **first), "y": experiment(("on", 1), salt=OTHER, **second)}
    for unit in UNITS[:8]:
        at = place(LAYER, unit)
        expected = given("on", "x" if at < WHOLE // 2 else "y")
        yield takes_part(f"of two in a layer, {unit} at {at}", unit, expected, **pair)
        yield takes_part(f"{unit} at {at}, a part from there", unit, given("on"), x=experiment(("on", 1), **layer(at, at + 1)))
        yield takes_part(f"{unit} at {at}, a part to there", unit, PASSED, x=experiment(("on", 1), **layer(0, at)))
        yield takes_part(f"{unit} at {at}, a part after it", unit, PASSED, x=experiment(("on", 1), **layer(at + 1, WHOLE)))
    small = next(unit for unit in UNITS if place(LAYER, unit) < 500_000 <= allocated(unit))
    yield takes_part(
        f"{small}, in the layer's part and outside of the allocation", small, PASSED,
        x=experiment(("on", 1), allocation=500_000, **layer(0, 500_000)),
    )


PRO = condition("equals", "pro", attribute="plan")


def audience():
    asked = {"x": experiment(("on", 1), audience=[PRO])}
    yield takes_part("in the audience", "u", given("on"), asks=context("u", plan="pro"), **asked)
    yield takes_part("not in the audience", "u", PASSED, asks=context("u", plan="free"), **asked)
    yield takes_part("without what the audience asks for", "u", PASSED, **asked)
    adult = condition("number_greater_or_equal", 18, attribute="age")
    both = {"x": experiment(("on", 1), audience=[PRO, adult])}
    yield takes_part("all conditions of the audience hold", "u", given("on"), asks=context("u", plan="pro", age=18), **both)
    yield takes_part("a condition of the audience fails", "u", PASSED, asks=context("u", plan="pro", age=17), **both)
    for member, expected in [("u", given("on")), ("v", PASSED)]:
        yield case(
            f"experiment: a segment as the audience, {member}", configuration(), context(member), expected,
            experiments={"x": experiment(("on", 1), audience=[in_segment("s")])}, segments={"s": segment(included=["u"])},
        )


def units():
    thirds = [("a", 1), ("b", 1), ("c", 1)]
    by = {"x": experiment(*thirds, attribute="company")}
    for value, text in [("acme", "acme"), (" ", " "), (42, "42"), (0.1, "0.1"), (-0.0, "0"), (1e21, "1e+21"), (True, "true"), (False, "false")]:
        expected = given(arm_of(thirds, text))
        yield takes_part(f"the unit is the company {value!r}", "u", expected, asks=context("u", company=value), defined=STRING, **by)
    nobody = {"variant": "off", "reason": "DEFAULT"}
    for name, value in [("an empty text", ""), ("a list", ["acme"]), ("an object", {"acme": 1}), ("null", None)]:
        yield takes_part(f"{name} is no unit", "u", nobody, asks=context("u", company=value), defined=STRING, **by)
    yield takes_part("without the unit's attribute", "u", nobody, defined=STRING, **by)
    path = {"x": experiment(*thirds, attribute="company.id")}
    expected = given(arm_of(thirds, "7"))
    yield takes_part("the unit at a path", "u", expected, asks=context("u", company={"id": 7}), defined=STRING, **path)
    # What is stored is known by the text that is hashed.
    stored = {"x": {"42": {"arm": "c", "iteration": 1}}}
    yield takes_part(
        "the stored arm of a number", "u", given("c", stored=True), asks=context("u", company=42), defined=STRING, stored=stored,
        x=experiment(*thirds, attribute="company", sticky=True, iteration=2),
    )


def stored():
    halves = [("on", 1), ("off", 1)]
    for unit in UNITS[:2]:
        hashed = arm_of(halves, unit)
        other = "off" if hashed == "on" else "on"
        told = {"x": {unit: {"arm": other, "iteration": 2}}}
        sticky = experiment(*halves, iteration=3, sticky=True)
        yield takes_part(f"nothing stored, {unit}", unit, given(hashed, iteration=3), x=sticky)
        yield takes_part(f"the stored arm, {unit}", unit, given(other, iteration=2, stored=True), stored=told, x=sticky)
        yield takes_part(f"what is stored where nothing is, {unit}", unit, given(hashed, iteration=3), stored=told, x=sticky | {"sticky": False})
        at = allocated(unit)
        smaller = sticky | {"allocation": at, "largest_allocation": at + 1}
        yield takes_part(
            f"the stored arm outside of the allocation, {unit}", unit, given(other, iteration=2, stored=True), stored=told, x=smaller
        )
        outside = sticky | {"allocation": at, "largest_allocation": at}
        yield takes_part(f"not looked up outside of every allocation, {unit}", unit, PASSED, stored=told, x=outside)
        audience = sticky | {"audience": [PRO]}
        yield takes_part(f"the stored arm outside of the audience, {unit}", unit, PASSED, stored=told, x=audience)
        strange = {"x": {unit: {"arm": "unheard-of", "iteration": 2}}}
        yield takes_part(f"a stored arm that is none, {unit}", unit, given(hashed, iteration=3), stored=strange, x=sticky)
        yield takes_part(f"a stored arm that is none outside of the allocation, {unit}", unit, PASSED, stored=strange, x=smaller)


def places():
    whole = {"x": experiment(("on", 1))}
    pro = rule(PRO, serve="off")
    free = rule(condition("equals", "free", attribute="plan"), key="s", serve="off")
    asks = context("u", plan="free")
    served = {"variant": "off", "reason": "TARGETING_MATCH", "rule": "s"}
    yield takes_part("after all rules", "u", served, configuration(pro, free), asks, **whole)
    yield takes_part("after all rules, none of which serves", "u", given("on"), configuration(pro, free), context("u"), **whole)
    for before, expected in [("r", given("on")), ("s", given("on")), ("gone", served)]:
        placed = {"x": experiment(("on", 1), before_rule=before)}
        yield takes_part(f"before the rule {before}", "u", expected, configuration(pro, free), asks, **placed)
    first = {"variant": "off", "reason": "TARGETING_MATCH", "rule": "r"}
    between = {"x": experiment(("on", 1), before_rule="s")}
    yield takes_part("after a rule that serves", "u", first, configuration(pro, free), context("u", plan="pro"), **between)
    two = {"b": experiment(("off", 1), salt=OTHER), "a": experiment(("on", 1))}
    yield takes_part("two at one place, in the order of their keys", "u", given("on", "a"), **two)
    earlier = two | {"b": experiment(("off", 1), salt=OTHER, before_rule="r")}
    yield takes_part("two at two places", "u", given("off", "b"), configuration(pro), **earlier)
    second = two | {"a": experiment(("on", 1), allocation=0)}
    yield takes_part("who does not take part in the first may in the second", "u", given("off", "b"), **second)
    yield takes_part("before the default, which would be a split", "u", given("on"), configuration(default="off", salt="s"), **whole)
    yield takes_part("of a flag that is off", "u", DISABLED, configuration(enabled=False), **whole)
    yield takes_part("without rules and for nobody, the default is no longer static", "u", PASSED, x=experiment(allocation=0))
    yield takes_part("of another flag", "u", {"variant": "off", "reason": "STATIC"}, y=experiment(("on", 1), flag="g"))
    yield case(
        "experiment: of a flag that is not configured", None, context("u"), DISABLED, experiments=whole
    )
    for arm, expected in [("on", MATCHED | {"rule": "r"}), ("off", FAILED)]:
        asking = configuration(rule(condition("exists", attribute="targeting_key")), prerequisites=[{"flag": "g", "variants": ["on"]}])
        yield case(
            f"experiment: a prerequisite by its arm {arm}", asking, context("u"), expected,
            flags={"g": {"definition": definition("g"), "configuration": configuration()}},
            experiments={"x": experiment((arm, 1), flag="g")},
        )


def senseless():
    for name, change in [
        ("of a later format", {"format": 2}),
        ("without an arm", {"arms": []}),
        ("whose arms weigh nothing", {"arms": [{"variant": "on", "weight": 0}]}),
        ("with an arm that is no variant", {"arms": [{"variant": "unheard-of", "weight": 1}]}),
    ]:
        yield case(
            f"experiment: one {name} is as if it were not there", configuration(), context("u"), PASSED,
            experiments={"x": experiment(("on", 1)) | change}, stored_only=True,
        )
        yield case(
            f"experiment: one {name} harms no other", configuration(), context("u"), given("on", "y"),
            experiments={"x": experiment(("off", 1)) | change, "y": experiment(("on", 1))}, stored_only=True,
        )


def cases():
    for part in (arms, allocation, layers, audience, units, stored, places, senseless):
        yield from part()
