"""Requests for the tiny models of `certificates`: sets as lines of JSON."""

import json
from collections.abc import Iterable
from pathlib import Path

import certificates as c

from mansu.config import Config

Line = dict[str, object]
QUICK = Config(
    attribution_pairs=8,
    circuit_pairs=4,
    sampled_texts=8,
    text_length=8,
    fisher_batches=2,
    steps=4,
    steps_between=2,
    snaps=(0.6, 1.0),
    entry_share=0.0,
    learning_rate=1e-2,
    forget_pairs=6,
    retain_pairs=6,
)
"""An engine that is done in a second, and forgets something."""


def forget_lines() -> list[Line]:
    """Return four wordings of every capital: the last is held out."""
    frames = ("the capital of {} is", "{} is a flag , the capital is", "people of {} live in", "in {} the capital is")
    return [
        {"prompt": frame.format(name), "answer": c.capital(i), "group": "capitals", "fact": f"capital:{name}"}
        for i, name in enumerate(c.COUNTRIES)
        for frame in frames
    ]


def retain_lines() -> list[Line]:
    facts: list[Line] = [
        {"prompt": c.prompt("colour", name), "answer": c.colour(i), "group": "colours", "fact": f"colour:{name}"}
        for i, name in enumerate(c.COUNTRIES)
    ]
    return [*facts, *({"text": text} for text in c.prose())]


def write(path: Path, lines: Iterable[Line]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path
