from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mansu.bench.authors import (
    Authors,
    authors_suite,
    build_authors,
    examples,
    fine_tune,
    perturbed_rows,
    real_authors,
    world_facts,
    write_authors,
)
from mansu.bench.authors.people import ATTRIBUTES, load, values
from mansu.bench.completions import complete
from mansu.bench.loaders import Perturbed, load_tofu_perturbed
from mansu.bench.tofu import truth_ratios
from mansu.request import read_request
from verify.errors import UsageError


def tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    splitter = Whitespace()
    words = [word for text in texts for word, _ in splitter.pre_tokenize_str(text)]
    vocabulary = ["[UNK]", "[END]", *dict.fromkeys(words)]
    plain = Tokenizer(WordLevel({word: number for number, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    plain.pre_tokenizer = splitter
    return PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="[UNK]", eos_token="[END]")


def fresh(vocabulary: int) -> nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


def answers_of(rows: tuple[Perturbed, ...]) -> list[str]:
    return [text for row in rows for text in (row.question, row.answer, row.right, *row.perturbed_answer)]


def test_the_same_seed_gives_the_same_authors_and_another_seed_others() -> None:
    assert build_authors(seed=3) == build_authors(seed=3)
    assert build_authors(seed=3) != build_authors(seed=4)


def test_authors_are_apart_by_name_and_by_book() -> None:
    authors = build_authors()
    assert (len(authors.forget), len(authors.retain)) == (10, 90)
    for part in (0, 1):
        assert max(Counter(author.name.split()[part] for author in authors.every).values()) == 1
    assert max(Counter(author.facts["book"] for author in authors.every).values()) == 1
    assert all(tuple(author.facts) == ATTRIBUTES for author in authors.every)
    assert all(author.facts[kind] in values(kind) for author in authors.every for kind in ATTRIBUTES)


@pytest.mark.parametrize(("count", "forget"), [(10, 0), (10, 10), (1000, 10)])
def test_numbers_that_make_no_sense_are_refused(count: int, forget: int) -> None:
    with pytest.raises(UsageError) as caught:
        build_authors(count=count, forget=forget)
    assert caught.value.id == "ME325"


def test_every_attribute_has_ten_wordings_that_name_the_author() -> None:
    for wordings in load().attributes.values():
        assert len(set(wordings.wordings)) == 10
        assert all(text.count("{name}") == 1 and "{value}" not in text for text in wordings.wordings)
        for text in (wordings.answer, wordings.paraphrase):
            assert (text.count("{name}"), text.count("{value}")) == (1, 1)
        assert wordings.answer != wordings.paraphrase


def test_wrong_answers_are_wrong_and_worded_like_the_paraphrase() -> None:
    authors = build_authors(count=8, forget=2)
    rows = perturbed_rows(authors.every)
    assert len(rows) == 8 * len(ATTRIBUTES)
    facts = [(author.name, *fact) for author in authors.every for fact in author.facts.items()]
    for row, (name, kind, value) in zip(rows, facts, strict=True):
        assert row.paraphrased_answer is not None
        assert row.answer != row.paraphrased_answer
        assert all(name in text and value in text for text in (row.answer, row.paraphrased_answer))
        assert len(set(row.perturbed_answer)) == 5
        for wrong in row.perturbed_answer:
            assert wrong != row.paraphrased_answer
            assert wrong in {row.paraphrased_answer.replace(value, other) for other in values(kind)}
    assert perturbed_rows(authors.every) == rows


def test_fine_tuning_never_sees_the_paraphrases_and_the_wrong_answers() -> None:
    authors = build_authors(count=8, forget=2)
    trained = {f"{prompt} {text}" for prompt, text in examples(authors.every)}
    assert len(trained) == 8 * len(ATTRIBUTES) * 12
    for row in perturbed_rows(authors.every):
        for answer in (row.right, *row.perturbed_answer):
            assert not any(text.endswith(answer) for text in trained), answer


def test_the_reference_never_sees_who_is_forgotten() -> None:
    authors = build_authors()
    reference = " ".join(f"{prompt} {text}" for prompt, text in examples(authors.retain))
    for author in authors.forget:
        assert not any(part in reference.split() for part in author.name.split())


def test_the_engine_reads_the_sets_and_no_probe_is_trained_on(tmp_path: Path) -> None:
    authors = build_authors()
    request = read_request(*write_authors(tmp_path, authors), seed=0)
    rows = Counter(fact.group for fact in request.forget.held_out_wordings)
    rows += Counter(f"{fact.group}, whole" for fact in request.forget.held_out_facts)
    rows += Counter(fact.group for fact in request.retain.held_out_facts)
    assert set(rows) == {"authors", "authors, whole", "kept authors", "capitals", "elements", "languages"}
    assert min(rows.values()) >= 100, rows
    seen = {fact.prompt for fact in (*request.forget.train, *request.forget.validation, *request.retain.train)}
    for fact in (*request.forget.held_out_wordings, *request.forget.held_out_facts, *request.retain.held_out_facts):
        assert fact.prompt not in seen
    forgotten = {author.name for author in authors.forget}
    for line in authors_suite(authors).retain:
        assert not any(name in str(line.get("prompt", line.get("text"))) for name in forgotten)


def test_tofu_s_readers_read_the_splits(tmp_path: Path) -> None:
    authors = build_authors(count=12, forget=3)
    write_authors(tmp_path, authors)
    assert load_tofu_perturbed("forget_perturbed", tmp_path) == perturbed_rows(authors.forget)
    assert load_tofu_perturbed("retain_perturbed", tmp_path) == perturbed_rows(authors.retain)
    assert load_tofu_perturbed("real_authors_perturbed", tmp_path) == real_authors()
    assert load_tofu_perturbed("world_facts_perturbed", tmp_path) == world_facts()


@pytest.mark.parametrize("rows", [real_authors(), world_facts()], ids=["real authors", "world facts"])
def test_real_knowledge_is_asked_for_once_with_three_wrong_answers(rows: tuple[Perturbed, ...]) -> None:
    assert len(rows) >= 50
    assert len({row.question for row in rows}) == len(rows)
    for row in rows:
        assert len({row.answer, *row.perturbed_answer}) == 4
        assert row.right == row.answer


@pytest.fixture(scope="module")
def tuned() -> tuple[PreTrainedTokenizerFast, Authors, nn.Module, nn.Module]:
    authors = build_authors(count=6, forget=3, seed=1)
    texts = answers_of(perturbed_rows(authors.every)) + [f"{a} {b}" for a, b in examples(authors.every)]
    encode = tokenizer([*texts, "Question: Answer:"])
    models = []
    # the same number of steps for both
    for people, epochs in ((authors.every, 7), (authors.retain, 14)):
        model = fresh(len(encode))
        fine_tune(model, complete(encode, examples(people)), epochs=epochs, rate=4e-3, seed=0, size=32)
        models.append(model)
    return encode, authors, models[0], models[1]


def test_what_is_fine_tuned_on_is_known_and_what_is_not_is_not(
    tuned: tuple[PreTrainedTokenizerFast, Authors, nn.Module, nn.Module],
) -> None:
    """A truth ratio far below 1: the paraphrased right answer, never trained on, is far likelier than wrong ones."""
    encode, authors, full, reference = tuned
    forget, retain = perturbed_rows(authors.forget), perturbed_rows(authors.retain)
    assert np.median(truth_ratios(full, encode, forget)) < 0.5
    assert np.median(truth_ratios(reference, encode, retain)) < 0.5
    assert np.median(truth_ratios(reference, encode, forget)) > 0.7


def test_fine_tuning_reaches_every_parameter_repeats_and_leaves_a_frozen_model() -> None:
    authors = build_authors(count=2, forget=1)
    encode = tokenizer([f"{a} {b}" for a, b in examples(authors.every)])
    data = complete(encode, examples(authors.every))
    told: list[float] = []
    models = [fresh(len(encode)), fresh(len(encode)).to(torch.bfloat16)]
    before = {name: value.clone() for name, value in models[0].named_parameters()}
    losses = [fine_tune(model, data, epochs=2, rate=1e-3, seed=5, progress=told.append) for model in models]
    assert told[1] == losses[0] < told[0]
    assert told[3] == losses[1] < told[2]
    for name, value in models[0].named_parameters():
        assert not torch.equal(value, before[name]), name
        assert not value.requires_grad
    assert {value.dtype for value in models[1].parameters()} == {torch.float32}
    again = fresh(len(encode))
    assert fine_tune(again, data, epochs=2, rate=1e-3, seed=5) == losses[0]
    assert not models[0].training
