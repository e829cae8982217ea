"""What the programs here share: the stubs, made as a Python user would make them, and the words of a check."""

import hashlib
import sys
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[3]
DEADLINE_S = 20


class Mismatch(Exception):
    """An answer is not what the contract says."""


def expect(what, actual, expected):
    if actual != expected:
        raise Mismatch(f"{what}: expected {expected!r}, got {actual!r}")


def generate_stubs(program):
    """Makes the stubs under target/, for this program alone since others may run beside it, and lets Python find them."""
    stubs = ROOT / "target" / "clients" / "python-stubs" / program
    stubs.mkdir(parents=True, exist_ok=True)
    well_known = resources.files("grpc_tools") / "_proto"
    files = [str(path) for path in sorted((ROOT / "proto").rglob("*.proto"))]
    options = [f"-I{ROOT / 'proto'}", f"-I{well_known}", f"--python_out={stubs}", f"--grpc_python_out={stubs}"]
    expect("protoc's exit code", protoc.main(["protoc", *options, *files]), 0)
    sys.path.insert(0, str(stubs))


def bearer(credential):
    return [("authorization", f"Bearer {credential}")]


def state_hash(items):
    """The XOR over all items of SHA-256(kind, key, form hash), each preceded by its length as a big-endian 64-bit number."""
    total = 0
    for (kind, key), put in items.items():
        sha = hashlib.sha256()
        for field in (kind.encode(), key.encode(), put.form_hash):
            sha.update(len(field).to_bytes(8, "big") + field)
        total ^= int.from_bytes(sha.digest(), "big")
    return total.to_bytes(32, "big")
