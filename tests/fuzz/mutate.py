"""Damage to valid inputs that keeps most of their structure, so that it gets deep into readers."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

STRINGS = (
    "",
    "../../x",
    "/etc/passwd",
    "a\0b",
    "a\nb",
    ";rm -rf ~",
    "<script>alert(1)</script>",
    "'; DROP TABLE runs; --",
    "\u202egnp.x",
    "\ud800",
    "x" * 10_000,
    "1" * 5_000,
    "NaN",
    "${oc.env:HOME}",
    "${seed}",
    "${a",
    "???",
    "__import__('os').system('x')",
    "d3-3-3_w16-32-64",
    "\x1b[2J",
    "\u0663",
    "1e999",
)
NUMBERS = (0, -1, 1, 2**31, 2**63, 2**64, 10**400, 0.5, -0.0, 1e308, float("inf"), float("nan"))
INTERESTING = (b"\0", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80", b'"', b"{", b"[" * 2000)
INTERESTING += (b"\\u0000",)


def value(rng: Random) -> Any:
    """Draw something that does not belong where it is put."""
    return rng.choice(
        (
            lambda: rng.choice(STRINGS),
            lambda: rng.choice(NUMBERS),
            lambda: rng.choice((None, True, False)),
            lambda: [rng.choice(NUMBERS)] * rng.choice((0, 1, 3, 100)),
            lambda: {"_target_": "os.system", "_args_": ["false"]},
            lambda: {rng.choice(STRINGS): rng.choice(NUMBERS)},
            lambda: nested(rng.choice((3, 20, 60))),
        )
    )()


def nested(depth: int) -> Any:
    """Nest lists and objects in each other."""
    inner: Any = 1
    for level in range(depth):
        inner = [inner] if level % 2 else {"a": inner}
    return inner


def tree(root: Any, rng: Random) -> Any:
    """Swap, drop, double or add some of the values of a JSON document."""
    root = copy.deepcopy(root)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        place, key = rng.choice(list(_places(root)))
        action = rng.randrange(6)
        if action == 0:
            del place[key]
        elif action == 1 and isinstance(place, list):
            place.insert(key, copy.deepcopy(place[key]))
        elif action == 2 and isinstance(place, dict):
            place[rng.choice(STRINGS)] = value(rng)
        elif action == 3:
            place[key] = copy.deepcopy(_random(root, rng))
        else:
            place[key] = value(rng)
        if not root:
            break
    return root


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(node) if isinstance(node, dict) else range(len(node))
    for key in keys:
        yield node, key
        if isinstance(node[key], dict | list) and node[key]:
            yield from _places(node[key])


def _random(root: Any, rng: Random) -> Any:
    place, key = rng.choice(list(_places(root)))
    return place[key]


def text(root: Any) -> bytes:
    """Write a JSON document, with what JSON has no words for; lone surrogates stay escaped."""
    return json.dumps(root).encode()


def content(data: bytes, rng: Random, others: Callable[[], bytes] = bytes) -> bytes:
    """Flip bits, cut, double, splice or insert bytes."""
    held = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(held) + 1)
        action = rng.randrange(7)
        if action == 0 and at < len(held):
            held[at] ^= 1 << rng.randrange(8)
        elif action == 1 and at < len(held):
            held[at] = rng.randrange(256)
        elif action == 2:
            del held[at : at + rng.choice((1, 2, 16, len(held)))]
        elif action == 3:
            held[at:at] = held[at : at + rng.choice((1, 8, 64))]
        elif action == 4:
            held[at:at] = rng.choice(INTERESTING)
        elif action == 5:
            other = others()
            held[at:] = other[rng.randrange(len(other) + 1) :]
        elif at + 4 <= len(held):
            held[at : at + 4] = rng.choice((0, 1, 2**31, 2**32 - 1, 65536)).to_bytes(4, "big")
    return bytes(held)
