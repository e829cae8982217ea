#!/usr/bin/env python3
"""Write bucketing.json: python3 generate/bucketing.py > bucketing.json

A second, independent implementation of bucketing, with the standard library only. It shares no code with the service, so that a
mistake would have to be made twice. The text of numbers (RFC 8785) is written out below by hand, where there is a reason to.
"""

import json


def murmur3_x86_32(data: bytes, seed: int = 0) -> int:
    mask = 0xFFFFFFFF

    def rotate(x: int, by: int) -> int:
        return ((x << by) | (x >> (32 - by))) & mask

    h = seed
    full = len(data) // 4 * 4
    for at in range(0, full, 4):
        k = int.from_bytes(data[at : at + 4], "little")
        k = rotate(k * 0xCC9E2D51 & mask, 15) * 0x1B873593 & mask
        h = (rotate(h ^ k, 13) * 5 + 0xE6546B64) & mask
    if full < len(data):
        k = int.from_bytes(data[full:], "little")
        h ^= rotate(k * 0xCC9E2D51 & mask, 15) * 0x1B873593 & mask
    h ^= len(data)
    h = (h ^ h >> 16) * 0x85EBCA6B & mask
    h = (h ^ h >> 13) * 0xC2B2AE35 & mask
    return h ^ h >> 16


assert murmur3_x86_32(b"The quick brown fox jumps over the lazy dog") == 0x2E4FF723
assert murmur3_x86_32(b"test") == 0xBA6BD213


def cbor_text(text: str) -> bytes:
    data = text.encode()
    length = len(data)
    for limit, head, size in [(24, 0x60, 0), (1 << 8, 0x78, 1), (1 << 16, 0x79, 2), (1 << 32, 0x7A, 4), (1 << 64, 0x7B, 8)]:
        if length < limit:
            header = bytes([head + length]) if size == 0 else bytes([head]) + length.to_bytes(size, "big")
            return header + data
    raise ValueError("too long")


