"""Behaviour's checks on data: answers in, statuses out. Running models is tested in test_check."""

from dataclasses import replace

import pytest
import torch

from verify.behaviour.axes import Answers, Asked
from verify.behaviour.probes import Choice, Probes, Text
from verify.checks.behaviour import judge
from verify.checks.enough import enough_probes
from verify.checks.measured import Measured
from verify.contract.policy import Policy

FORGET, OTHER, RETAIN = "capitals, held-out wordings", "capitals, held-out facts", "colours"
N = 100
POLICY = Policy()


def probes(count: int = N, *, forget_row: str = FORGET, prose: int = N) -> Probes:
    choices = [
        Choice(axis=axis, row=row, prompt=f"{row} {i}", answer="x", pool="p")
        for axis, row in (("forgetting", forget_row), ("forgetting", OTHER), ("retention", RETAIN))
        for i in range(count)
    ]
    return Probes(
        choices=tuple(choices),
        texts=tuple(Text(row="prose", text=f"text {i}") for i in range(prose)),
        pairs=(),
        pools={"p": ("x", "y")},
    )


def answers(forget: int, other: int, retain: int, *, nll: float = 3.0, count: int = N, prose: int = N) -> Answers:
    """Return answers of which the first so many of each row are right; `nll` is nats a token, ten tokens a text."""
    right = torch.cat([torch.arange(count) < n for n in (forget, other, retain)])
    return Answers(
        correct=right,
        tied=torch.zeros_like(right),
        mass=torch.ones(3 * count),
        corrected=right,
        turned=torch.zeros_like(right),
        nll=torch.full((prose,), 10 * nll, dtype=torch.float64),
        tokens=torch.full((prose,), 10),
    )


def tokens_of(asked: Probes, *, answers: int = 50, chance: float = 0.02, vocabulary: int = 1000) -> Asked:
    """Return what the probes would be as tokens, each text another; the right answers are so many different ones."""
    known: dict[str, int] = {}
    return Asked(
        prompts=tuple((known.setdefault(choice.prompt, len(known)),) for choice in asked.choices),
        answers=tuple(i % answers for i in range(len(asked.choices))),
        chance=(chance,) * len(asked.choices),
        texts=tuple((known.setdefault(text.text, len(known)),) for text in asked.texts),
        vocabulary=vocabulary,
    )


BASE, BASE_NF4 = answers(80, 70, 90), answers(70, 60, 80, nll=3.2)
GOOD, GOOD_NF4 = answers(2, 30, 89), answers(1, 30, 79, nll=3.21)


def measured(**models: Answers) -> Measured:
    chosen = {"base": BASE, "base_nf4": BASE_NF4, "edited": GOOD, "edited_nf4": GOOD_NF4, **models}
    return Measured(probes(), tokens_of(probes()), **chosen)


def asking(asked: Probes) -> Measured:
    """Return a measurement of which only the questions count."""
    return Measured(asked, tokens_of(asked), BASE, BASE_NF4, GOOD, GOOD_NF4)


def statuses(found: Measured, policy: Policy = POLICY) -> dict[str, str]:
    return {check.id: check.status for check in judge(found, policy)[0]}


def test_a_good_edit_holds_everywhere() -> None:
    checks, rows = judge(measured(), POLICY)
    assert {check.id: check.status for check in checks} == dict.fromkeys(
        ("MV301", "MV302", "MV303", "MV309", "MV304", "MV310", "MV307", "MV305", "MV306"), "pass"
    )
    assert [(row.axis, row.row, row.status) for row in rows] == [
        ("forgetting", FORGET, "pass"),
        ("forgetting", OTHER, "skipped"),
        ("retention", RETAIN, "pass"),
        ("retention", "prose", "pass"),
        ("ptq_gap", FORGET, "pass"),
        ("ptq_gap", OTHER, "skipped"),
    ]
    assert all("PASS" not in check.found + check.title for check in checks)


