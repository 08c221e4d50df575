"""Probes that a model cannot be asked, and answers that are no numbers: refused by their check, not by a crash."""

import json
from dataclasses import replace
from pathlib import Path

import certificates as c
import pytest
import torch

from verify.behaviour.axes import Answers
from verify.behaviour.loading import Language
from verify.behaviour.probes import Choice, PairProbe, Probes, Text, dump, parse
from verify.check import check
from verify.checks.usable import MOST_TOKENS, require_choices, require_fit, require_numbers
from verify.errors import ArtefactError


def test_pools_must_leave_a_choice() -> None:
    tokenizer = c.tokenizer()
    good = c.probes()
    require_choices(tokenizer, good)
    for pools in ({**good.pools, "colours": ("colour1",)}, {**good.pools, "colours": ("colour1 in", "colour1 of")}):
        choices = tuple(
            x.model_copy(update={"answer": pools["colours"][0]}) for x in good.choices if x.pool == "colours"
        )
        pairs: tuple[PairProbe, ...] = ()
        with pytest.raises(ArtefactError) as caught:
            require_choices(tokenizer, Probes(choices, good.texts, pairs, pools))
        assert caught.value.id == "MV301"


def test_a_prompt_of_special_tokens_alone_is_refused() -> None:
    """It asks nothing, and without these there would be nothing to ask (MV310)."""
    tokenizer = c.tokenizer()
    good = c.probes()
    asked = good.choices[0].model_copy(update={"prompt": " "})

    def beginning(text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return {"input_ids": [1, *ids] if add_special_tokens else ids}

    require_choices(beginning, Probes(good.choices, good.texts, (), good.pools))
    with pytest.raises(ArtefactError, match="tokenizes to nothing"):
        require_choices(beginning, Probes((*good.choices, asked), good.texts, (), good.pools))


def test_a_text_of_one_token_is_refused() -> None:
    good = c.probes()
    with pytest.raises(ArtefactError) as caught:
        require_choices(c.tokenizer(), Probes(good.choices, (Text(row="prose", text="the"),), (), good.pools))
    assert caught.value.id == "MV301"


def test_a_row_is_of_questions_or_of_prose() -> None:
    """A claim names axis and row: one could be left out behind the other's."""
    good = c.probes()
    assert parse(dump(good)) == good
    with pytest.raises(ArtefactError) as caught:
        parse(dump(replace(good, texts=(*good.texts, Text(row="colours", text="a flag of people")))))
    assert caught.value.id == "MV301"


def language() -> Language:
    """Return a model of 64 positions whose tokenizer knows a word that it does not."""
    model, tokenizer = c.random_model(), c.tokenizer()
    tokenizer.add_tokens(["unheard"])
    return Language(model, tokenizer)


def refusal(probes: Probes) -> ArtefactError:
    with pytest.raises(ArtefactError) as caught:
        require_fit(language(), probes)
    return caught.value


def test_probes_that_fit() -> None:
    require_fit(language(), c.probes())


def spoilt(file: str, words: str) -> Probes:
    good = c.probes()
    if file == "choices.jsonl":
        return replace(good, choices=(*good.choices, good.choices[0].model_copy(update={"prompt": words})))
    if file == "text.jsonl":
        return replace(good, texts=(*good.texts, Text(row="prose", text=words)))
    if file == "pairs.jsonl":
        return replace(good, pairs=(*good.pairs, good.pairs[0].model_copy(update={"corrupt": words})))
    return replace(good, pools={**good.pools, "capitals": (*good.pools["capitals"], words)})


@pytest.mark.parametrize("file", ["choices.jsonl", "text.jsonl", "pairs.jsonl", "pools.json"])
def test_a_word_that_the_model_does_not_know_is_refused(file: str) -> None:
    error = refusal(spoilt(file, "unheard of"))
    assert error.id == "MV301"
    assert file in error.message


@pytest.mark.parametrize("file", ["choices.jsonl", "text.jsonl", "pairs.jsonl"])
@pytest.mark.parametrize("count", [65, 100 * MOST_TOKENS])
def test_what_is_longer_than_the_context_is_refused(file: str, count: int) -> None:
    error = refusal(spoilt(file, "a " * count))
    assert (error.id, file in error.message) == ("MV301", True)
    assert error.expected.startswith("at most")


def answers(**changed: float) -> Answers:
    found = Answers(
        correct=torch.zeros(2, dtype=torch.bool),
        tied=torch.zeros(2, dtype=torch.bool),
        mass=torch.ones(2),
        corrected=torch.zeros(2, dtype=torch.bool),
        turned=torch.zeros(2, dtype=torch.bool),
        nll=torch.full((1,), 30.0, dtype=torch.float64),
        tokens=torch.tensor([10]),
    )
    for column, value in changed.items():
        getattr(found, column)[-1] = value
    return found


def test_answers_must_be_numbers() -> None:
    asked = {"row": "r", "answer": "x", "pool": "p"}
    choices = tuple(Choice(axis=axis, prompt=axis, **asked) for axis in ("forgetting", "retention"))
    probes = Probes(choices, (Text(row="prose", text="t"),), (), {"p": ("x", "y")})
    require_numbers(answers(), probes)
    require_numbers(answers(nll=5_999.0), probes)
    for column, value, check_id in (
        ("mass", float("nan"), "MV305"),
        ("nll", float("nan"), "MV306"),
        ("nll", float("inf"), "MV306"),
        ("nll", 6_001.0, "MV306"),
    ):
        with pytest.raises(ArtefactError) as caught:
            require_numbers(answers(**{column: value}), probes)
        assert caught.value.id == check_id


def refused(made: c.Certificate) -> set[str]:
    result = check(made.model, made.manifest, keys=[made.keys.public])
    return {entry.id for entry in result.checks if entry.status == "fail"}


def test_a_tokenizer_that_knows_more_words_than_the_model(tiny_base: Path, tiny_keys: c.Keys, tmp_path: Path) -> None:
    """Both files are signed, as is a question with such a word: it used to end in an index error."""
    made = c.make(tiny_base, tmp_path / "out", tiny_keys, c.valid_edits(tiny_base))
    path = made.out / "model" / "tokenizer.json"
    value = json.loads(path.read_text())
    value["model"]["vocab"]["unheard"] = 5_000
    path.write_text(json.dumps(value))
    question = {"axis": "retention", "row": "colours", "prompt": "unheard of", "answer": "colour1", "pool": "colours"}
    with (made.out / "probes" / "choices.jsonl").open("a") as lines:
        lines.write(json.dumps(question) + "\n")
    weights = c.digests_of(made.base)["model.safetensors"]
    c.sign(made, {**c.digests_of(made.out / "model"), "model.safetensors": weights})
    assert refused(made) == {"MV301"}


def test_a_model_whose_likelihood_has_no_exponential(tiny_keys: c.Keys, tmp_path: Path) -> None:
    model = c.random_model()
    with torch.no_grad():
        model.model.norm.weight.mul_(1e6)
    base = c.save_base(model, tmp_path / "base")
    assert refused(c.make(base, tmp_path / "out", tiny_keys, c.valid_edits(base))) == {"MV306"}
