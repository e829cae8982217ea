"""The cases of operators.json: what every operator makes of every kind of attribute, and where its values are hard to read."""

from forms import MALFORMED, asked, case, condition, configuration, context, rule

TEXT, NUMBER, BOOL, OBJECT = ("text", "text"), ("a number", 7), ("a bool", True), ("an object", {"k": "v"})
NOT_TEXT = [NUMBER, BOOL, OBJECT]
NOT_NUMBER = [("text that reads like a number", "5"), BOOL, OBJECT]
NOT_VERSION = [("text that is no version", "one"), *NOT_TEXT]
NOT_MOMENT = [("text that is no time", "soon"), *NOT_TEXT]
NOT_ADDRESS = [("text that is no address", "localhost"), *NOT_TEXT]

# operator -> its values, an attribute that it holds for, one that it does not hold for, and ones that it cannot be asked of.
MATRIX = {
    "equals": (["pro"], "pro", "free", NOT_TEXT),
    "one_of": (["NO", "SE"], "SE", "DK", NOT_TEXT),
    "contains": (["@example."], "ada@example.com", "ada@example", NOT_TEXT),
    "starts_with": (["admin-", "root-"], "root-7", "user-root-", NOT_TEXT),
    "ends_with": ([".org"], "example.org", "example.org.uk", NOT_TEXT),
    "matches": (["^v[0-9]+$", "beta"], "v12", "v12x", NOT_TEXT),
    "number_equal": ([5], 5, 6, NOT_NUMBER),
    "number_not_equal": ([5], 6, 5, NOT_NUMBER),
    "number_less": ([5], 4.5, 5, NOT_NUMBER),
    "number_less_or_equal": ([5], 5, 5.5, NOT_NUMBER),
    "number_greater": ([5], 5.5, 5, NOT_NUMBER),
    "number_greater_or_equal": ([5], 5, 4.5, NOT_NUMBER),
    "version_equal": (["1.2.3"], "1.2.3", "1.2.4", NOT_VERSION),
    "version_not_equal": (["1.2.3"], "1.2.4", "1.2.3", NOT_VERSION),
    "version_less": (["1.2.3"], "1.2.2", "1.2.3", NOT_VERSION),
    "version_less_or_equal": (["1.2.3"], "1.2.3", "1.10.0", NOT_VERSION),
    "version_greater": (["1.2.3"], "1.10.0", "1.2.3", NOT_VERSION),
    "version_greater_or_equal": (["1.2.3"], "1.2.3", "1.2.2", NOT_VERSION),
    "version_tilde": (["1.2.3"], "1.2.9", "1.3.0", NOT_VERSION),
    "version_caret": (["1.2.3"], "1.9.0", "2.0.0", NOT_VERSION),
    "before": (["2026-01-31T12:00:00Z"], "2026-01-31T11:59:59Z", "2026-01-31T12:00:00Z", NOT_MOMENT),
    "after": (["2026-01-31T12:00:00Z"], "2026-01-31T12:00:01Z", "2026-01-31T12:00:00Z", NOT_MOMENT),
    "ip_in_range": (["10.0.0.0/8", "2001:db8::/32"], "10.1.2.3", "11.1.2.3", NOT_ADDRESS),
}


