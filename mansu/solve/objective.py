"""The training objective: a forget term bounded below, and retention measured against the frozen base.

Answers are to be lost, not inverted: the forget term is smallest where an answer is improbable *and* stands where its
alternatives do on average, or a given distance below.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mansu.data.contexts import Contexts
from mansu.data.examples import Prompts, Retained, draw, last_logits, parts_of
from mansu.solve.standing import common_shift, leads, log_odds

_NEARLY_ONE = 0.999  # keeps log(1 − p) finite at p = 1


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of the retain terms against the forget term, and where that one is smallest.

    All but one are divergences from the base (`Divergences`), and that one a shift from it, so that what is retained
    stays as it was and does not improve either. `level` is how far from its alternatives' mean an answer's logit is to
    end on trained prompts (`forget_term`).
    """

    prompts: float = 1.0
    text: float = 1.2
    level: float = 0.0
    answers: float = 0.0
    shift: float = 0.0

    def of(self, diverged: "Divergences") -> Tensor:
        """Return the weighted sum of the retain terms."""
        total = self.prompts * diverged.prompts + self.text * diverged.texts
        # a term of no weight has no gradient to compute, and nothing to be undefined
        total = total + self.answers * diverged.answers if self.answers else total
        return total + self.shift * diverged.shift if self.shift else total


@dataclass(frozen=True, slots=True)
class Divergences:
    """Mean KL(base ‖ model) in nats, scalars: after prompts, of the answers alone after them, and within texts.

    Of the answers alone: both distributions restricted to the prompt's pool, among which it is asked. Where a model
    puts little on any of them, the first is small however they are ordered. `shift` is no divergence: how far the
    right answers' log-odds have moved together (`mansu.solve.standing.common_shift`).
    """

    prompts: Tensor
    answers: Tensor
    texts: Tensor
    shift: Tensor


@dataclass(frozen=True, slots=True)
class Sizes:
    """Examples per step."""

    forget: int = 64
    retain: int = 48
    text: int = 12

    def halved(self) -> "Sizes":
        """Return what is retained in two halves: a batch in full precision and another after NF4 take as long."""
        return replace(self, retain=self.retain // 2, text=self.text // 2)


@dataclass(frozen=True, slots=True)
class Objective:
    """Draws a fresh batch at each call, from one seeded stream; `contexts` stand before some of the forget prompts."""

    forget: Prompts
    retained: Retained
    weights: Weights
    sizes: Sizes
    rng: random.Random
    contexts: Contexts | None = None

    def forget_loss(self, model: Any) -> Tensor:
        """Return the forget term on a fresh batch of the forget set."""
        prompts = self.forget.subset(draw(self.rng, len(self.forget), self.sizes.forget))
        if self.contexts is not None:
            prompts = self.contexts.before(prompts, self.rng)
        return forget_term(*asked(model, prompts), level=self.weights.level)

    @torch.no_grad()
    def leading(self, model: Any) -> "Objective":
        """Return the objective on the half of the forget prompts whose answers lead most; both draw from one stream."""
        parts = [self.forget.subset(part) for part in parts_of(len(self.forget))]
        lead = torch.cat([leads(*asked(model, part)).cpu() for part in parts])
        most = lead.argsort(descending=True, stable=True)[: (len(lead) + 1) // 2]
        return replace(self, forget=self.forget.subset(most.sort().values.tolist()))

    def retain_loss(self, model: Any, retained: Retained | None = None) -> Tensor:
        """Return the weighted retain terms on fresh batches of the retain set and of text.

        `retained` holds other predictions on them than `self.retained` does: those of the base after NF4.
        """
        retained = retained or self.retained
        prompts = draw(self.rng, len(retained.prompts), self.sizes.retain)
        texts = draw(self.rng, retained.texts.ids.shape[0], self.sizes.text)
        return self.weights.of(retain_divergences(model, retained, prompts, texts))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The objective on fixed batches: the same at each call, so that two edits can be compared.

    `prompts` and `texts` are indices into what is retained.
    """

    forget: Prompts
    retained: Retained
    weights: Weights
    prompts: tuple[int, ...]
    texts: tuple[int, ...]

    def forgetting(self, model: Any) -> Tensor:
        """Return the forget term."""
        return forget_term(*asked(model, self.forget), level=self.weights.level)

    def retaining(self, model: Any) -> Tensor:
        """Return the weighted sum of the retain terms."""
        return self.weights.of(retain_divergences(model, self.retained, self.prompts, self.texts))

    @torch.no_grad()
    def values(self, model: Any) -> tuple[float, float]:
        """Return both as numbers."""
        return float(self.forgetting(model)), float(self.retaining(model))


def retain_divergences(model: Any, retained: Retained, prompts: Sequence[int], texts: Sequence[int]) -> Divergences:
    """Return how far a model is from the base after the chosen prompts, and at every position of the chosen texts."""
    before = retained.prompt_reference[list(prompts)].float()
    after = last_logits(model, retained.prompts, prompts).log_softmax(-1)
    pools, right = [retained.prompts.pools[i] for i in prompts], retained.prompts.answers_of(prompts, after.device)
    answers = [
        divergence(was[list(pool)].log_softmax(-1), now[list(pool)].log_softmax(-1))
        for was, now, pool in zip(before, after, pools, strict=True)
    ]
    within = model(input_ids=retained.texts.ids[list(texts)]).logits.float().log_softmax(-1)
    return Divergences(
        divergence(before, after).mean(),
        torch.stack(answers).mean(),
        divergence(retained.text_reference[list(texts)].float(), within).mean(),
        common_shift(log_odds(after, right, pools) - log_odds(before, right, pools), pools),
    )


Asked = tuple[Tensor, Tensor, Sequence[tuple[int, ...]]]
"""Logits `[B, vocabulary]`, and each prompt's answer `[B]` and pool as token ids."""


def asked(model: Any, prompts: Prompts) -> Asked:
    """Ask a model all of these prompts."""
    every = range(len(prompts))
    logits = last_logits(model, prompts, every)
    return logits, prompts.answers_of(every, logits.device), prompts.pools


def forget_term(logits: Tensor, answers: Tensor, pools: Sequence[tuple[int, ...]], *, level: float = 0.0) -> Tensor:
    """−log(1 − p) of the answer, plus how far its logit is from `level` above its alternatives' mean (Huber).

    Both are bounded below by zero: no runaway. At level 0 there is no reward for an inverted answer; a little below it,
    prompts that are like the trained ones and not among them end nearer 0. `logits` `[B, vocabulary]`.
    """
    p = logits.log_softmax(-1).gather(1, answers[:, None])[:, 0].exp()
    unlikely = -torch.log1p(-p * _NEARLY_ONE)
    lead = leads(logits, answers, pools)
    distance = functional.smooth_l1_loss(lead, torch.full_like(lead, level), reduction="none")
    return (unlikely + 0.5 * distance).mean()


def divergence(reference: Tensor, log_p: Tensor) -> Tensor:
    """KL(reference ‖ model) in nats at each position; both are log-probabilities over the last dimension."""
    return (reference.exp() * (reference - log_p)).sum(-1)
