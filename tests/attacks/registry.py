"""The list of attacks: each a small function that spoils a scene, and the checks that must refuse what it leaves."""

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from scene import Scene

Spoil = Callable[[Scene], object]


@dataclass(frozen=True)
class Attack:
    """`checks` must all fail, or with `either` at least one of them; `code` is the exit code.

    `process` says that it runs as a process of its own in every test run. Of a family of attacks, which one function
    makes from many arguments, that is the first, unless marked otherwise; the others call the command's own `main`.
    """

    name: str
    threat: str
    spoil: Spoil
    checks: tuple[str, ...]
    either: bool
    code: int
    sharded: bool
    process: bool


ATTACKS: dict[str, Attack] = {}
_families: Counter[object] = Counter()


def attack(
    *checks: str,
    name: str = "",
    either: bool = False,
    code: int = 1,
    sharded: bool = False,
    process: bool | None = None,
) -> Callable[[Spoil], Spoil]:
    """Put an attack on the list, under its function's name; its threat is the module that calls."""
    threat = sys._getframe(1).f_globals["__name__"].rpartition(".")[2]

    def put(spoil: Spoil) -> Spoil:
        family = spoil.func if isinstance(spoil, partial) else spoil.__code__
        _families[family, threat] += 1
        key = f"{threat}-{(name or spoil.__name__).replace('_', '-').replace(' ', '-')}"
        assert key not in ATTACKS, key
        alone = _families[family, threat] == 1 if process is None else process
        ATTACKS[key] = Attack(key, threat, spoil, checks, either, code, sharded, alone)
        return spoil

    return put