def kinds():
    """Every operator that compares, and every kind of attribute."""
    for operator, (values, holding, failing, wrong) in MATRIX.items():
        form = condition(operator, *values)

        def one(name, attribute, outcome):
            return asked(f"every kind, {operator}: {name}", form, context(x=attribute), outcome)

        yield from one("an attribute that it holds for", holding, "holds")
        yield from one("an attribute that it does not hold for", failing, "fails")
        yield from asked(f"every kind, {operator}: absent", form, context(), "never")
        yield from one("null", None, "never")
        for name, attribute in wrong:
            yield from one(name, attribute, "never")
        unasked = [attribute for _, attribute in wrong]
        yield from one("a list, it holds for the last", [failing, holding], "holds")
        yield from one("a list, it holds for none", [failing, failing], "fails")
        yield from one("an empty list", [], "never")
        yield from one("a list of the wrong types", unasked, "never")
        yield from one("a list of the wrong types, null and one that it holds for", [*unasked, None, holding], "holds")
        yield from one("a list of the wrong types, null and one that it does not hold for", [*unasked, None, failing], "fails")
        yield from one("a list of nulls", [None, None], "never")
        yield from one("a list within a list", [[holding]], "never")
        nested = condition(operator, *values, attribute="a.b")
        yield from asked(f"every kind, {operator}: at a path", nested, context(a={"b": holding}), "holds")
        yield from asked(f"every kind, {operator}: a list at a path", nested, context(a={"b": [failing]}), "fails")
        yield from asked(f"every kind, {operator}: nothing at a path", nested, context(a={"c": holding}), "never")
        if isinstance(holding, str):
            key = condition(operator, *values, attribute="targeting_key")
            yield from asked(f"every kind, {operator}: the targeting key", key, context(holding), "holds")
            yield from asked(f"every kind, {operator}: an empty targeting key", key, {"targeting_key": ""}, "never")


def exists():
    for name, asks, outcome in [
        ("text", context(x="t"), "holds"),
        ("empty text", context(x=""), "holds"),
        ("zero", context(x=0), "holds"),
        ("false", context(x=False), "holds"),
        ("an empty list", context(x=[]), "holds"),
        ("a list of nulls", context(x=[None]), "holds"),
        ("an empty object", context(x={}), "holds"),
        ("null", context(x=None), "fails"),
        ("absent", context(), "fails"),
        ("absent, with an empty context", {}, "fails"),
    ]:
        yield from asked(f"exists: {name}", condition("exists"), asks, outcome)
    for name, asks, outcome in [
        ("a path", context(a={"b": 1}), "holds"),
        ("a path to null", context(a={"b": None}), "fails"),
        ("a path to an empty object", context(a={"b": {}}), "holds"),
        ("a path through text", context(a="b"), "fails"),
        ("a path through a list", context(a=[{"b": 1}]), "fails"),
        ("a path of which only the beginning is there", context(a={}), "fails"),
        ("a name with a dot", context(**{"a.b": 1}), "holds"),
    ]:
        yield from asked(f"exists: {name}", condition("exists", attribute="a.b"), asks, outcome)
    key = condition("exists", attribute="targeting_key")
    yield from asked("exists: the targeting key", key, context("u"), "holds")
    yield from asked("exists: an empty targeting key", key, {"targeting_key": ""}, "fails")
    yield from asked("exists: no targeting key, but an attribute of that name", key, context("", targeting_key="u"), "fails")


def table(operator, rows):
    """Rows of a name, the values, an attribute and the outcome."""
    for name, values, attribute, outcome in rows:
        values = values if isinstance(values, list) else [values]
        yield from asked(f"{operator}: {name}", condition(operator, *values), context(x=attribute), outcome)


def text():
    for operator in ("contains", "starts_with"):
        yield from table(operator, [
            ("every text does so with empty text", "", "abc", "holds"),
            ("empty text with empty text", "", "", "holds"),
            ("empty text with some text", "a", "", "fails"),
            ("the whole text", "abc", "abc", "holds"),
            ("more than the text", "abcd", "abc", "fails"),
            ("case counts", "AB", "abc", "fails"),
            ("any of the values", ["x", "a"], "abc", "holds"),
            ("none of the values", ["x", "y"], "abc", "fails"),
            ("letters of several bytes", "東京", "東京都", "holds"),
            ("emoji", "🚩", "🚩🏴", "holds"),
            ("composed is not decomposed", "\u00e5", "a\u030angstrom", "fails"),
            ("the first part of a decomposed letter", "a", "a\u030angstrom", "holds"),
            ("a space counts", " a", "abc", "fails"),
            ("a sign of patterns is a letter like any other", ".", "abc", "fails"),
        ])
    # PostgreSQL holds no such text, so nobody can write it.
    for operator, values, outcome in [("contains", "\u0000", "holds"), ("starts_with", "a\u0000", "holds"), ("equals", "a", "fails")]:
        form = condition(operator, values)
        yield from asked(f"{operator}: the zero character", form, context(x="a\u0000b"), outcome, stored_only=True)
    yield from table("contains", [
        ("in the middle", "b", "abc", "holds"),
        ("at the end", "bc", "abc", "holds"),
        ("letters that are not beside each other", "ac", "abc", "fails"),
    ])
    yield from table("starts_with", [("not at the beginning", "b", "abc", "fails"), ("at the end only", "bc", "abc", "fails")])
    yield from table("equals", [
        ("the whole number of a large double", 1e21, 1e21, "holds"),
        ("the smallest double is not zero", 5e-324, 0, "fails"),
    ])
    hundred = [f"company-{n}" for n in range(100)]
    yield from table("one_of", [
        ("the last of a hundred", hundred, "company-99", "holds"),
        ("none of a hundred", hundred, "company-100", "fails"),
        ("a list that shares one with a hundred", hundred, ["x", "company-0"], "holds"),
        ("a number, asked of a hundred texts", hundred, 7, "never"),
    ])


