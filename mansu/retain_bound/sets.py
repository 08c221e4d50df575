"""Which retain data the constants come from, and which is held out: the engine's own split where it can be known."""

import hashlib
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mansu.config import Config
from mansu.data.examples import Prompts, Texts, cut_texts, sample_texts, tokenize_facts
from mansu.request import Fact, halves, pools, read_request, read_retain, require_answer_tokens
from mansu.retain_bound.passes import Batch
from verify.errors import UsageError


@dataclass(frozen=True, slots=True)
class Part:
    """Prompts, one wording of each fact, and texts of one length."""

    prompts: Prompts
    texts: Texts

    def prompt_batches(self, tokens: int = 128) -> list[Batch]:
        """Return the prompts as batches of one length each, of about `tokens` tokens."""
        alike: dict[int, list[tuple[int, ...]]] = defaultdict(list)
        for ids in self.prompts.ids:
            alike[len(ids)].append(ids)
        return [
            Batch(part, last=True)
            for length in sorted(alike)
            for part in _cut(torch.tensor(alike[length]), max(1, tokens // length))
        ]

    def text_batches(self, size: int = 4) -> list[Batch]:
        """Return the texts as batches."""
        return [Batch(part, last=False) for part in _cut(self.texts.ids, size)]


@dataclass(frozen=True, slots=True)
class Sample:
    """`known` is data that the engine trained on (or may have), `held_out` data that it did not see."""

    known: Part
    held_out: Part
    retain_sha256: str
    split: Literal["the engine's", "halves"]


def sample(
    model: Any, tokenizer: Any, retain: Path, forget: Path | None, config: Config, *, prompts: int, texts: int
) -> Sample:
    """Draw `prompts` facts and `texts` texts of each half.

    With the forget set of the edit, and its seed, the halves are those that the engine trained on and held out;
    without it, halves of its kind drawn from the retain set alone. Where a half has no prose for one text, texts are
    sampled from the base.

    Raises `UsageError` ME201 to ME204 for the sets; ME351 where a half has no facts.
    """
    rng = random.Random(config.seed)  # noqa: S311  (a sample, not a secret)
    if forget is not None:
        request = read_request(forget, retain, seed=config.seed)
        split, prose, prose_held_out = request.retain, request.prose, request.prose_held_out
    else:
        facts, lines = read_retain(retain)
        split, half = halves(facts, rng), len(lines) // 2
        prose, prose_held_out = lines[:half], lines[half:]
    if not (split.train and split.held_out_facts):
        raise UsageError(
            "the retain set is too small to hold anything out",
            expected="at least two facts of one group",
            found=f"{len(split.train)} and {len(split.held_out_facts)} prompts in its halves",
            remedy="write more facts",
            error_id="ME351",
        )
    require_answer_tokens(tokenizer, split.every())
    pool_of = pools(split.every())

    def part(facts: Sequence[Fact], prose: Sequence[str], seed: int) -> Part:
        chosen = _drawn(facts, prompts, rng)
        known = tokenize_facts(tokenizer, chosen, pool_of)
        cut = cut_texts(tokenizer, prose, length=config.text_length)
        return Part(known, Texts(_some(cut, texts, rng) if cut else _sampled(model, tokenizer, config, texts, seed)))

    return Sample(
        known=part(split.train, prose, config.seed),
        held_out=part(split.held_out_facts, prose_held_out, config.seed + 1),
        retain_sha256=hashlib.sha256(retain.read_bytes()).hexdigest(),
        split="halves" if forget is None else "the engine's",
    )


def _cut(rows: Tensor, size: int) -> list[Tensor]:
    return [rows[start : start + size] for start in range(0, rows.shape[0], size)]


def _drawn(facts: Sequence[Fact], count: int, rng: random.Random) -> list[Fact]:
    """Draw facts, and of each one wording: so that they are exchangeable."""
    wordings: dict[tuple[str, str], list[Fact]] = defaultdict(list)
    for fact in facts:
        wordings[fact.group, fact.fact].append(fact)
    names = rng.sample(sorted(wordings), min(count, len(wordings)))
    return [rng.choice(wordings[name]) for name in names]


def _some(cut: Texts, count: int, rng: random.Random) -> Tensor:
    n = cut.ids.shape[0]
    return cut.ids[sorted(rng.sample(range(n), min(count, n)))]


def _sampled(model: Any, tokenizer: Any, config: Config, count: int, seed: int) -> Tensor:
    return sample_texts(model, tokenizer, count=count, length=config.text_length, seed=seed).ids
