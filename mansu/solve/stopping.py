"""When forgetting is enough to snap: measured on wordings that neither train the edit nor certify it.

Wordings set aside may be close to trained ones, and their accuracy gone before the answers are: where training pulls
answers below their alternatives (`answer_level`), it is lengthened until they are there. What the edit costs in
retention is measured on a sample of the retain data that it is trained on.
"""

import random
from typing import Any

import torch

from mansu.config import Config
from mansu.data.examples import Prompts, answer_accuracy, draw
from mansu.data.prepare import Data
from mansu.solve.deployed import after_nf4, weights_in
from mansu.solve.frontier import Stopping
from mansu.solve.objective import asked, retain_divergences
from mansu.solve.standing import leads
from verify.behaviour.modules import nf4_linears

STOPPING_PROMPTS = 200
STOPPING_TEXTS = 12


def stopping(data: Data, config: Config) -> Stopping:
    """Measure forgetting on wordings set aside: the trained ones go first, and the held-out ones must not count."""
    rng = random.Random(config.seed)  # noqa: S311  (a sample, not a secret)
    forget = data.forget_validation.subset(draw(rng, len(data.forget_validation), STOPPING_PROMPTS))
    prompts = draw(rng, len(data.retained.prompts), STOPPING_PROMPTS // 2)
    texts = draw(rng, data.retained.texts.ids.shape[0], STOPPING_TEXTS)

    @torch.no_grad()
    def retained(model: Any) -> float:
        diverged = retain_divergences(model, data.retained, prompts, texts)
        return float(diverged.prompts + diverged.texts)

    @torch.no_grad()
    def lead(model: Any) -> float:
        return float(leads(*asked(model, forget)).mean())

    return Stopping(
        accuracy=lambda model: answer_accuracy(model, forget),
        accuracy_nf4=lambda model: accuracy_after_nf4(model, forget),
        retained=retained,
        limit=config.forget_target / 2,
        lead=lead if config.answer_level < 0 else None,  # at 0 they end above their alternatives, and never below
    )


def accuracy_after_nf4(model: Any, prompts: Prompts) -> float:
    """Return the accuracy under NF4; the weights are put back as they were."""
    layers = nf4_linears(model)
    with weights_in(layers, after_nf4(layers)):
        return answer_accuracy(model, prompts)