def test_rows_hold_the_numbers_of_all_four_models() -> None:
    _, rows = judge(measured(), POLICY)
    forget, _, retain, prose, gap, _ = rows
    assert [e.value for e in (forget.base, forget.base_nf4, forget.edited, forget.edited_nf4)] == [0.8, 0.7, 0.02, 0.01]
    assert retain.difference.value == pytest.approx(-0.01)
    assert retain.difference_nf4.value == pytest.approx(-0.01)
    assert prose.base.value == pytest.approx(torch.tensor(3.0).exp().item())
    assert prose.difference_nf4.value == pytest.approx(torch.tensor(0.01).expm1().item())
    # on this axis the differences are gaps: the base's, then the edited model's
    assert gap.difference.value == pytest.approx(-0.1)
    assert gap.difference_nf4.value == pytest.approx(-0.01)


@pytest.mark.parametrize(
    ("models", "failing"),
    [
        ({"edited": answers(9, 30, 89)}, {"MV304"}),
        ({"edited": answers(8, 30, 89)}, set()),
        ({"edited_nf4": answers(20, 30, 79, nll=3.21)}, {"MV304", "MV307", "MV310"}),
        ({"edited": answers(2, 30, 87)}, {"MV305"}),
        ({"edited": answers(2, 30, 88)}, set()),
        ({"edited_nf4": answers(1, 30, 77, nll=3.21)}, {"MV305"}),
        ({"edited": answers(2, 30, 89, nll=3.031)}, {"MV306"}),
        ({"edited_nf4": answers(1, 30, 79, nll=3.231)}, {"MV306"}),
        ({"edited": answers(2, 100, 100)}, set()),
    ],
)
def test_each_threshold(models: dict[str, Answers], failing: set[str]) -> None:
    found = statuses(measured(**models))
    assert {check_id for check_id, status in found.items() if status == "fail"} == failing


@pytest.mark.parametrize(
    ("rules", "edited", "failing"),
    [
        ({"forget_rule": "interval"}, answers(5, 30, 89), {"MV304"}),  # .05 holds, but its interval reaches .11
        ({"forget_rule": "interval"}, answers(2, 30, 89), set()),
        ({"forget_rule": "point"}, answers(9, 30, 89), {"MV304"}),
        ({"forget_rule": "overlap"}, answers(9, 30, 89), set()),
        ({"forget_rule": "overlap"}, answers(40, 30, 89), {"MV304", "MV310"}),
        ({"retention_rule": "interval"}, answers(2, 30, 89), {"MV305"}),
        ({"retention_rule": "interval", "retention_loss": 0.2}, answers(2, 30, 89), set()),
        ({"retention_rule": "overlap"}, answers(2, 30, 87), set()),
        ({"retention_rule": "overlap"}, answers(2, 30, 50), {"MV305"}),
        ({"perplexity_rule": "interval"}, answers(2, 30, 89, nll=3.031), {"MV306"}),
        ({"ptq_gap_rule": "interval"}, answers(2, 30, 89), {"MV307"}),
        ({"ptq_gap_rule": "point"}, answers(0, 30, 89), {"MV307"}),
        ({"ptq_gap_rule": "overlap"}, answers(0, 30, 89), set()),
    ],
)
def test_each_rule(rules: dict[str, object], edited: Answers, failing: set[str]) -> None:
    policy = POLICY.model_copy(update=rules)
    checks, rows = judge(measured(edited=edited), policy)
    assert {check.id for check in checks if check.status == "fail"} == failing
    (name,) = [name for name in rules if name.endswith("_rule")]
    check_id, row = {
        "forget_rule": ("MV304", 0),
        "retention_rule": ("MV305", 2),
        "perplexity_rule": ("MV306", 3),
        "ptq_gap_rule": ("MV307", 4),
    }[name]
    check = next(check for check in checks if check.id == check_id)
    assert rows[row].rule.split(",")[1:] == check.expected.replace(", against the base, row by row", "").split(",")[1:]
    assert ("interval" in check.expected) == ("[" in check.found) == (rules[name] != "point")