def patterns():
    yield from table("matches", [
        ("anywhere in the text", "b+", "abbc", "holds"),
        ("nowhere in the text", "b+", "ac", "fails"),
        ("anchored at the beginning", "^b", "abc", "fails"),
        ("anchored at the end", "b$", "abc", "fails"),
        ("anchored at both ends", "^abc$", "abc", "holds"),
        ("anchored at both ends, a part", "^b$", "abc", "fails"),
        ("the empty pattern is in every text", "", "abc", "holds"),
        ("the empty pattern is in empty text", "", "", "holds"),
        ("nothing between the ends", "^$", "", "holds"),
        ("something between the ends", "^$", "a", "fails"),
        ("one alternative", "^(cat|dog)$", "dog", "holds"),
        ("no alternative", "^(cat|dog)$", "cow", "fails"),
        ("an alternative is anchored alone", "^cat|dog$", "hotdog", "holds"),
        ("case counts", "ABC", "abc", "fails"),
        ("case does not count if the pattern says so", "(?i)ABC", "abc", "holds"),
        ("case does not count, beyond ASCII", "(?i)ærø", "ÆRØ", "holds"),
        ("the end is not before a last line break", "^abc$", "abc\n", "fails"),
        ("an end is not a line's", "^b$", "a\nb\nc", "fails"),
        ("an end is a line's if the pattern says so", "(?m)^b$", "a\nb\nc", "holds"),
        ("a dot is not a line break", "a.b", "a\nb", "fails"),
        ("a dot is a line break if the pattern says so", "(?s)a.b", "a\nb", "holds"),
        ("a dot is one scalar value", "^.$", "🚩", "holds"),
        ("a dot is not a letter with its mark", "^.$", "a\u030a", "fails"),
        ("a class of letters beyond ASCII", "^[æøå]+$", "åæø", "holds"),
        ("digits", r"^\d{3}$", "123", "holds"),
        ("digits of another script are digits", r"^\d$", "٣", "holds"),
        ("word characters beyond ASCII", r"^\w+$", "東京", "holds"),
        ("at the edge of a word", r"\bcat\b", "a cat sat", "holds"),
        ("not at the edge of a word", r"\bcat\b", "concatenate", "fails"),
        ("a number of times", "^a{2,3}$", "aaaa", "fails"),
        ("lazily is the same, as a question", "^a+?$", "aaa", "holds"),
        ("a dot that is meant", r"^a\.b$", "axb", "fails"),
        ("any of several patterns", ["^x", "c$"], "abc", "holds"),
        ("none of several patterns", ["^x", "^c"], "abc", "fails"),
        ("a named group", "^(?P<year>[0-9]{4})-", "2026-01", "holds"),
        ("nested repetition", "^(a+)+$", "aaaa", "holds"),
    ])


