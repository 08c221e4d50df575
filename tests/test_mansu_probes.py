"""Corrupt partners: given, another subject of the set, or another question before the same choices."""

from pathlib import Path

import pytest
import requests_tiny as r
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from mansu.data.probes import contrast_pairs, training_pairs
from mansu.request import Fact, pools, read_request


def facts_of(tmp_path: Path, lines: list[r.Line]) -> tuple[Fact, ...]:
    """All lines as facts that are trained on: a retain set holds half of them out, so both halves are taken."""
    forget = r.write(tmp_path / "f.jsonl", [{"prompt": "unrelated", "answer": "line"}])
    request = read_request(forget, r.write(tmp_path / "r.jsonl", lines), seed=0)
    return request.retain.every()


def tokenizer_of(facts: tuple[Fact, ...]) -> PreTrainedTokenizerFast:
    texts = ["a [UNK]", *(f"{fact.prompt} {fact.answer} {fact.corrupt or ''}" for fact in facts)]
    split = Whitespace()
    words = dict.fromkeys(word for text in texts for word, _ in split.pre_tokenize_str(text))
    plain = Tokenizer(WordLevel({word: index for index, word in enumerate(["[UNK]", *words])}, unk_token="[UNK]"))
    plain.pre_tokenizer = split
    return PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="[UNK]")


QUESTIONS: list[r.Line] = [
    {"question": "Which is noble ?", "choices": ["iron", "neon"], "answer": 1, "fact": "noble"},
    {"question": "Which one is noble ?", "choices": ["iron", "neon"], "answer": 1, "fact": "noble"},
    {"question": "Which is magnetic ?", "choices": ["iron", "zinc", "tin"], "answer": 0, "fact": "magnetic"},
    {"question": "Which is inert ?", "choices": ["neon", "lead"], "answer": 0, "fact": "inert"},
    {"question": "Which of these was known in antiquity ?", "choices": ["lead", "argon"], "answer": 0, "fact": "old"},
]


def test_another_question_is_asked_and_the_choices_stay(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, QUESTIONS)
    tokenizer = tokenizer_of(facts)
    found = {fact.stem: corrupt for fact, corrupt, _ in contrast_pairs(facts, pools(facts), tokenizer, count=9, seed=0)}
    # not "inert", whose answer is neon too, nor the longer wording of the question itself
    assert found["Which is noble ?"] == "Which is magnetic ?\nA. iron\nB. neon\nAnswer:"
    assert found["Which is magnetic ?"] in {
        f"Which is {word} ?\nA. iron\nB. zinc\nC. tin\nAnswer:" for word in ("noble", "inert")
    }
    assert found["Which is inert ?"] == "Which is magnetic ?\nA. neon\nB. lead\nAnswer:"
    # the only ones of their length
    assert len(found) == 3


def test_the_pairs_have_equal_lengths_and_letters_to_choose_among(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, QUESTIONS)
    tokenizer = tokenizer_of(facts)
    pairs = training_pairs(facts, pools(facts), tokenizer, count=9, seed=1)
    assert len(pairs) == 3
    for pair in pairs:
        assert len(pair.clean) == len(pair.corrupt)
        changed = [i for i, (a, b) in enumerate(zip(pair.clean, pair.corrupt, strict=True)) if a != b]
        assert changed == [2]
        letters = {tokenizer.decode([token]) for token in (pair.answer, *pair.alternatives)}
        assert letters in ({"A", "B"}, {"A", "B", "C"})


def test_a_given_question_is_taken_if_its_length_fits(tmp_path: Path) -> None:
    given = [QUESTIONS[0] | {"corrupt": "Which is liquid ?"}, QUESTIONS[4] | {"corrupt": "Which is old ?"}]
    facts = facts_of(tmp_path, given)
    ((fact, corrupt, pool),) = contrast_pairs(facts, pools(facts), tokenizer_of(facts), count=9, seed=0)
    assert (fact.stem, corrupt) == ("Which is noble ?", "Which is liquid ?\nA. iron\nB. neon\nAnswer:")
    assert pool == ("A", "B")


@pytest.mark.parametrize("seed", range(3))
def test_a_cloze_gets_its_own_partner_or_another_subject(tmp_path: Path, seed: int) -> None:
    lines: list[r.Line] = [
        {"prompt": "The capital of France is", "answer": "Paris", "group": "capitals"},
        {"prompt": "The capital of Spain is", "answer": "Madrid", "group": "capitals"},
        {"prompt": "The capital of Italy is", "answer": "Rome", "group": "capitals", "corrupt": "The end of Italy is"},
    ]
    facts = facts_of(tmp_path, lines)
    pairs = contrast_pairs(facts, pools(facts), tokenizer_of(facts), count=9, seed=seed)
    found = {fact.answer: corrupt for fact, corrupt, _ in pairs}
    assert found["Rome"] == "The end of Italy is"
    assert found["Paris"] in {"The capital of Spain is", "The capital of Italy is"}
    assert found["Madrid"] in {"The capital of France is", "The capital of Italy is"}
