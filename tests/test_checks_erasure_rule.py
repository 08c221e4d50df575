"""The rule of structural erasure in words: its numbers are the policy's and the controls', and it owns up to defeat."""

import re

import pytest

from verify.checks.erasure_rule import defeats, lent, rule_in_words
from verify.contract.policy import Policy
from verify.contract.result import CadRow
from verify.contract.schema import Estimate

LAYERS, LATE = 30, 22
POLICY = Policy()
QUANTIZED, RANDOM = "base under NF4", "random edit of the same size"
MUTED = "muting the last MLP alone"


def row(label: str, value: float, *, from_layer: int | None = None, half: float = 0.03) -> CadRow:
    cad = Estimate(value=value, low=value - half, high=value + half, n=60)
    return CadRow(
        label=label, role="control", precision="full", from_layer=from_layer, cad=cad, rho=cad, mass=1, relative_l1=0
    )


def controls(late: float = 0.26, random: float = 0.437) -> list[CadRow]:
    return [row(QUANTIZED, 0.27), row(QUANTIZED, late, from_layer=LATE), row(RANDOM, random)]


def said(policy: Policy = POLICY, found: list[CadRow] | None = None, muted: tuple[CadRow, ...] = ()) -> str:
    return rule_in_words(policy, layers=LAYERS, late=LATE, controls=found or controls(), muted=muted)


def test_the_sentence_holds_every_number_once() -> None:
    sentence = said()
    assert sentence == (
        "Structurally erased means: CAD at least 0.800 and, with the base's read-out and layers 22 to 29, at least "
        "0.600, in full precision and after NF4, every 95 % interval of these above the highest control's (0.437 "
        "[0.407, 0.467]: random edit of the same size), and ρ within ±0.250 (with those of the base, at least -0.250)."
    )


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"cad": 0.9}, "CAD at least 0.900"),
        ({"cad_late": 0.7}, "at least 0.700"),
        ({"rho": 0.1}, "ρ within ±0.100"),
        ({"cad_rule": "interval"}, "after NF4, with the whole 95 % interval,"),
        ({"cad_rule": "interval"}, "at least -0.250), with the whole 95 % interval."),
        ({"cad_rule": "overlap"}, "after NF4, or the 95 % interval reaches it,"),
    ],
)
def test_it_is_the_policy_in_force(changed: dict[str, object], words: str) -> None:
    assert words in said(POLICY.model_copy(update=changed))
    assert words not in said()


def test_it_names_the_control_whose_interval_ends_highest() -> None:
    wide = row("retain fine-tune", 0.4, half=0.1)
    assert f"({0.4:.3f} [0.300, 0.500]: retain fine-tune)" in said(found=[*controls(), wide])


def test_what_muting_reads_stands_in_the_sentence() -> None:
    sentence = said(muted=(row("muting the head alone", 0, half=0), row(MUTED, 0.02, half=0.01)))
    assert sentence.endswith(
        "; with those of the base, muting the head alone reads 0.000 [0.000, 0.000] and muting the last MLP "
        "alone reads 0.020 [0.010, 0.030]."
    )


@pytest.mark.parametrize(
    ("late", "random", "muted", "words"),
    [
        (0.56, 0.7, 0.5, []),
        (0.57, 0.7, 0.5, ["a change that erases nothing"]),  # 0.54 to 0.60
        (0.5, 0.77, 0.5, ["a change that erases nothing"]),
        (0.5, 0.7, 0.57, ["muting"]),
        (0.6, 0.8, 0.9, ["a change that erases nothing", "a change that erases nothing", "muting"]),
    ],
)
def test_a_control_that_reaches_a_threshold_defeats_it(
    late: float, random: float, muted: float, words: list[str]
) -> None:
    found, silent = controls(late, random), (row(MUTED, muted, from_layer=LATE),)
    reasons = defeats(POLICY, layers=LAYERS, controls=found, muted=silent)
    assert [re.search(r"cannot tell erasure from (.*) on this model", reason)[1] for reason in reasons] == words
    sentence = said(found=found, muted=silent)
    assert all(reason in sentence for reason in reasons)
    assert ("; but " in sentence) == bool(words)
    assert sentence.count(".") == sentence.rstrip(".").count(".") + 1  # one sentence


def test_an_interval_that_leaves_its_value_out_still_reaches() -> None:
    odd = CadRow.model_validate(
        row(RANDOM, 0.81).model_dump() | {"cad": {"value": 0.81, "low": 0.6, "high": 0.7, "n": 9}}
    )
    assert defeats(POLICY, layers=LAYERS, controls=[odd])


@pytest.mark.parametrize(
    ("late", "words"),
    [
        (22, "the base's read-out and layers 22 to 29"),
        (29, "the base's read-out and layer 29"),
        (30, "the base's read-out"),
    ],
)
def test_what_is_lent(late: int, words: str) -> None:
    assert lent(LAYERS, late) == words