def versions():
    # SemVer 11.4, from the lowest precedence to the highest.
    order = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0"]
    for lower, higher in zip(order, order[1:]):
        yield from table("version_less", [(f"{lower} comes before {higher}", higher, lower, "holds")])
        yield from table("version_greater", [(f"{lower} does not come after {higher}", higher, lower, "fails")])
    yield from table("version_less", [
        ("numbers compare as numbers", "1.10.0", "1.9.0", "holds"),
        ("major before minor", "2.0.0", "1.99.99", "holds"),
        ("a number comes before a word", "1.0.0-a", "1.0.0-999", "holds"),
        ("words compare by their letters, upper case first", "1.0.0-a", "1.0.0-B", "holds"),
        ("build metadata does not count", "1.0.0+2", "1.0.0+1", "fails"),
        ("large numbers within a pre-release", "1.0.0-99999999999999999999999", "1.0.0-99999999999999999999998", "holds"),
        ("a hyphen within a pre-release", "1.0.0-a-b", "1.0.0-a", "holds"),
    ])
    yield from table("version_equal", [
        ("build metadata does not count", "1.2.3+linux", "1.2.3+windows", "holds"),
        ("build metadata may begin with zero", "1.2.3", "1.2.3+007", "holds"),
        ("a pre-release is not its release", "1.2.3", "1.2.3-rc.1", "fails"),
        ("a pre-release of one word", "1.2.3-rc", "1.2.3-rc", "holds"),
        ("a pre-release of hyphens", "1.2.3---", "1.2.3---", "holds"),
        ("a word may begin with zero", "1.2.3-0a", "1.2.3-0a", "holds"),
        ("zero as a pre-release", "1.2.3-0", "1.2.3-0", "holds"),
        ("all zeros", "0.0.0", "0.0.0", "holds"),
        ("the largest numbers", "1.2.18446744073709551615", "1.2.18446744073709551615", "holds"),
    ])
    for name, attribute in [
        ("a leading v", "v1.2.3"),
        ("two numbers", "1.2"),
        ("one number", "1"),
        ("four numbers", "1.2.3.4"),
        ("a leading zero", "01.2.3"),
        ("a leading zero in the patch", "1.2.03"),
        ("a leading zero in a pre-release's number", "1.2.3-01"),
        ("an empty pre-release", "1.2.3-"),
        ("an empty identifier", "1.2.3-a..b"),
        ("empty build metadata", "1.2.3+"),
        ("an underscore", "1.2.3-a_b"),
        ("a space before", " 1.2.3"),
        ("a space after", "1.2.3 "),
        ("a negative number", "-1.2.3"),
        ("a number of more than 64 bits", "1.2.18446744073709551616"),
        ("a range", "^1.2.3"),
        ("a wildcard", "1.2.x"),
        ("empty text", ""),
        ("digits of another script", "1.2.٣"),
    ]:
        yield from table("version_not_equal", [(f"no version: {name}", "9.9.9", attribute, "never")])
    yield from ranges()


