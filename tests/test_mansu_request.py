"""Reading, refusing and splitting requests."""

from pathlib import Path

import certificates as c
import pytest
import requests_tiny as r

from mansu.data.probes import all_pools
from mansu.request import Request, pools, read_request, require_held_out, require_tokens
from verify.errors import UsageError


def read(tmp_path: Path, forget: list[r.Line], retain: list[r.Line], seed: int = 0) -> Request:
    return read_request(r.write(tmp_path / "f.jsonl", forget), r.write(tmp_path / "r.jsonl", retain), seed=seed)


def test_nothing_measured_was_trained_on(tmp_path: Path) -> None:
    request = read(tmp_path, r.forget_lines(), r.retain_lines())
    trained = {fact.prompt for fact in (*request.forget.train, *request.retain.train)}
    measured = (*request.forget.held_out_wordings, *request.forget.held_out_facts, *request.retain.held_out_facts)
    assert not trained & {fact.prompt for fact in measured}
    whole = (*request.forget.held_out_facts, *request.retain.held_out_facts)
    facts = {fact.fact for fact in (*request.forget.train, *request.retain.train)}
    assert not facts & {fact.fact for fact in whole}
    assert {fact.wording for fact in request.forget.train}.isdisjoint(
        fact.wording for fact in request.forget.held_out_wordings
    )
    assert not set(request.prose) & set(request.prose_held_out)
    assert len(request.forget.train) == 30 * 3
    assert len(request.forget.held_out_facts) == 10 * 4


def test_the_split_follows_the_seed(tmp_path: Path) -> None:
    one, same, other = (read(tmp_path, r.forget_lines(), r.retain_lines(), seed) for seed in (1, 1, 2))
    assert one == same
    assert one.forget.train != other.forget.train


def test_multiple_choice_becomes_letters(tmp_path: Path) -> None:
    line: r.Line = {"question": "Which?", "choices": ["left", "right"], "answer": 1}
    request = read(tmp_path, [line], [{"prompt": "a", "answer": "b"}])
    (fact,) = request.forget.train
    assert fact.prompt.endswith("B. right\nAnswer:")
    assert (fact.answer, fact.alternatives) == ("B", ("A",))
    assert list(pools([fact]).values()) == [("A", "B")]


@pytest.mark.parametrize(
    ("forget", "identity"),
    [
        ([], "ME201"),
        ([{"prompt": "", "answer": "x"}], "ME202"),
        ([{"prompt": "x"}], "ME202"),
        ([{"prompt": "x", "answer": "y", "surprise": 1}], "ME202"),
        ([{"question": "x", "choices": ["a", "b"], "answer": 2}], "ME202"),
        ([{"prompt": "The flag  is", "answer": "red"}], "ME203"),
        ([{"prompt": "other", "answer": "red", "fact": "flag"}], "ME203"),
        ([{"text": "plain"}], "ME200"),
    ],
)
def test_bad_sets_are_refused(tmp_path: Path, forget: list[r.Line], identity: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, forget, [{"prompt": "the flag is", "answer": "Red", "fact": "flag"}])
    assert caught.value.id == identity
    assert caught.value.exit_code == 2
    assert caught.value.remedy


def test_a_retain_set_of_plain_text_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no facts") as caught:
        read(tmp_path, r.forget_lines(), [{"text": "plain"}, {"text": "as plain"}])
    assert caught.value.id == "ME201"


def test_what_stands_twice_counts_once(tmp_path: Path) -> None:
    forget, retain = r.forget_lines(), r.retain_lines()
    once, twice = read(tmp_path, forget, retain), read(tmp_path, forget + forget, retain + retain[::-1])
    assert (once.forget, once.retain) == (twice.forget, twice.retain)
    assert (once.prose, once.prose_held_out) == (twice.prose, twice.prose_held_out)
    assert twice.forget_lines == 2 * once.forget_lines  # what the manifest says of the file


def test_a_prompt_with_two_answers_is_refused(tmp_path: Path) -> None:
    lines: list[r.Line] = [{"prompt": "The flag is", "answer": "red"}, {"prompt": "The flag is ", "answer": "blue"}]
    with pytest.raises(UsageError, match="two answers") as caught:
        read(tmp_path, lines, [{"prompt": "a", "answer": "b"}])
    assert caught.value.id == "ME202"


def test_a_set_that_leaves_nothing_to_measure_on_is_refused(tmp_path: Path) -> None:
    retain: list[r.Line] = [{"prompt": "a", "answer": "b"}]
    few: list[r.Line] = [{"prompt": f"{i}: the flag is", "answer": "red"} for i in range(4)]
    with pytest.raises(UsageError) as caught:
        require_held_out(read(tmp_path, few[:3], retain))
    assert caught.value.id == "ME213"
    require_held_out(read(tmp_path, few, retain))
    facts: list[r.Line] = [{"prompt": f"{name} is", "answer": name} for name in ("red", "green", "blue")]
    require_held_out(read(tmp_path, facts, retain))


def test_a_kept_fact_that_is_never_asked_needs_no_wrong_answer(tmp_path: Path) -> None:
    lone: list[r.Line] = [{"prompt": "our company is called", "answer": "city1", "group": "company"}]
    request = read(tmp_path, r.forget_lines(), [*r.retain_lines(), *lone])
    assert not [fact for fact in request.retain.held_out_facts if fact.group == "company"]
    require_tokens(c.tokenizer(), request)


def test_sets_that_call_a_fact_alike_have_their_own_wrong_answers(tmp_path: Path) -> None:
    forget: list[r.Line] = [{"prompt": f"{i} is", "answer": f"a{i}"} for i in range(8)]
    retain: list[r.Line] = [{"prompt": "five was", "answer": "a5"}, {"prompt": "last was", "answer": "zz"}]
    request = read(tmp_path, forget, retain)
    pool_of = all_pools(request)
    wanted = {"five was": ("a5", "zz"), "5 is": tuple(f"a{i}" for i in range(8))}
    found = {f.prompt: pool_of[f] for f in (*request.forget.every(), *request.retain.every()) if f.prompt in wanted}
    assert found == wanted


def test_a_missing_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_request(tmp_path / "none", r.write(tmp_path / "r", r.retain_lines()), seed=0)