def text_of(value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    return NUMBERS[repr(value)]


# As JSON.stringify of ECMAScript, and so RFC 8785, writes them.
NUMBERS = {
    "0": "0",
    "1": "1",
    "7": "7",
    "42": "42",
    "-7": "-7",
    "1.0": "1",
    "-0.0": "0",
    "0.1": "0.1",
    "0.30000000000000004": "0.30000000000000004",
    "-2.5": "-2.5",
    "100000000000000000000": "100000000000000000000",
    "1e+21": "1e+21",
    "1e+20": "100000000000000000000",
    "1.5e+300": "1.5e+300",
    "1e-06": "0.000001",
    "1e-07": "1e-7",
    "5e-324": "5e-324",
    "9007199254740991": "9007199254740991",
    "9007199254740993": "9007199254740992",
    "1.7976931348623157e+308": "1.7976931348623157e+308",
    "333333333.3333333": "333333333.3333333",
}


def case(name: str, salt: str, value, weights: list[int]) -> dict:
    hashed = murmur3_x86_32(cbor_text((salt + ":" + text_of(value)).ljust(100)))
    total = sum(weights)
    bucket = hashed * total >> 32
    below = 0
    for variant, weight in enumerate(weights):
        below += weight
        if bucket < below:
            break
    return {
        "name": name,
        "salt": salt,
        "value": value,
        "hash": hashed,
        "weights": weights,
        "total_weight": total,
        "bucket": bucket,
        "variant": variant,
    }


HALVES = [1, 1]
PERCENT = [1, 9, 40, 50]
# 0.001 % and the rest.
TINY = [1, 99_999]
LARGEST = [2**31 - 2, 1]


def cases():
    for n in range(16):
        yield case(f"plain key {n}", "new-checkout", f"user-{n}", HALVES)
    for n in range(8):
        yield case(f"four shares {n}", "new-checkout", f"user-{n}", PERCENT)
        yield case(f"another salt {n}", "old-checkout", f"user-{n}", PERCENT)
    # The first keys of the enumeration that are among the one in a hundred thousand, and ones that are not.
    found = [n for n in range(400_000) if case("", "tiny", f"user-{n}", TINY)["variant"] == 0]
    for n in found[:3] + [0, 1]:
        yield case(f"a thousandth of a percent, user {n}", "tiny", f"user-{n}", TINY)
    for n in range(3):
        yield case(f"the largest sum of weights {n}", "large", f"user-{n}", LARGEST)
    for n in range(4):
        yield case(f"weights of zero {n}", "zero", f"user-{n}", [0, 3, 0, 2, 0])
    yield case("one variant", "one", "user-1", [7])
    yield case("uneven thirds", "thirds", "user-1", [33_333, 33_333, 33_334])

    yield case("empty value", "salt", "", PERCENT)
    yield case("empty salt", "", "user-1", PERCENT)
    yield case("both empty", "", "", PERCENT)
    yield case("value with a colon", "salt", "a:b", PERCENT)
    yield case("salt with a colon, running together with the one before", "salt:a", "b", PERCENT)
    yield case("trailing space, lost in the padding", "salt", "a ", PERCENT)
    yield case("the same without it", "salt", "a", PERCENT)
    yield case("line break and zero character", "salt", "a\n\u0000b", PERCENT)
    yield case("Latin", "salt", "Ærøskøbing", PERCENT)
    yield case("decomposed, not the same as composed", "salt", "a\u030angstro\u0308m", PERCENT)
    yield case("composed", "salt", "\u00e5ngstr\u00f6m", PERCENT)
    yield case("Japanese", "塩", "東京都千代田区", PERCENT)
    yield case("Arabic", "ملح", "مستخدم", PERCENT)
    yield case("emoji", "salt", "🚩", PERCENT)
    yield case("emoji of several scalar values", "salt", "👩‍👩‍👧‍👦🏴‍☠️", PERCENT)

    def filled(chars: int, with_: str = "x") -> str:
        return (with_ * chars)[: chars - len("salt:")]

    for chars in (99, 100, 101, 104):
        yield case(f"{chars} characters in all", "salt", filled(chars), PERCENT)
    yield case("100 characters of two bytes: 195 bytes", "salt", filled(100, "ø"), PERCENT)
    yield case("255 bytes: the longest one-byte length", "salt", filled(255), PERCENT)
    yield case("256 bytes: the shortest two-byte length", "salt", filled(256), PERCENT)
    yield case("257 bytes", "salt", filled(257), PERCENT)
    yield case("290 bytes by characters of three", "salt", filled(100, "京"), PERCENT)
    yield case("100 emoji: more bytes, no padding", "salt", "🚩" * 95, PERCENT)
    yield case("padding counts scalar values: 50 emoji", "salt", "🚩" * 50, PERCENT)
    yield case("255 bytes with padding", "salt", "京" * 77 + "ø", PERCENT)
    yield case("256 bytes with padding", "salt", "京" * 78, PERCENT)
    yield case("65535 bytes", "salt", filled(65_535), PERCENT)
    yield case("65536 bytes: the shortest four-byte length", "salt", filled(65_536), PERCENT)
    yield case("long salt", "s" * 100, "user-1", PERCENT)

    yield case("true", "salt", True, PERCENT)
    yield case("the text true, the same", "salt", "true", PERCENT)
    yield case("false", "salt", False, PERCENT)
    numbers = [0, 1, 1.0, -0.0, 42, -7, 0.1, 0.1 + 0.2, -2.5, 10**20, 1e20, 1e21, 1.5e300, 1e-6, 1e-7, 5e-324]
    numbers += [2**53 - 1, 2**53 + 1, 1.7976931348623157e308, 333333333.3333333]
    for number in numbers:
        yield case(f"the number {NUMBERS[repr(number)]} written as {number!r}", "salt", number, PERCENT)


def main() -> None:
    lines = ",\n".join("  " + json.dumps(one, ensure_ascii=False) for one in cases())
    print("[\n" + lines + "\n]")


if __name__ == "__main__":
    main()