def ranges():
    for operator, base, inside, outside in [
        ("version_tilde", "1.2.3", ["1.2.3", "1.2.99", "1.2.3+build"], ["1.2.2", "1.3.0", "2.2.3", "1.2.3-rc.1", "1.2.4-rc.1"]),
        ("version_tilde", "0.2.3", ["0.2.3", "0.2.9"], ["0.2.2", "0.3.0", "1.2.3"]),
        ("version_tilde", "0.0.3", ["0.0.3", "0.0.9"], ["0.0.2", "0.1.0"]),
        ("version_tilde", "1.2.3-rc.2", ["1.2.3-rc.2", "1.2.3-rc.10", "1.2.3", "1.2.4"], ["1.2.3-rc.1", "1.2.4-rc.3", "1.3.0"]),
        ("version_tilde", "1.2.3+build", ["1.2.3", "1.2.4+other"], ["1.2.2+build"]),
        ("version_caret", "1.2.3", ["1.2.3", "1.2.4", "1.99.0", "1.2.3+build"], ["1.2.2", "2.0.0", "0.2.3", "1.2.3-rc.1", "1.3.0-rc.1", "2.0.0-rc.1"]),
        ("version_caret", "0.2.3", ["0.2.3", "0.2.9"], ["0.2.2", "0.3.0", "1.0.0"]),
        ("version_caret", "0.0.3", ["0.0.3", "0.0.3+build"], ["0.0.2", "0.0.4", "0.1.0"]),
        ("version_caret", "0.0.0", ["0.0.0"], ["0.0.1", "0.1.0", "1.0.0"]),
        ("version_caret", "1.0.0", ["1.0.0", "1.9.9"], ["0.9.9", "2.0.0"]),
        ("version_caret", "1.2.3-rc.2", ["1.2.3-rc.2", "1.2.3-rc.3", "1.2.3", "1.4.0"], ["1.2.3-rc.1", "1.2.4-rc.9", "2.0.0"]),
        ("version_caret", "0.2.0-rc.1", ["0.2.0-rc.1", "0.2.0", "0.2.5"], ["0.2.0-beta", "0.2.1-rc.1", "0.3.0"]),
        ("version_caret", "0.0.3-rc.1", ["0.0.3-rc.1", "0.0.3"], ["0.0.3-beta", "0.0.4"]),
    ]:
        for attribute in inside:
            yield from table(operator, [(f"{attribute} is in the range of {base}", base, attribute, "holds")])
        for attribute in outside:
            yield from table(operator, [(f"{attribute} is not in the range of {base}", base, attribute, "fails")])


def moments():
    noon = "2026-01-31T12:00:00Z"
    yield from table("before", [
        ("an offset east is earlier", noon, "2026-01-31T13:59:59+02:00", "holds"),
        ("the same moment at an offset east", noon, "2026-01-31T14:00:00+02:00", "fails"),
        ("the same moment at an offset west", noon, "2026-01-31T06:30:00-05:30", "fails"),
        ("an offset west is later", noon, "2026-01-31T11:59:59-00:01", "fails"),
        ("an offset that changes the day", noon, "2026-02-01T01:59:59+14:00", "holds"),
        ("an offset of zero east", noon, "2026-01-31T11:59:59+00:00", "holds"),
        ("an offset of zero west", noon, "2026-01-31T11:59:59-00:00", "holds"),
        ("a fraction", noon, "2026-01-31T11:59:59.9Z", "holds"),
        ("the value at an offset", "2026-01-31T14:00:00+02:00", "2026-01-31T11:59:59Z", "holds"),
        ("the value with a fraction", "2026-01-31T12:00:00.000000001Z", noon, "holds"),
        ("nine digits", "2026-01-31T12:00:00.123456789Z", "2026-01-31T12:00:00.123456788Z", "holds"),
        ("digits beyond nine are cut off", "2026-01-31T12:00:00.1234567899Z", "2026-01-31T12:00:00.1234567891Z", "fails"),
        ("zeros at the end of a fraction", "2026-01-31T12:00:00.5Z", "2026-01-31T12:00:00.500Z", "fails"),
        ("lower case letters", noon, "2026-01-31t11:59:59z", "holds"),
        ("the value in lower case letters", "2026-01-31t12:00:00z", "2026-01-31T11:59:59Z", "holds"),
        ("a leap day", "2024-03-01T00:00:00Z", "2024-02-29T23:59:59Z", "holds"),
        ("a leap day of a century that has one", "2000-03-01T00:00:00Z", "2000-02-29T12:00:00Z", "holds"),
        ("a leap second is before the next day", "2017-01-01T00:00:00Z", "2016-12-31T23:59:60Z", "holds"),
        ("before 1970", "1970-01-01T00:00:00Z", "1969-12-31T23:59:59.999Z", "holds"),
        ("an early year", noon, "0001-01-01T00:00:00Z", "holds"),
        ("never, as people write it", "9999-12-31T23:59:59Z", noon, "holds"),
    ])
    yield from table("after", [
        ("a moment later", noon, "2026-01-31T12:00:00.000000001Z", "holds"),
        ("the same moment", noon, noon, "fails"),
        ("the same moment, written otherwise", noon, "2026-01-31t14:00:00.000+02:00", "fails"),
        ("an offset west is later", noon, "2026-01-31T11:59:00-00:02", "holds"),
        ("a leap second is not after the second before it", "2016-12-31T23:59:59Z", "2016-12-31T23:59:60Z", "fails"),
        ("a leap second is after the one before that", "2016-12-31T23:59:58Z", "2016-12-31T23:59:60Z", "holds"),
        ("never, as people write it", noon, "9999-12-31T23:59:59Z", "holds"),
    ])
    for name, attribute in [
        ("a date alone", "2026-01-31"),
        ("without an offset", "2026-01-31T12:00:00"),
        ("a space instead of the T", "2026-01-31 12:00:00Z"),
        ("without seconds", "2026-01-31T12:00Z"),
        ("without colons", "20260131T120000Z"),
        ("an offset without its colon", "2026-01-31T12:00:00+0200"),
        ("an offset of hours alone", "2026-01-31T12:00:00+02"),
        ("an offset of a day", "2026-01-31T12:00:00+24:00"),
        ("an offset of sixty minutes", "2026-01-31T12:00:00+01:60"),
        ("a zone's name", "2026-01-31T12:00:00[UTC]"),
        ("an offset and a zone's name", "2026-01-31T12:00:00+00:00[UTC]"),
        ("month zero", "2026-00-31T12:00:00Z"),
        ("month thirteen", "2026-13-01T12:00:00Z"),
        ("day zero", "2026-01-00T12:00:00Z"),
        ("the thirtieth of February", "2026-02-30T12:00:00Z"),
        ("a leap day of a year without one", "2026-02-29T12:00:00Z"),
        ("a leap day of a century without one", "1900-02-29T12:00:00Z"),
        ("hour twenty-four", "2026-01-31T24:00:00Z"),
        ("minute sixty", "2026-01-31T12:60:00Z"),
        ("second sixty-one", "2026-01-31T12:00:61Z"),
        ("a fraction without digits", "2026-01-31T12:00:00.Z"),
        ("a comma for the fraction", "2026-01-31T12:00:00,5Z"),
        ("a year of two digits", "26-01-31T12:00:00Z"),
        ("a year of five digits", "12026-01-31T12:00:00Z"),
        ("a year with a sign", "+2026-01-31T12:00:00Z"),
        ("a space before", " 2026-01-31T12:00:00Z"),
        ("a space after", "2026-01-31T12:00:00Z "),
        ("digits of another script", "2026-01-3١T12:00:00Z"),
        ("empty text", ""),
    ]:
        yield from table("before", [(f"no time: {name}", "9000-01-01T00:00:00Z", attribute, "never")])


