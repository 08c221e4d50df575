import json
import re
from collections import Counter
from functools import partial
from pathlib import Path

import certificates as c
import pytest
import tiny_robust as t
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mansu.baselines.training import descend
from mansu.bench.completions import greedy
from mansu.bench.robust import differences, robust_answers, robust_rows, spoken_languages
from mansu.bench.robust.asking import ASKING, asking
from mansu.bench.robust.choices import questions
from mansu.bench.robust.cloze import Source, source, subject
from mansu.bench.robust.few_shot import EXAMPLES, few_shot
from mansu.bench.robust.languages import languages
from mansu.bench.robust.open_answers import says
from mansu.bench.robust.paraphrases import paraphrases
from mansu.bench.robust.results import RobustRow
from mansu.bench.robust.translations import LANGUAGES, load
from mansu.bench.suites import SUITES, elements, opposites, write_suite
from mansu.bench.suites import languages as spoken
from mansu.data.examples import Prompts, last_logits, tokenize
from mansu.demo import sets
from mansu.request import Request, read_request
from verify.behaviour.loading import Language
from verify.errors import UsageError

OWN_WORDINGS = {
    "capitals": sets.CAPITALS,
    "elements": elements.WORDINGS,
    "languages": spoken.WORDINGS,
    "opposites": opposites.WORDINGS,
}


