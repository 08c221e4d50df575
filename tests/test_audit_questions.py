"""The sets that an audit measures on: the engine's three forms, and what is refused."""

import json
from pathlib import Path

import certificates as c
import pytest

from mansu.request import read_forget
from verify.audit.questions import read_probes, read_sets, usable_pairs
from verify.behaviour.probes import dump
from verify.errors import UsageError


def lines(path: Path, *items: object) -> Path:
    path.write_text("".join((item if isinstance(item, str) else json.dumps(item)) + "\n" for item in items))
    return path


CLOZE = {"prompt": "The capital of France is ", "answer": " Paris", "group": "capitals", "fact": "capital:France"}
OTHER = {
    "prompt": "The capital of Italy is",
    "answer": "Rome",
    "group": "capitals",
    "corrupt": "The capital of Mali is",
}
CHOICE = {"question": "Which is a gas?", "choices": ["iron", "neon"], "answer": 1, "corrupt": "Which is a fish?"}


def test_the_three_forms(tmp_path: Path) -> None:
    forget = lines(tmp_path / "f", CLOZE, "", OTHER, CHOICE, CLOZE)
    retain = lines(tmp_path / "r", {"prompt": "a", "answer": "b", "alternatives": ["c"]}, {"text": "Prose."})
    probes = read_sets(forget, retain)
    by_prompt = {choice.prompt: choice for choice in probes.choices}
    assert len(probes.choices) == len(by_prompt) == 4
    assert probes.pools[by_prompt["The capital of France is"].pool] == ("Paris", "Rome")
    assert probes.pools[by_prompt["a"].pool] == ("b", "c")
    question = by_prompt["Which is a gas?\nA. iron\nB. neon\nAnswer:"]
    assert (question.answer, question.row, probes.pools[question.pool]) == ("B", "questions", ("A", "B"))
    assert [pair.corrupt for pair in probes.pairs] == [OTHER["corrupt"], "Which is a fish?\nA. iron\nB. neon\nAnswer:"]
    assert [(text.row, text.text) for text in probes.texts] == [("prose", "Prose.")]
    assert [choice.axis for choice in probes.choices] == ["forgetting"] * 3 + ["retention"]


def test_prompts_and_answers_are_those_of_the_engine(tmp_path: Path) -> None:
    path = lines(tmp_path / "f", CLOZE, OTHER, CHOICE)
    facts, _ = read_forget(path)
    mine = read_sets(path, None).choices
    assert [(fact.prompt, fact.answer, fact.group) for fact in facts] == [(x.prompt, x.answer, x.row) for x in mine]


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ((), "empty"),
        (("{",), "line 1"),
        ((CLOZE, '{"prompt": "a", "prompt": "b", "answer": "c"}'), "line 2"),
        (({"prompt": "a", "answer": "b", "more": 1},), "line 1"),
        (({**CHOICE, "answer": 2},), "no such choice"),
        (({"text": "prose"},), "plain text"),
        (("[" * 100_000,), "line 1"),
    ],
)
def test_what_is_refused(tmp_path: Path, items: tuple[object, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        read_sets(lines(tmp_path / "f", *items), None)
    assert caught.value.id == "ME294"


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_sets(None, tmp_path / "no")


def test_pairs_that_cannot_be_attributed_are_left_out(tmp_path: Path) -> None:
    clean = c.held_out_wording("country0")
    rows = [
        {"prompt": clean, "answer": c.capital(0), "corrupt": corrupt}
        for corrupt in (c.held_out_wording("country1"), clean, "the flag is")
    ]
    rows += [{"prompt": "the flag of country2 is", "answer": c.capital(2), "corrupt": "the flag of country3 is", "group": "one answer"}]  # fmt: skip  # noqa: E501
    rows += [{"prompt": "the flag of country4 is", "answer": c.capital(1)}]
    probes, dropped = usable_pairs(read_sets(lines(tmp_path / "f", *rows), None), c.tokenizer())
    assert [pair.corrupt for pair in probes.pairs] == [c.held_out_wording("country1")]
    assert dropped == 3
    assert len(probes.choices) == 5


def test_a_folder_of_probes(tmp_path: Path) -> None:
    for name, data in dump(c.probes()).items():
        (tmp_path / name).write_bytes(data)
    assert read_probes(tmp_path) == c.probes()
    (tmp_path / "pools.json").write_text("{")
    for folder in (tmp_path, tmp_path / "no"):
        with pytest.raises(UsageError) as caught:
            read_probes(folder)
        assert caught.value.id == "ME294"
