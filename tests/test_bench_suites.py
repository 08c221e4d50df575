import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from mansu.bench.study.judging import Criteria
from mansu.bench.suites import SUITES, Suite, build_suite, elements, languages, opposites, write_suite
from mansu.demo import build_forget_set, build_retain_set, sets
from mansu.demo.sets import Line
from mansu.request import Fact, Request, pools, read_request
from verify.errors import UsageError

WORD = re.compile(r"[\w'-]+")
# Facts whose subject is told by their name: "capital:France" → "France".
TOLD = ("capital:", "symbol:", "language:", "opposite:")


@pytest.fixture(scope="module", params=SUITES)
def suite(request: pytest.FixtureRequest) -> Suite:
    return build_suite(request.param)


@pytest.fixture(scope="module")
def split(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Request:
    forget, retain = write_suite(suite.name, tmp_path_factory.mktemp(suite.name))
    return read_request(forget, retain, seed=0)


def probes(suite: Suite) -> Iterator[Line]:
    return (line for line in (*suite.forget, *suite.retain) if "text" not in line)


def folded(text: str) -> str:
    return " ".join(text.casefold().split())


def trained(request: Request) -> list[Fact]:
    return [*request.forget.train, *request.forget.validation, *request.retain.train]


def measured(request: Request) -> list[Fact]:
    return [*request.forget.held_out_wordings, *request.forget.held_out_facts, *request.retain.held_out_facts]


def words(text: str) -> set[str]:
    return {word.removesuffix("'s").removesuffix("'") for word in WORD.findall(text)}


def test_written_lines_are_the_suites(suite: Suite, tmp_path: Path) -> None:
    paths = write_suite(suite.name, tmp_path)
    assert [path.name for path in paths] == ["forget.jsonl", "retain.jsonl"]
    read = [tuple(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()) for path in paths]
    assert read == [suite.forget, suite.retain]


def test_capitals_are_the_demos_own() -> None:
    suite = build_suite("capitals")
    assert list(suite.forget) == build_forget_set()
    assert list(suite.retain) == build_retain_set()


def test_an_unknown_suite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such suite") as caught:
        write_suite("rivers", tmp_path / "sets")
    assert caught.value.id == "ME320"
    assert not (tmp_path / "sets").exists()


def test_every_row_has_a_hundred_held_out_probes(suite: Suite, split: Request) -> None:
    rows = Counter((fact.group, "wording") for fact in split.forget.held_out_wordings)
    rows += Counter((fact.group, "fact") for fact in split.forget.held_out_facts)
    rows += Counter((fact.group, "kept") for fact in split.retain.held_out_facts)
    others = {"capitals", "elements", "languages"} - {suite.name}
    assert {group for group, kind in rows if kind == "kept"} >= {*others, "neighbours"}
    assert {group for group, kind in rows if kind != "kept"} == {suite.name}
    assert min(rows.values()) >= 100, rows
    assert min(count for (_, kind), count in rows.items() if kind == "kept") >= 160, rows
    assert len(split.prose_held_out) >= 100


def test_no_held_out_probe_is_trained_on(split: Request) -> None:
    seen = trained(split)
    prompts = {folded(fact.prompt) for fact in seen}
    named = {(fact.group, fact.fact, fact.wording) for fact in seen}
    for fact in measured(split):
        assert (fact.group, fact.fact, fact.wording) not in named
        assert folded(fact.prompt) not in prompts
    facts = {(fact.group, fact.fact) for fact in seen}
    for fact in (*split.forget.held_out_facts, *split.retain.held_out_facts):
        assert (fact.group, fact.fact) not in facts


@pytest.mark.parametrize("seed", range(16))
def test_always_the_same_answer_is_no_knowledge(suite: Suite, tmp_path: Path, seed: int) -> None:
    """A model that has lost every fact and keeps the likeliest answer must meet what forgetting asks for."""
    held = read_request(*write_suite(suite.name, tmp_path), seed=seed).forget.held_out_wordings
    answers = Counter(fact.answer for fact in held)
    chance = 1 / len({line["answer"] for line in suite.forget})
    assert max(answers.values()) / len(held) <= chance + Criteria().above_chance


def test_held_out_wordings_are_trained_on_for_no_fact(split: Request) -> None:
    """The tail of a suite's wordings is for measuring alone: no fact that is trained on appears in one of them."""
    train = {fact.wording for fact in split.forget.train}
    validation = {fact.wording for fact in split.forget.validation}
    held = {fact.wording for fact in split.forget.held_out_wordings}
    assert train
    assert validation
    assert held
    assert not train & held
    assert not train & validation
    assert not validation & held


def test_no_training_line_tells_a_held_out_fact_of_retention(suite: Suite, split: Request) -> None:
    """Subject and answer of a held-out fact never stand together in what is trained on, prose included.

    Of the demo's own suite, nationalities do tell languages (docs/suites.md says so), and nothing else does.
    """
    seen = trained(split)
    texts = [f"{fact.prompt} {fact.answer}" for fact in seen] + list(split.prose)
    names = [fact.fact for fact in seen] + ["prose"] * len(split.prose)
    holding: dict[str, set[int]] = defaultdict(set)
    for number, text in enumerate(texts):
        for word in words(text):
            holding[word].add(number)
    for fact in split.retain.held_out_facts:
        subject, answer = words(fact.fact.partition(":")[2]), words(fact.answer)
        if fact.fact.startswith(TOLD) and not answer <= subject:
            telling = set.intersection(*(holding[word] for word in subject | answer))
            allowed = "demonym:" if suite.name == "capitals" else "never"
            assert all(names[number].startswith(allowed) for number in telling), (fact, [texts[i] for i in telling])


def test_nothing_kept_tells_what_is_forgotten(suite: Suite) -> None:
    """But for the demo's own suite, which keeps the way back from a city, and what stands in it, to its country."""
    if suite.name == "capitals":
        return
    told: dict[frozenset[str], Line] = {}
    for line in suite.forget:
        subject, answer = words(str(line["fact"]).partition(":")[2]), words(str(line["answer"]))
        assert not answer <= subject
        told[frozenset(subject | answer)] = line
    for line in suite.retain:
        text = str(line["text"]) if "text" in line else f"{line['prompt']} {line['answer']}"
        bag = words(text)
        telling = [line["fact"] for needed, line in told.items() if needed <= bag]
        assert not telling, text


def test_prompts_are_unique_and_end_before_the_answer(suite: Suite) -> None:
    counts = Counter(str(line["prompt"]) for line in probes(suite))
    assert [prompt for prompt, count in counts.items() if count > 1] == []
    for line in probes(suite):
        prompt, answer = str(line["prompt"]), str(line["answer"])
        assert prompt == prompt.strip()
        assert "{" not in prompt
        assert answer
        assert answer == answer.strip()


def test_pools_hold_the_answer_and_two_others(split: Request) -> None:
    facts = split.forget.every()
    assert min(len(pool) for pool in pools(facts).values()) >= 20
    for pool in pools(split.retain.every()).values():
        assert len(set(pool)) >= 3


def test_alternatives_are_wrong(suite: Suite) -> None:
    for line in probes(suite):
        alternatives = line.get("alternatives", [])
        assert isinstance(alternatives, list)
        assert line["answer"] not in alternatives
        assert len(set(alternatives)) == len(alternatives)


def test_facts_about_elements_are_about_elements() -> None:
    facts = elements.load()
    known = {element.name for element in sets.load_elements()}
    names = [element.name for element in facts.elements]
    assert len(set(names)) == len(names) == 66
    assert set(names) <= known
    assert {use.answer for use in facts.free} <= set(names)
    assert {name for use in facts.free for name in use.also} <= known
    for use in facts.free:
        assert use.answer not in words(use.prompt)
        assert use.answer not in use.also
    assert len({use.prompt for use in facts.free}) == len(facts.free)


def test_states_and_families_of_elements_agree() -> None:
    """What chemistry says of whole families holds for each member."""
    by_name = {element.name: element for element in elements.load().elements}
    for element in by_name.values():
        if element.family == "noble gases":
            assert (element.state, element.kind) == ("gas", "nonmetal")
        if element.family in {"alkali metals", "alkaline earth metals", "lanthanides", "actinides"}:
            assert (element.state, element.kind) == ("solid", "metal")
        if element.family == "halogens":
            assert element.kind == "nonmetal"
        if element.family == "transition metals":
            assert element.kind == "metal"
        if element.kind == "metalloid":
            assert element.state == "solid"
    assert {name for name, element in by_name.items() if element.state == "liquid"} == {"bromine", "mercury"}
    gases = {"hydrogen", "helium", "nitrogen", "oxygen", "fluorine", "chlorine", "xenon"}
    assert {name for name, element in by_name.items() if element.state == "gas"} == gases


def test_facts_of_other_suites_are_asked_in_six_wordings(suite: Suite) -> None:
    times = Counter((line["group"], line["fact"]) for line in suite.retain if "text" not in line)
    assert {count for (group, _), count in times.items() if group != "neighbours"} == {6}
    assert {count for (group, _), count in times.items() if group == "neighbours"} <= {1, 2, 3}


def test_forgotten_countries_have_one_language_each_and_no_language_more_than_two() -> None:
    chosen = languages.forgotten(sets.load_countries())
    assert all(len(country.languages) == 1 for country in chosen)
    assert max(Counter(country.languages[0] for country in chosen).values()) == 2
    assert len(chosen) >= 50


def test_pairs_of_opposites_go_one_way() -> None:
    facts = opposites.load()
    pairs = {pair.word: pair.opposite for pair in facts.pairs}
    assert len(pairs) == len(facts.pairs) >= 100
    assert not any(pairs.get(opposite) == word for word, opposite in pairs.items())
    assert not set(pairs.items()) & {(word, word) for word in pairs}
    words_ = {*pairs, *pairs.values()}
    assert {degrees.word for degrees in facts.degrees} <= words_
    assert {use.answer for use in facts.uses} <= words_
