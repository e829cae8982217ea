"""The cases of segments.json: who belongs to a segment, and what conditions make of it."""

from forms import (
    FAILED, MALFORMED, MATCHED, PASSED, asked, case, condition, configuration, context, definition, in_segment, rule, segment,
)

PRO = condition("equals", "pro", attribute="plan")
ADULT = condition("number_greater_or_equal", 18, attribute="age")


def member(name, segments, asks, outcome, ask=("s",), **more):
    return asked(f"segment: {name}", in_segment(*ask), asks, outcome, segments=segments, **more)


def named():
    yield from member("included", {"s": segment(included=["u", "v"])}, context("u"), "holds")
    yield from member("not included", {"s": segment(included=["u", "v"])}, context("w"), "fails")
    yield from member("case counts", {"s": segment(included=["u"])}, context("U"), "fails")
    yield from member("a part of an included key", {"s": segment(included=["user-10"])}, context("user-1"), "fails")
    yield from member("keys beyond ASCII", {"s": segment(included=["Ærø", "🚩"])}, context("🚩"), "holds")
    yield from member("excluded", {"s": segment(excluded=["u"])}, context("u"), "fails")
    yield from member("only excluding includes nobody", {"s": segment(excluded=["u"])}, context("v"), "fails")
    yield from member("excluded wins over included", {"s": segment(included=["u"], excluded=["u"])}, context("u"), "fails")
    yield from member(
        "excluded wins over conditions", {"s": segment(excluded=["u"], conditions=[PRO])}, context("u", plan="pro"), "fails"
    )
    yield from member(
        "excluded wins over parts", {"s": segment(excluded=["u"], segments=["t"]), "t": segment(included=["u"])}, context("u"), "fails"
    )
    yield from member(
        "excluded from a part only", {"s": segment(included=["u"], segments=["t"]), "t": segment(excluded=["u"])}, context("u"), "holds"
    )
    yield from member("an empty targeting key", {"s": segment(included=["u"])}, {"targeting_key": ""}, "fails")
    yield from member("no targeting key", {"s": segment(included=["u"])}, {}, "fails")
    yield from member(
        "an attribute of that name is no targeting key", {"s": segment(included=["u"])}, context("", targeting_key="u"), "fails"
    )
    yield from member(
        "conditions hold without a targeting key",
        {"s": segment(excluded=["u"], conditions=[PRO])}, context("", plan="pro"), "holds",
    )


def unconfigured():
    yield from member("not configured", {"s": None}, context("u"), "fails")
    yield from member("configured as empty", {"s": segment()}, context("u"), "fails")
    yield from member("no conditions hold for nobody", {"s": segment(conditions=[])}, context("u"), "fails")
    yield from member("unknown", {}, context("u"), "fails", stored_only=True)
    for name, form in [
        ("a form that is not an object", 7),
        ("a form of a newer format", {"format": 2, "included": ["u"]}),
        ("an unknown operator", segment(included=["u"], conditions=[condition("resembles", "a")])),
        ("a pattern that is none", segment(included=["u"], conditions=[condition("matches", "(")])),
        ("a condition on no attribute", segment(included=["u"], conditions=[condition("equals", "a", attribute="")])),
    ]:
        yield from member(f"malformed contains nobody: {name}", {"s": form}, context("u", x="a"), "fails", stored_only=True)
        yield from member(
            f"malformed harms no other: {name}", {"s": form, "t": segment(included=["u"])}, context("u"), "holds", ask=("s", "t"),
            stored_only=True,
        )


