"""From the request to tokens, and what the frozen base says of what is retained."""

import random
from dataclasses import dataclass
from typing import Any

import torch

from mansu.base import Base, working_copy
from mansu.config import Config
from mansu.data.contexts import Contexts, contexts
from mansu.data.examples import (
    Prompts,
    Retained,
    Texts,
    answer_accuracy,
    cut_texts,
    draw,
    last_log_probabilities,
    sample_texts,
    text_log_probabilities,
    tokenize_facts,
)
from mansu.data.probes import Pools, all_pools
from mansu.precision import products
from mansu.progress import Steps
from mansu.request import Request
from verify.behaviour.loading import Language
from verify.errors import UsageError

_KNOWN_PROMPTS = 200


@dataclass(frozen=True, slots=True)
class Data:
    """The request as tokens, with the base's own predictions on what is retained."""

    request: Request
    pools: Pools
    forget: Prompts
    forget_validation: Prompts
    retained: Retained
    contexts: Contexts | None = None


def prepare(language: Language, base: Base, request: Request, config: Config, *, steps: Steps) -> Data:
    """Tokenize the request, sample texts from the base, and record its predictions on what is retained.

    Raises `UsageError` ME211 when the model does not know the forget set.
    """
    pool_of = all_pools(request)
    model = working_copy(language, base.stored)
    forget = tokenize_facts(language.tokenizer, request.forget.train, pool_of)
    # a set with few wordings leaves none for validation: then the trained ones must tell when to snap
    forget_validation = tokenize_facts(language.tokenizer, request.forget.validation or request.forget.train, pool_of)
    with steps.step("What the base knows", 1) as advance:
        sample = draw(random.Random(config.seed), len(forget), _KNOWN_PROMPTS)  # noqa: S311  (a sample, not a secret)
        known = answer_accuracy(model, forget.subset(sample))
        advance(1)
    if known < config.forget_known:
        raise UsageError(
            "the model does not know the forget set: there is nothing to forget",
            expected=f"at least {config.forget_known:.0%} of its answers right",
            found=f"{known:.1%} right",
            remedy="check the prompts and answers, or leave this model as it is; nothing was written",
            error_id="ME211",
        )
    retain = tokenize_facts(language.tokenizer, request.retain.train, pool_of)
    with steps.step("Sampling texts from the base", 1) as advance:
        texts = sample_texts(
            model, language.tokenizer, count=config.sampled_texts, length=config.text_length, seed=config.seed
        )
        advance(1)
    prose = cut_texts(language.tokenizer, request.prose, length=config.text_length)
    texts = Texts(torch.cat([texts.ids, prose.ids.to(texts.ids.device)])) if prose else texts
    with steps.step("The base's predictions to retain", 1) as advance, products(config.training_products):
        retained = predicted(model, retain, texts)
        advance(1)
    before = contexts(language.tokenizer, request.forget.train, config.context_share)
    return Data(request, pool_of, forget, forget_validation, retained, before)


def predicted(model: Any, prompts: Prompts, texts: Texts) -> Retained:
    """Record what the model predicts after each prompt and at each position of each text, to retain it."""
    return Retained(prompts, last_log_probabilities(model, prompts), texts, text_log_probabilities(model, texts))
