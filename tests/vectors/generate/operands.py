"""What texts mean to operators: versions, moments, addresses and networks, patterns. None: the text is none of these.

Written from the specifications (SemVer 2.0.0, RFC 3339, RFC 4632 and 4291), with the standard library only.
"""

import ipaddress
import re

# --- versions ---------------------------------------------------------------------------------------------------------------

NUMBER = r"(0|[1-9][0-9]*)"
VERSION = re.compile(
    rf"{NUMBER}\.{NUMBER}\.{NUMBER}(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?", re.ASCII
)
LARGEST_NUMBER = 2**64 - 1


def version(text):
    """((major, minor, patch), pre-release identifiers); build metadata is dropped, since nothing asks for it."""
    found = VERSION.fullmatch(text)
    if not found:
        return None
    numbers = tuple(int(part) for part in found.groups()[:3])
    identifiers = found[4].split(".") if found[4] else []
    leading_zero = any(part.isdecimal() and len(part) > 1 and part[0] == "0" for part in identifiers)
    return None if leading_zero or max(numbers) > LARGEST_NUMBER else (numbers, identifiers)


def precedence(parsed):
    """SemVer 11, as something that Python compares."""
    numbers, identifiers = parsed
    # A number comes before a word; fewer identifiers before more; a release after all of its pre-releases.
    ranked = [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in identifiers]
    return numbers, not identifiers, ranked


def within(parsed, base, same_numbers):
    """At least the base, with the same first so many numbers; a pre-release only beside the base's own."""
    numbers, identifiers = parsed
    if identifiers and not (numbers == base[0] and base[1]):
        return False
    return numbers[:same_numbers] == base[0][:same_numbers] and precedence(parsed) >= precedence(base)


def tilde(parsed, base):
    return within(parsed, base, 2)


def caret(parsed, base):
    significant = next((at for at, number in enumerate(base[0]) if number), 2)
    return within(parsed, base, significant + 1)


# --- moments ----------------------------------------------------------------------------------------------------------------

MOMENT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)
DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]


def moment(text):
    """Nanoseconds since the year 0; a leap second reads as the second before it, digits beyond nanoseconds are cut off."""
    found = MOMENT.fullmatch(text)
    if not found:
        return None
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    fraction, _, sign, offset_hour, offset_minute = found.groups()[6:]
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= month <= 12 or not 1 <= day <= DAYS[month - 1] + (leap and month == 2):
        return None
    if hour > 23 or minute > 59 or second > 60:
        return None
    if sign and (int(offset_hour) > 23 or int(offset_minute) > 59):
        return None
    before = year - 1 if year else 0
    leaps = before // 4 - before // 100 + before // 400 + (1 if year else 0)
    days = year * 365 + leaps + sum(DAYS[: month - 1]) + (leap and month > 2) + day - 1
    seconds = ((days * 24 + hour) * 60 + minute) * 60 + min(second, 59)
    if sign:
        offset = (int(offset_hour) * 60 + int(offset_minute)) * 60
        seconds -= offset if sign == "+" else -offset
    return seconds * 10**9 + int((fraction or "0")[:9].ljust(9, "0"))


# --- addresses --------------------------------------------------------------------------------------------------------------


def address(text):
    """An address; one of IPv4 that is written as IPv6 is the IPv4 address."""
    if "%" in text:
        return None
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed


def network(text):
    """A network, whatever its host bits, or a bare address."""
    base, slash, length = text.partition("/")
    parsed = address(base)
    if parsed is None:
        return None
    as_written = ipaddress.ip_address(base)
    bits = as_written.max_prefixlen
    if slash:
        if not re.fullmatch(r"0|[1-9]\d{0,2}", length, re.ASCII) or int(length) > bits:
            return None
        bits = int(length)
    if parsed != as_written:
        # Less than the 96 bits that say "IPv4" reach beyond IPv4, and are left as they are.
        parsed, bits = (parsed, bits - 96) if bits >= 96 else (as_written, bits)
    return ipaddress.ip_network((parsed, bits), strict=False)


# --- patterns ---------------------------------------------------------------------------------------------------------------


def pattern(text):
    """A regular expression of the RE2 kind, as Python spells it. Python's `$` matches before a last line break too, RE2's does
    not unless it is asked for lines."""
    if re.search(r"\\[1-9]|\(\?<?[=!]", text):
        return None
    lines = re.match(r"\(\?[a-ln-z]*m", text)
    spelt = text if lines else re.sub(r"(?<!\\)\$", r"\\Z", text)
    try:
        return re.compile(spelt.replace(r"\z", r"\Z"))
    except re.error:
        return None