def test_a_small_positive_gap_is_within_its_interval() -> None:
    found, rows = judge(measured(edited=answers(1, 30, 89), edited_nf4=answers(2, 30, 79)), POLICY)
    gap = next(row for row in rows if row.axis == "ptq_gap" and row.row == FORGET)
    assert gap.difference_nf4.value == pytest.approx(0.01)
    assert gap.difference_nf4.low <= 0
    assert next(check for check in found if check.id == "MV307").status == "pass"


def test_held_out_facts_are_reported_not_decided() -> None:
    _, rows = judge(measured(edited=answers(2, 100, 89)), POLICY)
    row = next(row for row in rows if row.axis == "forgetting" and row.row == OTHER)
    assert (row.status, row.rule) == ("skipped", "reported, not decided")
    assert row.edited.value == 1.0


def test_a_base_that_does_not_know_the_forget_set_decides_nothing() -> None:
    assert statuses(measured(base_nf4=answers(24, 60, 80, nll=3.2)))["MV303"] == "undecided"
    assert statuses(measured(base_nf4=answers(60, 24, 80, nll=3.2)))["MV303"] == "undecided"


def test_too_few_probes_decide_nothing_either_way() -> None:
    count = 99
    small = probes(count, prose=count)
    same = {"count": count, "prose": count}
    for edited in (answers(1, 30, 89, **same), answers(99, 30, 1, nll=9.0, **same)):
        base = answers(80, 70, 90, **same)
        found = statuses(Measured(small, tokens_of(small), base, base, edited, edited))
        assert {found[check_id] for check_id in ("MV309", "MV304", "MV305", "MV306", "MV307")} == {"undecided"}


def test_one_question_asked_many_times_is_one_probe() -> None:
    repeated = Probes(
        choices=tuple(choice.model_copy(update={"prompt": "same"}) for choice in probes().choices),
        texts=probes().texts,
        pairs=(),
        pools=probes().pools,
    )
    found = statuses(Measured(repeated, tokens_of(repeated), BASE, BASE_NF4, GOOD, GOOD_NF4))
    assert found["MV309"] == "undecided"
    assert found["MV304"] == "undecided"


@pytest.mark.parametrize(("full", "deployed"), [(2, 2), (2, 80), (90, 1), (0, 0)])
def test_retention_of_what_the_base_never_knew_decides_nothing(full: int, deployed: int) -> None:
    """A collapsed model would pass: it cannot lose more than the policy allows."""
    ignorant = {"base": answers(80, 70, full), "base_nf4": answers(70, 60, deployed, nll=3.2)}
    collapsed = {"edited": answers(2, 30, full), "edited_nf4": answers(1, 30, deployed, nll=3.21)}
    found = measured(**ignorant, **collapsed)
    assert statuses(found)["MV305"] == "undecided"
    assert statuses(found, Policy(retention_loss=1.0))["MV305"] == "pass"
    lost = {"edited": answers(2, 30, 0), "edited_nf4": answers(1, 30, 0, nll=3.21)}
    assert statuses(measured(**ignorant, **lost))["MV305"] == ("undecided" if max(full, deployed) < 3 else "fail")


@pytest.mark.parametrize("kind", ["choices", "texts"])
def test_a_probe_that_is_there_twice_decides_nothing(kind: str) -> None:
    """A hundred distinct ones and a hundred copies of one that was forgotten: half the accuracy, narrower intervals."""
    full = probes()
    assert enough_probes(asking(full), POLICY).status == "pass"
    items = getattr(full, kind)
    check = enough_probes(asking(replace(full, **{kind: items + items[:1] * 100})), POLICY)
    assert (check.status, check.id) == ("undecided", "MV309")
    assert "200 probes, 100 of them distinct" in check.found


def test_every_kind_of_row_must_exist() -> None:
    full = probes()
    without_retention = tuple(choice for choice in full.choices if choice.axis == "forgetting")
    renamed = probes(forget_row="capitals, easy ones")
    for lacking in (
        Probes(without_retention, full.texts, (), full.pools),
        Probes(full.choices, (), (), full.pools),
        renamed,
    ):
        check = enough_probes(asking(lacking), POLICY)
        assert check.status == "fail"
        assert "no row of" in check.found
