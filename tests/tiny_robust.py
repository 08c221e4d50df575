"""A tiny model that knows capitals in two wordings, what it was to forget, and a model that forgot them."""

from collections.abc import Iterable
from functools import cache

import certificates as c
import tiny_baselines as tb
from torch.nn import functional

from mansu.baselines.training import descend
from mansu.baselines.weights import dense
from mansu.data.examples import last_logits
from mansu.request import Fact, Request, Split
from verify.behaviour.loading import Language

TRAINED = 30
EMPTY = Split((), (), (), ())


def facts(numbers: Iterable[int], wordings: tuple[int, ...]) -> tuple[Fact, ...]:
    """Return capitals in the plain wording (0) and in the one that is held out (1)."""
    frames = (lambda name: c.prompt("capital", name), c.held_out_wording)
    return tuple(
        Fact(frames[w](c.COUNTRIES[i]), c.capital(i), "capitals", f"capital:{c.COUNTRIES[i]}", w, (), None)
        for i in numbers
        for w in wordings
    )


def request(*, prose: bool = True) -> Request:
    """Return what is forgotten: 30 capitals, trained on in one wording and measured in another; 10 are held out."""
    forget = Split(
        train=facts(range(TRAINED), (0,)),
        validation=(),
        held_out_wordings=facts(range(TRAINED), (1,)),
        held_out_facts=facts(range(TRAINED, 40), (0, 1)),
    )
    return Request(forget, EMPTY, (), tuple(c.prose()) if prose else (), c.ZERO, c.ZERO, 70, 0)


def knowing() -> Language:
    """Return a fresh model that knows everything."""
    return Language(tb.known().fresh(), c.tokenizer())


@cache
def forgetful() -> Language:
    """Return a model that was trained away from the capitals in the plain wording; it is not to be changed."""
    language = knowing()
    prompts = tb.known().data.forget

    def loss(batch: list[int]) -> object:
        return -functional.cross_entropy(last_logits(language.model, prompts, batch), prompts.answers_of(batch))

    with dense(language.model) as parameters:
        descend(parameters, loss, [list(range(TRAINED))] * 12, 1e-3)
    return language
