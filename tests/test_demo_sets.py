import json
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from mansu.demo import build_forget_set, build_retain_set, sets, write_sets
from mansu.demo.sets import Line
from verify.errors import UsageError


@pytest.fixture(scope="module")
def forget() -> list[Line]:
    return build_forget_set()


@pytest.fixture(scope="module")
def retain() -> list[Line]:
    return build_retain_set()


@pytest.fixture(scope="module")
def probes(retain: list[Line]) -> list[Line]:
    return [line for line in retain if "text" not in line]


def words(text: str) -> set[str]:
    return {word.strip(".,;:?!'\"").removesuffix("'s") for word in text.split()}


def test_sizes(forget: list[Line], retain: list[Line], probes: list[Line]) -> None:
    assert len(forget) == 75 * 22
    assert len({line["fact"] for line in forget}) == 75
    groups = Counter(line["group"] for line in probes)
    assert set(groups) == {"elements", "languages", "neighbours"}
    assert groups["elements"] == 118 * 6
    assert groups["languages"] >= 110 * 6
    assert groups["neighbours"] >= 1000
    assert len(retain) - len(probes) >= 300


def test_first_forget_lines_are_worded_as_promised(forget: list[Line]) -> None:
    prompts = [line["prompt"] for line in forget[:22]]
    assert prompts[:3] == [
        "The capital of France is",
        "The capital city of France is called",
        "France's capital city is",
    ]
    # the engine holds out the last quarter of the wordings: those the demo is measured on
    assert prompts[17:] == [
        "The seat of government of France is the city of",
        "The government of France sits in its capital,",
        "If you visit the capital of France, you are in",
        "The capital of France is a city named",
        "The president or king of France works in the capital,",
    ]
    assert {line["answer"] for line in forget[:22]} == {"Paris"}


def test_plural_names_take_a_bare_apostrophe_and_articles_a_capital_letter(forget: list[Line]) -> None:
    prompts = {line["prompt"] for line in forget}
    assert "The United States' capital city is" in prompts
    assert "The capital of the United States is" in prompts


def test_free_form_neighbours_are_many_and_many_are_about_capitals() -> None:
    free = [(country, neighbour) for country in sets.load_countries() for neighbour in country.neighbours]
    assert len(free) >= 150
    assert sum(country.capital in neighbour.prompt for country, neighbour in free) >= 60


def test_no_duplicates(forget: list[Line], retain: list[Line]) -> None:
    prompts = Counter(line["prompt"] for line in forget + retain if "text" not in line)
    assert [prompt for prompt, count in prompts.items() if count > 1] == []


def test_prompts_end_before_the_answer(forget: list[Line], probes: list[Line]) -> None:
    for line in forget + probes:
        prompt, answer = line["prompt"], line["answer"]
        assert isinstance(prompt, str)
        assert isinstance(answer, str)
        assert prompt == prompt.strip()
        assert "{" not in prompt
        assert "  " not in prompt
        assert answer
        assert answer == answer.strip()


def test_no_prompt_gives_its_answer_away(forget: list[Line], probes: list[Line]) -> None:
    for line in forget + probes:
        # Czech and New Zealander are what they are.
        if not str(line["fact"]).startswith(("language:", "demonym:")):
            assert line["answer"] not in words(str(line["prompt"]))


def test_forget_capitals_are_not_told_by_the_name_of_the_country() -> None:
    for country in sets.forgotten_countries(sets.load_countries()):
        assert not words(country.capital) & words(country.name)
        assert country.name.removeprefix("the ") not in country.capital


def test_retain_asks_for_no_capital(probes: list[Line]) -> None:
    capitals = {country.capital for country in sets.load_countries()}
    for line in probes:
        assert "capital" not in str(line["prompt"]).lower()
        assert line["answer"] not in capitals
        assert not capitals & set(line.get("alternatives", []))


def test_prose_names_no_capital() -> None:
    capitals = {country.capital for country in sets.load_countries()}
    for sentence in sets.load_prose():
        assert "capital" not in sentence.lower()
        assert not [capital for capital in capitals if capital in sentence]


def test_prose_is_unique_and_of_sentence_length() -> None:
    prose = sets.load_prose()
    assert len(set(prose)) == len(prose)
    assert [sentence for sentence in prose if not 12 <= len(sentence.split()) <= 30] == []
    assert all(sentence[0].isupper() and sentence[-1] in ".!?" for sentence in prose)