def addresses():
    yield from table("ip_in_range", [
        ("the first address of a network", "10.0.0.0/8", "10.0.0.0", "holds"),
        ("the last address of a network", "10.0.0.0/8", "10.255.255.255", "holds"),
        ("the one before a network", "10.0.0.0/8", "9.255.255.255", "fails"),
        ("a network with host bits", "10.1.2.3/8", "10.9.9.9", "holds"),
        ("a network that ends within a byte", "192.168.4.0/22", "192.168.7.255", "holds"),
        ("beyond a network that ends within a byte", "192.168.4.0/22", "192.168.8.0", "fails"),
        ("every address of IPv4", "0.0.0.0/0", "203.0.113.9", "holds"),
        ("every address of IPv4 is none of IPv6", "0.0.0.0/0", "2001:db8::1", "fails"),
        ("every address of IPv6", "::/0", "2001:db8::1", "holds"),
        ("every address of IPv6 is none of IPv4", "::/0", "10.0.0.1", "fails"),
        ("a network of one address", "10.0.0.1/32", "10.0.0.1", "holds"),
        ("beside a network of one address", "10.0.0.1/32", "10.0.0.2", "fails"),
        ("a network of one address of IPv6", "2001:db8::1/128", "2001:db8::1", "holds"),
        ("a bare address", "10.0.0.1", "10.0.0.1", "holds"),
        ("beside a bare address", "10.0.0.1", "10.0.0.2", "fails"),
        ("a bare address of IPv6", "2001:db8::1", "2001:db8::1", "holds"),
        ("IPv6 is written in many ways", "2001:db8::1", "2001:0DB8:0:0:0:0:0:1", "holds"),
        ("IPv6 in a network", "2001:db8::/32", "2001:db8:ffff::1", "holds"),
        ("IPv6 beyond a network", "2001:db8::/32", "2001:db9::1", "fails"),
        ("IPv4 written as IPv6", "10.0.0.0/8", "::ffff:10.1.2.3", "holds"),
        ("IPv4 written as IPv6, in hexadecimal", "10.0.0.0/8", "::ffff:a01:203", "holds"),
        ("IPv4 written as IPv6, beyond the network", "10.0.0.0/8", "::ffff:11.1.2.3", "fails"),
        ("IPv4 written as IPv6 is none of IPv6", "::/0", "::ffff:10.1.2.3", "fails"),
        ("a bare address of IPv4 written as IPv6", "::ffff:10.0.0.1", "10.0.0.1", "holds"),
        ("a network of IPv4 written as IPv6", "::ffff:10.0.0.0/104", "10.1.2.3", "holds"),
        ("beyond a network of IPv4 written as IPv6", "::ffff:10.0.0.0/104", "11.1.2.3", "fails"),
        ("any of several networks", ["10.0.0.0/8", "192.0.2.7"], "192.0.2.7", "holds"),
        ("none of several networks", ["10.0.0.0/8", "192.0.2.7"], "192.0.2.8", "fails"),
    ])
    for name, attribute in [
        ("a network", "10.0.0.0/8"),
        ("three numbers", "10.0.1"),
        ("a number beyond 255", "10.0.0.256"),
        ("a leading zero", "010.0.0.1"),
        ("one number", "167772161"),
        ("hexadecimal", "0x0a000001"),
        ("with a port", "10.0.0.1:80"),
        ("in brackets", "[2001:db8::1]"),
        ("with a zone", "fe80::1%eth0"),
        ("two gaps", "2001::db8::1"),
        ("a space before", " 10.0.0.1"),
        ("empty text", ""),
    ]:
        yield from table("ip_in_range", [(f"no address: {name}", ["0.0.0.0/0", "::/0"], attribute, "never")])


