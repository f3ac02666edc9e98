"""Faults in bytes and in trees of JSON, drawn from a seeded generator; and a command in a child."""

from __future__ import annotations

import copy
import io
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any


def mutated(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """The bytes with one to four faults: flipped, cut, repeated; or those of another file."""
    if rng.random() < 0.04:
        return rng.choice(others)
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        if not data:
            break
        at = min(int(rng.expovariate(1 / 40)) if rng.random() < 0.5 else rng.randrange(len(data)),
                 len(data) - 1)  # fmt: skip
        kind = rng.randrange(7)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at : at + rng.randint(1, 16)] = rng.randbytes(rng.randint(0, 16))
        elif kind == 3:
            data[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"])
        elif kind == 4:
            data[at:at] = data[at : at + 64] * rng.randint(1, 50)
        elif kind == 5:
            data[at : at + 1] = rng.choice([b"(", b"{", b"'", b'"', b",", b"\n", b"9999999", b"-"])
        else:
            data += rng.randbytes(rng.randint(1, 64))
    return bytes(data)


HUGE: list[Any] = [
    10**9, -1, 0, 2**70, -(10**30), 1e308, -0.5, "", "x" * 1000, "../../x", None, True, [], {},
    [[]],
    {"kind": "unet"}, {"kind": []}, [1] * 500, {"a": 1}, ["a"], [10**9, 10**9], "float128",
]  # fmt: skip


def nodes(tree: Any, path: tuple = ()) -> Iterator[tuple]:
    """The paths of all nodes of a tree."""
    yield path
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in items:
        yield from nodes(value, (*path, key))


def spoiled(tree: Any, rng: random.Random) -> Any:
    """The tree with one to three of its nodes replaced, removed, renamed or made deep."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.randint(1, 3)):
        path = rng.choice(list(nodes(tree)))
        if not path:
            continue
        parent = tree
        for key in path[:-1]:
            parent = parent[key]
        kind = rng.randrange(8)
        if kind == 0:
            del parent[path[-1]]
        elif kind == 1 and isinstance(parent, dict):
            parent[rng.choice(["kind", "x", ""])] = parent.pop(path[-1])
        elif kind == 2:
            deep: Any = 1
            for _ in range(rng.choice([50, 100, 3000])):
                deep = [deep]
            parent[path[-1]] = deep if sys.getrecursionlimit() > 9000 else [[[[1]]]]
        elif kind == 3 and isinstance(parent[path[-1]], int | float):
            parent[path[-1]] = parent[path[-1]] * rng.choice([-1, 0, 2, 1000, 10**6])
        else:
            parent[path[-1]] = copy.deepcopy(rng.choice(HUGE))
    return tree


def run_words(words: Sequence[object]) -> tuple[int, str]:
    """Run a command line in this process; return its exit code and what it said of errors."""
    from undiffuse.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(word) for word in words])
    return code, err.getvalue()