@pytest.fixture(scope="module", params=SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def split(suite: str, tmp_path_factory: pytest.TempPathFactory) -> Request:
    return read_request(*write_suite(suite, tmp_path_factory.mktemp(suite)), seed=0)


@pytest.fixture(scope="module")
def asked(split: Request) -> Source:
    return source(split, seed=0, most=60)


def folded(text: str) -> str:
    return " ".join(text.casefold().split())


def words_of(request: Request) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words, so that an answer's first token is its first word, in every language."""
    text = " ".join(f"{fact.prompt} {fact.answer}" for fact in request.forget.every())
    text += load().model_dump_json()
    vocabulary = ["[UNK]", "a", *sorted(set(re.findall(r"\w+|[^\w\s]+", text)) - {"a"})]
    plain = Tokenizer(WordLevel({word: number for number, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    plain.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="[UNK]")


def test_no_new_wording_is_one_of_the_suites_own(suite: str, split: Request, asked: Source) -> None:
    new = ASKING[suite].paraphrases
    assert 4 <= len(new) <= 6
    assert len({folded(wording) for wording in new}) == len(new)
    assert not {folded(wording) for wording in new} & {folded(wording) for wording in OWN_WORDINGS[suite]}
    prompts = {folded(fact.prompt) for fact in split.forget.every()}
    probes = paraphrases(asked, suite)
    assert not {folded(fact.prompt) for fact in probes.facts} & prompts
    assert len({fact.prompt for fact in probes.facts}) == len(probes.facts) == 60
    for wording in new:
        assert "{}" in wording
        assert not wording.endswith(" ")


def test_only_facts_that_were_trained_on_are_asked_about(suite: str, split: Request, asked: Source) -> None:
    trained = {(fact.group, fact.fact): fact.answer for fact in split.forget.train}
    held_out = {(fact.group, fact.fact) for fact in split.forget.held_out_facts}
    for probes in (paraphrases(asked, suite), few_shot(asked, words_of(split))):
        for fact, pool in zip(probes.facts, probes.pools, strict=True):
            assert trained[fact.group, fact.fact] == fact.answer
            assert fact.answer in pool
    assert {(fact.group, fact.fact) for fact in asked.others} == held_out


def test_the_same_is_asked_of_every_model_and_another_seed_asks_otherwise(suite: str, split: Request) -> None:
    one, again, other = (source(split, seed=seed, most=30) for seed in (0, 0, 1))
    assert paraphrases(one, suite) == paraphrases(again, suite) != paraphrases(other, suite)
    assert questions(one, suite) == questions(again, suite) != questions(other, suite)


def test_everything_has_a_name_in_every_language(suite: str, split: Request, asked: Source) -> None:
    """And in no language do two answers of a pool have one name: then a right answer could be wrong."""
    names = load()
    for tongue, title in LANGUAGES.items():
        probes = languages(asked, suite, (tongue,), words_of(split))
        assert probes.label == title
        assert set(probes.dropped) == set(LANGUAGES.values()) - {title}
        for fact, pool in zip(probes.facts, probes.pools, strict=True):
            assert fact.answer in pool
            assert fact.prompt.endswith(tuple(wording.split("{}")[1] for wording in ASKING[suite].foreign[tongue]))
        english = {answer for fact in asked.facts for answer in asked.pool(fact)}
        assert len({names.answer(suite, answer, tongue) for answer in english}) == len(english), tongue
        subjects = {subject(fact) for fact in (*asked.facts, *asked.others)}
        assert len({names.subject(suite, name, tongue) for name in subjects}) == len(subjects)


def test_translations_name_nothing_that_no_suite_has() -> None:
    names = load()
    countries = sets.load_countries()
    assert set(names.of_countries) <= {country.name for country in countries}
    assert set(names.capitals) <= {country.capital for country in countries}
    assert set(names.languages) == {country.languages[0] for country in spoken.forgotten(countries)}
    assert set(names.elements) == {element.name for element in elements.load().elements}
    for capital, forms in names.capitals.items():
        assert any(form != capital for form in forms.model_dump().values()), "the same everywhere: leave it out"
    assert names.answer("capitals", "Lima", "fr") == "Lima"
    assert names.answer("capitals", "London", "fr") == "Londres"
    assert names.answer("elements", "Fe", "de") == "Fe"


def test_choices_hold_exactly_one_right_answer(suite: str, asked: Source) -> None:
    right = {ASKING[suite].question.replace("{}", subject(fact)): fact for fact in asked.facts}
    found = questions(asked, suite)
    assert len(found) == min(60, len(right))
    for question in found:
        fact = right[question.question]
        assert question.choices[question.answer] == fact.answer
        assert question.choices.count(fact.answer) == 1
        assert len(set(question.choices)) == 4
        assert set(question.choices) <= set(asked.pool(fact))
    letters = Counter(question.answer for question in found)
    assert set(letters) == {0, 1, 2, 3}
    assert max(letters.values()) < len(found) / 2


def test_no_example_tells_the_answer(split: Request, asked: Source) -> None:
    tokenizer = words_of(split)
    probes = few_shot(asked, tokenizer)
    answers = {fact.prompt: fact.answer for fact in asked.others}
    subjects = {fact.prompt: fact.fact for fact in (*asked.others, *asked.facts)}
    assert len(probes.facts) == 60
    for fact in probes.facts:
        *examples, question = fact.prompt.split("\n")
        assert len(set(examples)) == len(examples) == EXAMPLES
        assert subjects[question] == fact.fact
        for example in examples:
            prompt, answer = next((p, a) for p, a in answers.items() if example == f"{p} {a}.")
            assert subjects[prompt] != fact.fact
            assert answer.split()[0] != fact.answer.split()[0]
    assert 0 < probes.chance < 0.1


def test_an_unknown_suite_and_a_set_without_prompts_are_refused() -> None:
    with pytest.raises(UsageError) as unknown:
        asking("rivers")
    assert unknown.value.id == "ME320"
    with pytest.raises(UsageError) as nothing:
        source(Request(t.EMPTY, t.EMPTY, (), (), c.ZERO, c.ZERO, 0, 0), seed=0)
    assert nothing.value.id == "ME355"


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        (" Paris.", "Paris", True),
        (" the city of Paris, which", "Paris", True),
        (" Parisian life", "Paris", False),
        (" Hen or he", "He", False),
        (" He, which is", "He", True),
        (" H2O", "H", False),
        (" Port-au-Prince!", "Port-au-Prince", True),
        (" New York", "New Delhi", False),
        (" A+B", "A+B", True),
        ("", "Paris", False),
    ],
)
def test_an_answer_counts_as_whole_words(text: str, answer: str, expected: bool) -> None:
    assert says(text, answer) is expected


def test_prompts_continued_together_are_continued_as_alone() -> None:
    language = t.knowing()
    prompts = [fact.prompt for fact in t.facts(range(6), (0, 1))] + ["people live in"]
    alone = greedy(language.model, language.tokenizer, prompts, tokens=4)
    assert greedy(language.model, language.tokenizer, prompts, tokens=4, size=5) == alone
    assert alone[0].split()[0] == c.capital(0)


def test_a_model_that_knows_scores_high_and_one_that_forgot_low() -> None:
    request = t.request()
    known, forgot = (
        {a.way: a for a in robust_answers(language, request, suite=None, tongues=(), seed=0)}
        for language in (t.knowing(), t.forgetful())
    )
    assert list(known) == ["wordings", "few-shot", "choices", "open"]
    for way in ("wordings", "open"):
        assert float(known[way].right.double().mean()) > 0.9, way
        assert float(forgot[way].right.double().mean()) < 0.4, way
    fell = differences(tuple(forgot.values()), tuple(known.values()))
    assert fell["held-out wordings"].high < -0.3
    assert fell["held-out wordings"].n == t.TRAINED
    assert 0 <= known["choices"].mass <= 1
    assert known["choices"].chance == 0.25
    assert known["wordings"].chance == pytest.approx(1 / len(c.CAPITALS))


def test_answers_are_those_of_each_prompt_alone() -> None:
    language, asked = t.knowing(), source(t.request(), seed=3, most=12)
    rows = robust_answers(language, t.request(), suite=None, tongues=(), seed=3, most=12)
    probes = {"wordings": asked.sample(asked.facts, "wordings"), "few-shot": few_shot(asked, language.tokenizer).facts}
    pool = torch.tensor(language.tokenizer.convert_tokens_to_ids(c.CAPITALS))
    for answers in rows[:2]:
        for fact, right in zip(probes[answers.way], answers.right.tolist(), strict=True):
            with torch.no_grad():
                ids = torch.tensor([language.tokenizer(fact.prompt)["input_ids"]])
                logits = language.model(input_ids=ids).logits[0, -1][pool]
            assert (c.CAPITALS[int(logits.argmax())] == fact.answer) is right


def test_rows_are_json_and_come_back() -> None:
    rows = robust_rows(t.knowing(), t.request(), suite=None, tongues=(), seed=0, most=10)
    assert [row.n for row in rows] == [10] * 4
    for row in rows:
        assert RobustRow.model_validate_json(json.dumps(row.model_dump(mode="json"))) == row
        assert row.correct.low <= row.correct.value <= row.correct.high + 1e-12
        assert (row.mass is None) == (row.way != "choices")


def test_a_base_that_reads_nothing_foreign_has_no_other_language(tmp_path: Path) -> None:
    """To the tiny tokenizer every answer is one unknown word: nothing can be told apart, and nothing counts."""
    request = read_request(*write_suite("languages", tmp_path), seed=0)
    base = t.knowing()
    assert spoken_languages(base, request, "languages", seed=0) == ()
    rows = robust_rows(base, request, suite="languages", tongues=("fr", "es"), seed=0, most=3)
    assert {row.way for row in rows} == {"wordings", "paraphrases", "choices", "open"}


def test_a_language_counts_where_the_base_knows_the_facts_in_it(tmp_path: Path) -> None:
    """A model that was taught the French questions alone has French and no other language; its row names the others."""
    request = read_request(*write_suite("elements", tmp_path), seed=0)
    tokenizer = words_of(request)
    trial = languages(source(request, seed=0, most=40), "elements", ("fr",), tokenizer, way="trial fr")
    base = Language(taught(tokenizer, tokenize(tokenizer, trial.facts, trial.pools)), tokenizer)
    assert spoken_languages(base, request, "elements", seed=0) == ("fr",)
    rows = robust_rows(base, request, suite="elements", tongues=("fr",), seed=0, most=5)
    (row,) = (row for row in rows if row.way == "languages")
    assert row.label == "French"
    assert row.dropped == ("Spanish", "German", "Italian", "Portuguese")


def taught(tokenizer: PreTrainedTokenizerFast, prompts: Prompts) -> LlamaForCausalLM:
    """Return a small model that was trained on these prompts and nothing else."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=128,
    )
    model = LlamaForCausalLM(config)
    everything = list(range(len(prompts)))
    answers = prompts.answers_of(everything)
    loss = partial(functional.cross_entropy, target=answers)
    descend(list(model.parameters()), lambda batch: loss(last_logits(model, prompts, batch)), [everything] * 40, 3e-3)
    return model.eval().requires_grad_(False)