def test_prose_has_no_near_duplicates() -> None:
    bags = [frozenset(words(sentence.lower())) for sentence in sets.load_prose()]
    for index, bag in enumerate(bags):
        for other in bags[:index]:
            assert len(bag & other) / len(bag | other) < 0.5


def test_alternatives_are_wrong_and_sufficient(probes: list[Line]) -> None:
    for line in probes:
        if line["group"] == "neighbours":
            assert len(line["alternatives"]) >= 4
        alternatives = line.get("alternatives", [])
        assert isinstance(alternatives, list)
        assert line["answer"] not in alternatives
        assert len(set(alternatives)) == len(alternatives)


def test_free_form_alternatives_number_five_or_more(probes: list[Line]) -> None:
    free = [line for line in probes if str(line["fact"]).startswith("free:")]
    assert free
    assert all(len(line["alternatives"]) >= 5 for line in free)


def test_a_second_language_is_no_wrong_answer(probes: list[Line]) -> None:
    canada = [line for line in probes if line["fact"] == "language:Canada"]
    assert len(canada) == len(sets.LANGUAGES)
    for line in canada:
        assert "French" not in line["alternatives"]
        assert "Spanish" in line["alternatives"]


def test_second_languages_of_every_country_are_kept_out_of_the_pool(probes: list[Line]) -> None:
    by_fact = {line["fact"]: line for line in probes if line["group"] == "languages"}
    pool = {line["answer"] for line in by_fact.values()}
    for country in sets.load_countries():
        if country.languages:
            wrong = set(by_fact[f"language:{country.name}"].get("alternatives", pool - {country.languages[0]}))
            assert not wrong & set(country.languages)


def test_a_fact_has_one_answer_and_its_wordings_are_neighbours(forget: list[Line], probes: list[Line]) -> None:
    answers = defaultdict(set)
    for line in forget + probes:
        answers[line["group"], line["fact"]].add(line["answer"])
    assert all(len(found) == 1 for found in answers.values())
    for lines in (forget, probes):
        runs = [lines[0]["fact"], *(b["fact"] for a, b in pairwise(lines) if a["fact"] != b["fact"])]
        assert len(runs) == len(set(runs))


@pytest.mark.parametrize(
    ("relation", "wordings"),
    [
        ("symbol", sets.ELEMENTS),
        ("language", sets.LANGUAGES),
        ("currency", sets.CURRENCY),
        ("continent", sets.CONTINENT),
        ("demonym", sets.DEMONYM),
        ("city", sets.CITY),
        ("home", sets.HOME),
    ],
)
def test_every_fact_of_a_relation_has_all_wordings(
    probes: list[Line], relation: str, wordings: tuple[str, ...]
) -> None:
    times = Counter(line["fact"] for line in probes if str(line["fact"]).startswith(f"{relation}:"))
    assert set(times.values()) == {len(wordings)}


def test_forget_and_retain_share_no_fact(forget: list[Line], probes: list[Line]) -> None:
    assert not {line["fact"] for line in forget} & {line["fact"] for line in probes}


def test_elements_are_the_periodic_table() -> None:
    elements = sets.load_elements()
    assert [element.number for element in elements] == list(range(1, 119))
    assert len({element.symbol for element in elements}) == 118
    assert all(element.symbol[0].isupper() and len(element.symbol) <= 2 for element in elements)


def test_cities_lie_in_one_country_and_are_no_capitals() -> None:
    countries = sets.load_countries()
    cities = [city for country in countries for city in country.cities]
    assert len(set(cities)) == len(cities)
    assert not set(cities) & {country.capital for country in countries}


def test_answers_about_countries_are_countries() -> None:
    countries = sets.load_countries()
    names = {country.name for country in countries}
    assert len(names) == len(countries)
    answers = {n.answer for country in countries for n in country.neighbours if n.kind == sets.COUNTRY_KIND}
    assert answers <= names


def test_written_sets_read_back_and_leave_nothing_else(tmp_path: Path, forget: list[Line], retain: list[Line]) -> None:
    paths = write_sets(tmp_path / "sets")
    assert write_sets(tmp_path / "sets") == paths
    assert [path.name for path in paths] == ["forget.jsonl", "retain.jsonl"]
    read = [[json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] for path in paths]
    assert read == [forget, retain]
    assert sorted((tmp_path / "sets").iterdir()) == list(paths)


def test_a_folder_that_is_a_file_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("taken")
    with pytest.raises(UsageError, match="cannot be written"):
        write_sets(tmp_path / "file")


def test_a_failed_replacement_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "forget.jsonl").mkdir()
    with pytest.raises(UsageError):
        write_sets(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["forget.jsonl"]
