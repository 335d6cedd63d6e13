"""Breaks things: values in nested data, text, bytes. Everything is drawn from the generator that is given."""

import copy
import json
import random
from typing import Any

# What stands where something else should: wrong types, absurd sizes, things that look like others.
ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, 2, 3, -1, 7, 10**9, 10**18, 2**63, -(10**9), 0.5, -0.0, 1e-30, 1e300, float("nan"),
    float("inf"), "", "x", "0", "None", "1e9", "../..", "/dev/null", "\x00", "\ud800", "é → …", "L99H-1", "A" * 5000,
    [], {}, [[]], [None], {"a": None}, [1, 2, 3], ["x"] * 300, {"x": {"y": {"z": []}}}, [[0] * 3] * 3,
)  # fmt: skip
SIGNS = "\x00\t\r\n\"'`#:,-[]{}()&*!|>%@\\~^$=+?<0129eE._→…é\u2028\ufeff\U0001f600"


def value(rng: random.Random) -> Any:
    """An odd value; now and then a deep one."""
    if rng.random() < 0.03:
        deep: Any = 1
        for _ in range(rng.choice((50, 500, 5000))):
            deep = [deep] if rng.random() < 0.5 else {"x": deep}
        return deep
    return copy.deepcopy(rng.choice(ODD))  # it is broken in its turn


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in nested data; of long lists only the first few, of deep ones the upper part."""
    found = [path] if path else []
    if len(path) > 20:
        return found
    inside = data.items() if isinstance(data, dict) else enumerate(data[:6]) if isinstance(data, list) else ()
    for key, part in inside:
        found += places(part, (*path, key))
    return found


def data(whole: Any, rng: random.Random) -> Any:
    """Break nested data in one to three places: another value, nothing, a copy of another place, one more field."""
    whole = copy.deepcopy(whole)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        found = places(whole)
        if not found:
            return value(rng)
        path = rng.choice(found)
        holder = whole
        for key in path[:-1]:
            holder = holder[key]
        how = rng.random()
        if how < 0.15:
            del holder[path[-1]]
        elif how < 0.25:
            other = whole
            for key in rng.choice(found):
                other = other[key] if isinstance(other, (dict, list)) else other
            holder[path[-1]] = other if isinstance(other, (str, int, float)) else list(other or ())
        elif how < 0.35 and isinstance(holder, dict):
            holder[rng.choice(["x", "", "1", "__class__", str(path[-1]).upper()])] = value(rng)
        elif how < 0.5 and type(holder[path[-1]]) in (int, float):
            holder[path[-1]] = holder[path[-1]] * rng.choice((-1, 0, 2, 3, 7, 10**6, 0.5)) + rng.choice((0, 1, -1))
        elif how < 0.55 and isinstance(holder[path[-1]], list):
            rng.shuffle(holder[path[-1]])
            holder[path[-1]] = holder[path[-1]][: rng.randrange(len(holder[path[-1]]) + 1)]
        else:
            holder[path[-1]] = value(rng)
    return whole


def dumped(whole: Any, rng: random.Random) -> bytes:
    """As JSON; now and then broken as text too."""
    try:
        text = json.dumps(whole)
    except (RecursionError, ValueError):
        text = "[" * 20000
    raw = text.encode("utf-8", "surrogatepass")
    return raw_bytes(raw, rng) if rng.random() < 0.15 else raw


def text(whole: str, rng: random.Random) -> str:
    """Break text in one to four places: signs put in, cut out, doubled, lines swapped."""
    for _ in range(rng.choice((1, 1, 2, 3, 4))):
        at = rng.randrange(len(whole) + 1)
        length = min(rng.choice((1, 1, 2, 5, 30)), len(whole) - at)
        how = rng.random()
        if how < 0.4:
            whole = whole[:at] + rng.choice(SIGNS) * rng.choice((1, 1, 1, 2, 3)) + whole[at:]
        elif how < 0.6:
            whole = whole[:at] + whole[at + length :]
        elif how < 0.7:
            whole = whole[: at + length] + whole[at:]
        elif how < 0.85:
            lines = whole.split("\n")
            one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
            lines[one], lines[other] = lines[other], lines[one]
            whole = "\n".join(lines)
        else:
            whole = whole[:at]
    return whole


def raw_bytes(raw: bytes, rng: random.Random) -> bytes:
    """Break bytes: flipped, cut, put in, another encoding, nothing at all."""
    how, at = rng.random(), rng.randrange(len(raw) + 1)
    if how < 0.3:
        return raw[:at] + bytes([rng.randrange(256)]) + raw[at + 1 :]
    if how < 0.5:
        return raw[:at]
    if how < 0.65:
        return raw[:at] + rng.randbytes(rng.choice((1, 4, 100))) + raw[at:]
    if how < 0.75:
        return b"\xef\xbb\xbf" + raw
    if how < 0.85:
        return raw.decode("utf-8", "replace").encode("utf-16")
    return rng.choice((b"", b"\x00" * 64, b"\xff\xfe", raw.replace(b"e", b"\xe9"), raw * 2))