def unreadable():
    """Values that make the flag malformed: nobody can write them, but a row can be edited."""
    for operator, values in [
        ("contains", [5]),
        ("starts_with", ["a", True]),
        ("matches", ["("]),
        ("matches", ["a", "[z-a]"]),
        ("matches", [r"(a)\1"]),
        ("matches", ["(?=a)"]),
        ("matches", [7]),
        ("number_equal", [True]),
        ("version_equal", ["1.2"]),
        ("version_less", ["v1.2.3"]),
        ("version_greater", ["1.2.3", "1.2.4"]),
        ("version_tilde", ["~1.2.3"]),
        ("version_tilde", ["1.2"]),
        ("version_caret", ["1.x"]),
        ("version_caret", [1]),
        ("before", ["2026-01-31"]),
        ("before", ["2026-01-31 12:00:00Z"]),
        ("after", ["2026-02-30T12:00:00Z"]),
        ("after", [1769860800]),
        ("ip_in_range", ["10.0.0.0/33"]),
        ("ip_in_range", ["2001:db8::/129"]),
        ("ip_in_range", ["10.0.0/8"]),
        ("ip_in_range", ["10.0.0.0/8", "localhost"]),
        ("ip_in_range", ["10.0.0.0/255.0.0.0"]),
        ("exists", ["a"]),
    ]:
        configured = configuration(rule(condition(operator, *values)))
        name = f"malformed: {operator} with {', '.join(map(repr, values))}"
        yield case(name, configured, context(x="a"), MALFORMED, stored_only=True)
    for operator in MATRIX:
        configured = configuration(rule(condition(operator)))
        yield case(f"malformed: {operator} without values", configured, context(x="a"), MALFORMED, stored_only=True)


def cases():
    for part in (kinds, exists, text, patterns, versions, moments, addresses, unreadable):
        yield from part()