def conditions():
    both = {"s": segment(conditions=[PRO, ADULT])}
    yield from member("all conditions hold", both, context(plan="pro", age=18), "holds")
    yield from member("the second condition does not hold", both, context(plan="pro", age=17), "fails")
    yield from member("the first condition does not hold", both, context(plan="free", age=18), "fails")
    yield from member("a condition cannot be asked: outside, not in doubt", both, context(plan="pro", age="18"), "fails")
    yield from member("a condition's attribute is absent: outside, not in doubt", both, context(plan="pro"), "fails")
    negated = {"s": segment(conditions=[PRO | {"negated": True}])}
    yield from member("a negated condition", negated, context(plan="free"), "holds")
    yield from member("a negated condition on an absent attribute does not hold", negated, context(), "fails")
    yield from member("included, though its conditions do not hold", {"s": segment(included=["u"], conditions=[PRO])}, context(plan="free"), "holds")
    yield from member("its conditions hold, though it is not included", {"s": segment(included=["v"], conditions=[PRO])}, context(plan="pro"), "holds")
    everyone_but = {"s": segment(conditions=[in_segment("t", negated=True)]), "t": segment(included=["u"])}
    yield from member("everyone but those of another: one of those", everyone_but, context("u"), "fails")
    yield from member("everyone but those of another: someone else", everyone_but, context("v"), "holds")
    narrowed = {"s": segment(conditions=[in_segment("t"), PRO]), "t": segment(included=["u"])}
    yield from member("those of another who are something besides", narrowed, context("u", plan="pro"), "holds")
    yield from member("those of another, but not something besides", narrowed, context("u", plan="free"), "fails")
    operators = [
        (condition("exists", attribute="plan"), {"plan": ""}),
        (condition("matches", "^p", attribute="plan"), {"plan": "pro"}),
        (condition("version_caret", "1.2.0", attribute="app"), {"app": "1.9.0"}),
        (condition("after", "2026-01-01T00:00:00Z", attribute="since"), {"since": "2026-01-01T01:00:00+00:30"}),
        (condition("ip_in_range", "10.0.0.0/8", attribute="address"), {"address": ["192.0.2.1", "10.0.0.1"]}),
        (condition("one_of", "NO", "SE", attribute="home.country"), {"home": {"country": "NO"}}),
    ]
    for form, attributes in operators:
        yield from member(f"by {form['operator']}", {"s": segment(conditions=[form])}, context(**attributes), "holds")


def parts():
    chain = {"s": segment(segments=["t"]), "t": segment(segments=["w"]), "w": segment(included=["u"])}
    yield from member("a part of a part", chain, context("u"), "holds")
    yield from member("not in a part of a part", chain, context("v"), "fails")
    two = {"s": segment(segments=["t", "w"]), "t": segment(included=["v"]), "w": segment(conditions=[PRO])}
    yield from member("the second of two parts", two, context("u", plan="pro"), "holds")
    yield from member("none of two parts", two, context("u", plan="free"), "fails")
    yield from member("a part that is not configured", {"s": segment(segments=["t"]), "t": None}, context("u"), "fails")
    yield from member("a part that is unknown", {"s": segment(segments=["t"])}, context("u"), "fails", stored_only=True)
    yield from member("a part that is malformed", {"s": segment(segments=["t", "w"]), "t": 7, "w": segment(included=["u"])}, context("u"), "holds", stored_only=True)
    diamond = {
        "s": segment(segments=["t", "w"]), "t": segment(segments=["x"]), "w": segment(segments=["x"]), "x": segment(included=["u"])
    }
    yield from member("a part by two ways", diamond, context("u"), "holds")
    yield from member("a part by two ways, outside", diamond, context("v"), "fails")
    yield from member("a part's excluded keys are the part's alone", {
        "s": segment(segments=["t", "w"]), "t": segment(excluded=["u"], conditions=[PRO]), "w": segment(included=["u"]),
    }, context("u", plan="pro"), "holds")
    for name, segments in [
        ("of itself", {"s": segment(segments=["s"])}),
        ("of two", {"s": segment(segments=["t"]), "t": segment(segments=["s"])}),
        ("of three", {"s": segment(segments=["t"]), "t": segment(segments=["w"]), "w": segment(segments=["s"])}),
        ("through a condition", {"s": segment(conditions=[in_segment("s")])}),
        ("that doubles with every turn", {"s": segment(segments=["s", "s", "s"])}),
    ]:
        yield from member(f"a circle {name} contains nobody", segments, context("u"), "fails", stored_only=True)
        included = {key: form | {"included": ["u"]} for key, form in segments.items()}
        yield from member(f"a circle {name} contains those included", included, context("u"), "holds", stored_only=True)


