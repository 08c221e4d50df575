"""What cannot be measured: probes that do not fit the model, answers that are no numbers.

Without this a tokenizer that knows more words than the model, or a text longer than its context, ends the run with an
index error, and a model whose logits overflow with a likelihood that has no exponential.
"""

from collections.abc import Callable, Iterator, Mapping

from verify.behaviour.axes import Answers
from verify.behaviour.loading import Language
from verify.behaviour.probes import AnswerTokens, Probes
from verify.errors import ArtefactError

MOST_TOKENS = 4096
"""Tokens of one prompt or text: its logits over a whole vocabulary are held in memory, sixteen at a time."""
_MOST_CHARACTERS = 64 * MOST_TOKENS
_LARGEST_NLL = 600.0
"""Nats a token: e to this power is still a number, and so is a ratio of two."""
_NO_NUMBER = "reject the certificate: a model that gives no finite numbers was not measured"

Encode = Callable[..., Mapping[str, list[int]]]


def require_choices(tokenizer: object, probes: Probes) -> None:
    """Raise ArtefactError MV301 for a pool that leaves no choice, or a text of less than two tokens."""
    first = AnswerTokens(tokenizer)
    for pool in sorted({choice.pool for choice in probes.choices} | {pair.pool for pair in probes.pairs}):
        if len(first.pool(probes.pools[pool])) < 2:
            found = f"one first token in pool {pool!a}"
            raise ArtefactError(
                "MV301", "probes/pools.json: a pool leaves no choice", expected="two answers or more", found=found
            )
    encode: Encode = tokenizer  # type: ignore[assignment]
    for text in probes.texts:
        if len(encode(text.text)["input_ids"]) < 2:
            raise ArtefactError(
                "MV301", "probes/text.jsonl: a text is too short", expected="two tokens or more", found=ascii(text.text)
            )
    for choice in probes.choices:
        if not encode(choice.prompt, add_special_tokens=False)["input_ids"]:  # what these add asks nothing
            raise ArtefactError(
                "MV301", "probes/choices.jsonl: a prompt tokenizes to nothing", found=ascii(choice.prompt)
            )


def require_fit(language: Language, probes: Probes) -> None:
    """Raise ArtefactError MV301 for a prompt, text or answer that is too long or has tokens unknown to the model."""
    config = language.model.config
    vocabulary = int(language.model.get_input_embeddings().weight.shape[0])
    context = getattr(config, "max_position_embeddings", None)
    most = min(MOST_TOKENS, context) if isinstance(context, int) else MOST_TOKENS
    for file, text in _texts(probes):
        if len(text) > _MOST_CHARACTERS:  # before it is tokenized, which takes many times its size
            raise _unfit(file, text, f"at most {_MOST_CHARACTERS:,} characters", f"{len(text):,}")
        tokens = language.tokenizer(text)["input_ids"]
        if len(tokens) > most:
            raise _unfit(file, text, f"at most {most:,} tokens", f"{len(tokens):,}")
        if tokens and max(tokens) >= vocabulary:
            raise _unfit(file, text, f"tokens below {vocabulary:,}, which the model knows", f"token {max(tokens):,}")
    first = AnswerTokens(language.tokenizer)
    for pool, answers in probes.pools.items():
        for answer in answers:
            if first(answer) >= vocabulary:
                expected = f"tokens below {vocabulary:,}, which the model knows"
                raise _unfit("pools.json", f"{pool}: {answer}", expected, f"token {first(answer):,}")


def require_numbers(answers: Answers, probes: Probes) -> None:
    """Raise ArtefactError MV304, MV305 or MV306 where a model's answers or likelihoods are not finite numbers."""
    for choice, mass in zip(probes.choices, answers.mass.isfinite().tolist(), strict=True):
        if not mass:
            check_id = "MV304" if choice.axis == "forgetting" else "MV305"
            found = f"none for {choice.prompt[:80]!a}"
            raise ArtefactError(
                check_id, "a model gives no probabilities", expected="finite ones", found=found, remedy=_NO_NUMBER
            )
    per_token = answers.nll / answers.tokens
    for text, value in zip(probes.texts, per_token.tolist(), strict=True):
        if not abs(value) <= _LARGEST_NLL:  # not a number is refused too
            expected = f"at most {_LARGEST_NLL:g} nats a token"
            found = f"{value:g} for {text.text[:80]!a}"
            raise ArtefactError(
                "MV306", "a likelihood has no perplexity", expected=expected, found=found, remedy=_NO_NUMBER
            )


def _texts(probes: Probes) -> Iterator[tuple[str, str]]:
    yield from (("choices.jsonl", choice.prompt) for choice in probes.choices)
    yield from (("text.jsonl", text.text) for text in probes.texts)
    yield from (("pairs.jsonl", text) for pair in probes.pairs for text in (pair.clean, pair.corrupt))


def _unfit(file: str, text: str, expected: str, found: str) -> ArtefactError:
    return ArtefactError(
        "MV301",
        f"probes/{file}: {text[:80]!a} does not fit the model",
        expected=expected,
        found=found,
        remedy="the probes are not usable as evidence with this model and its tokenizer",
    )