def lists():
    listed = segment(key_list={"chunks": 1, "keys": 2})
    one = {"segments": {"s": listed}, "key_lists": {"s": ["u", "v"]}}

    def of(name, asks, outcome, segments, **more):
        return member(name, segments, asks, outcome, **more)

    keys = {"key_lists": one["key_lists"]}
    yield from of("in the list", context("u"), "holds", one["segments"], **keys)
    yield from of("not in the list", context("w"), "fails", one["segments"], **keys)
    yield from of("the list, without a targeting key", {}, "fails", one["segments"], **keys)
    yield from of("the list, an empty targeting key", {"targeting_key": ""}, "fails", one["segments"], **keys)
    yield from of("excluded wins over the list", context("u"), "fails", {"s": listed | {"excluded": ["u"]}}, **keys)
    yield from of("in the list, though its conditions do not hold", context("u"), "holds", {"s": listed | {"conditions": [PRO]}}, **keys)
    yield from of("in a part's list", context("v"), "holds", {"p": segment(segments=["s"]), **one["segments"]}, ask=("p",), **keys)
    yield from of("an empty list", context("u"), "fails", {"s": segment(key_list={"chunks": 1, "keys": 0})}, key_lists={"s": []})
    many = [f"user-{n}" for n in range(0, 400, 2)]
    chunked = {"s": segment(key_list={"chunks": 16, "keys": len(many)})}
    for n in (0, 1, 2, 3, 100, 101, 398, 399):
        outcome = "fails" if n % 2 else "holds"
        yield from of(f"a list in chunks: user-{n}", context(f"user-{n}"), outcome, chunked, key_lists={"s": many})
    unusual = ["", "Ærø", "🚩", "a b", "user-1 ", "x" * 1000]
    for key in unusual[1:]:
        spaced = {"s": segment(key_list={"chunks": 4, "keys": len(unusual) - 1})}
        yield from of(f"a list in chunks: {key[:8]!r}", context(key), "holds", spaced, key_lists={"s": unusual[1:]})


def asking():
    both = {"s": segment(included=["u"]), "t": segment(included=["v"])}
    yield from member("the first of two that are asked", both, context("u"), "holds", ask=("s", "t"))
    yield from member("the second of two that are asked", both, context("v"), "holds", ask=("s", "t"))
    yield from member("none of two that are asked", both, context("w"), "fails", ask=("s", "t"))
    yield from member("one of two is not configured", {"s": None, "t": both["t"]}, context("v"), "holds", ask=("s", "t"))
    yield case(
        "segment: with another condition that holds", configuration(rule(in_segment("s"), PRO)), context("u", plan="pro"), MATCHED, segments=both
    )
    yield case(
        "segment: with another condition that does not hold", configuration(rule(in_segment("s"), PRO)), context("u"), PASSED, segments=both
    )
    yield case(
        "segment: two conditions, in both", configuration(rule(in_segment("s"), in_segment("p"))), context("u"), MATCHED,
        segments=both | {"p": segment(segments=["s"])},
    )
    yield case(
        "segment: two conditions, in one", configuration(rule(in_segment("s"), in_segment("t"))), context("u"), PASSED, segments=both
    )
    yield case(
        "segment: two rules", configuration(rule(in_segment("s"), key="first", serve="off"), rule(in_segment("t"), key="r")), context("v"),
        MATCHED, segments=both,
    )
    other = {"g": {"definition": definition("g"), "configuration": configuration(rule(in_segment("s")))}}
    wants = configuration(default="on", prerequisites=[{"flag": "g", "variants": ["on"]}])
    yield case(
        "segment: asked by a prerequisite, in", wants, context("u"), {"variant": "on", "reason": "STATIC"}, segments=both, flags=other
    )
    yield case("segment: asked by a prerequisite, outside", wants, context("v"), FAILED, segments=both, flags=other)
    for name, form in [
        ("with an attribute", in_segment("s") | {"attribute": "x"}),
        ("without segments", in_segment()),
        ("with a number", in_segment(5)),
    ]:
        yield case(f"malformed: in_segment {name}", configuration(rule(form)), context("u"), MALFORMED, segments=both, stored_only=True)


def cases():
    for part in (named, unconfigured, conditions, parts, lists, asking):
        yield from part()
