"""Erasure's checks on data, and the plan of attributions. Running attributions is tested in test_check."""

import math

import pytest

from verify.checks import erasure, study
from verify.checks.study import Job, Study
from verify.circuits import Family, Graph
from verify.contract.policy import Policy
from verify.contract.result import CadRow, CheckResult, Erasure
from verify.contract.schema import Estimate
from verify.errors import UndecidedError

POLICY = Policy()
LAYERS, LATE = 30, 22


def near(value: float, half: float = 0.03) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, n=60)


def row(role: str, precision: str, value: float, *, late: bool = False, label: str = "", rho: float = 0.1) -> CadRow:
    return CadRow(
        label=label or role,
        role=role,
        precision=precision,
        from_layer=LATE if late else None,
        cad=near(value),
        rho=near(rho),
        mass=0.5,
        relative_l1=0.5,
    )


def good(*changed: tuple[int, float]) -> Erasure:
    """Return a measurement that meets every rule; `changed` gives rows, by position, another CAD."""
    rows = [
        row("edited", "full", 0.87),
        row("edited", "nf4", 0.86),
        row("edited", "full", 0.7, late=True),
        row("edited", "nf4", 0.69, late=True),
        row("control", "nf4", 0.27, label="base under NF4"),
        row("control", "nf4", 0.26, late=True, label="base under NF4"),
        row("control", "full", 0.3, label="random edit of the same size"),
        row("retain", "full", 0.3),
        row("retain", "nf4", 0.33),
        row("retain control", "nf4", 0.25),
    ]
    for index, value in changed:
        old = rows[index]
        rows[index] = row(old.role, old.precision, value, late=old.from_layer is not None, label=old.label)
    return Erasure(
        pairs=60,
        retain_pairs=40,
        edges=1000,
        circuit_edges=50,
        points=5,
        split_half_floor=0.2,
        completeness_residual=0.03,
        layers=LAYERS,
        late_from=LATE,
        rows=tuple(rows),
        depth=(),
    )


def failing(found: tuple[CheckResult, ...]) -> set[str]:
    return {check.id for check in found if check.status == "fail"}


def test_a_good_measurement_holds() -> None:
    checks = erasure.judge(good(), POLICY)
    assert [check.id for check in checks] == ["MV401", "MV402", "MV406", "MV403", "MV404"]
    assert failing(checks) == set()
    assert all("PASS" not in check.found for check in checks)


@pytest.mark.parametrize(
    ("changed", "ids"),
    [
        ((0, 0.79), {"MV401"}),
        ((1, 0.79), {"MV401"}),
        ((2, 0.59), {"MV402"}),
        ((3, 0.59), {"MV402"}),
        ((4, 0.64), {"MV403"}),  # 0.61 to 0.67 touches the late interval 0.66 to 0.72
        ((6, 0.64), {"MV403"}),
        ((7, 0.41), {"MV404"}),
        ((8, 0.41), {"MV404"}),
        ((8, 0.4), set()),
    ],
)
def test_each_threshold(changed: tuple[int, float], ids: set[str]) -> None:
    assert failing(erasure.judge(good(changed), POLICY)) == ids


@pytest.mark.parametrize(
    ("rules", "changed", "ids"),
    [
        ({"cad_rule": "interval"}, (0, 0.82), {"MV401"}),  # 0.79 to 0.85
        ({"cad_rule": "interval"}, (0, 0.84), set()),
        ({"cad_rule": "interval"}, (3, 0.62), {"MV402"}),
        ({"cad_rule": "overlap"}, (0, 0.78), set()),
        ({"cad_rule": "overlap"}, (0, 0.76), {"MV401"}),
        ({"retain_cad_rule": "interval"}, (8, 0.35), {"MV404"}),  # 0.38 against 0.22 + 0.15
        ({"retain_cad_rule": "interval"}, (8, 0.33), set()),
        ({"retain_cad_rule": "overlap"}, (8, 0.45), set()),  # 0.42 against 0.28 + 0.15
        ({"retain_cad_rule": "overlap"}, (8, 0.47), {"MV404"}),
    ],
)
def test_each_rule(rules: dict[str, object], changed: tuple[int, float], ids: set[str]) -> None:
    assert failing(erasure.judge(good(changed), POLICY.model_copy(update=rules))) == ids


@pytest.mark.parametrize(
    ("rule", "index", "rho", "holds"),
    [
        ("point", 0, 0.25, True),
        ("point", 0, 0.26, False),
        ("point", 1, -0.26, False),
        ("point", 2, 0.9, True),  # the late layers are the base's: CAD says how much may be left
        ("point", 3, -0.26, False),
        ("point", 4, -0.9, True),  # a control
        ("interval", 0, 0.23, False),
        ("interval", 3, -0.23, False),
        ("overlap", 0, 0.27, True),
        ("overlap", 0, -0.29, False),
    ],
)
def test_an_inverted_circuit_is_not_erased(rule: str, index: int, rho: float, holds: bool) -> None:
    measured = good()
    rows = list(measured.rows)
    rows[index] = rows[index].model_copy(update={"rho": near(rho)})
    check = erasure.not_inverted(
        measured.model_copy(update={"rows": tuple(rows)}), POLICY.model_copy(update={"cad_rule": rule})
    )
    assert (check.id, check.status) == ("MV406", "pass" if holds else "fail")


def test_a_control_that_excludes_nothing_decides_nothing() -> None:
    """A retain CAD of 1 is a circuit that is gone: only a policy that asks for nothing (excess 1) lets it pass."""

    def status(policy: Policy) -> str:
        return erasure.retained(good((7, 0.97), (8, 0.97), (9, 0.86)), policy).status

    assert status(POLICY) == "undecided"
    assert status(Policy(retain_cad_excess=0.1)) == "fail"
    assert status(Policy(retain_cad_excess=1.0)) == "pass"


def a_study(edited: frozenset[int]) -> Study:
    every = frozenset(range(LAYERS))
    family = Family(
        architecture="x",
        graph=Graph(layers=LAYERS, heads=9, kv_heads=3),
        vocabulary=1,
        width=1,
        head_dim=1,
        d_ff=1,
        embedding="",
        layers="model.layers",
        final_norm="",
        unembedding="",
        sites=(),
    )
    differs = {"base": frozenset(), "base_nf4": every, "edited": edited, "edited_nf4": every, "random": edited}
    pairs = {"forget": [None] * 60, "half": [None] * 30, "retain": [None] * 60}
    return Study(models={}, family=family, differs=differs, pairs=pairs)  # type: ignore[arg-type]


def test_a_swap_that_changes_nothing_is_not_attributed_again() -> None:
    found = a_study(frozenset(range(4, 20)))
    assert found.needed(Job("edited", 22, "forget")) == Job("edited", LAYERS, "forget")
    assert found.needed(Job("edited", 10, "half")) == Job("edited", 10, "half")
    assert found.needed(Job("edited", 4, "half")) == Job("base", LAYERS, "half")
    assert found.needed(Job("edited_nf4", LAYERS, "half")) == Job("edited_nf4", LAYERS, "half")
    assert found.needed(Job("base_nf4", 22, "half")) == Job("base_nf4", 22, "half")
    sparse = a_study(frozenset({3, 9}))
    assert (
        sparse.needed(Job("edited", 8, "half")) == sparse.needed(Job("edited", 4, "half")) == Job("edited", 4, "half")
    )


@pytest.mark.parametrize("edited", [frozenset(range(22)), frozenset(range(30)), frozenset({12})])
def test_the_plan_costs_what_it_may(edited: frozenset[int]) -> None:
    """In units of 60 pairs: 14 for an edit that spares the late layers, 15.5 for any other."""
    planned = a_study(edited)
    needed = {planned.needed(job) for job in erasure.jobs_of(LAYERS, LATE)}
    to_run = [job for job in needed if job.pairs != "half" or job._replace(pairs="forget") not in needed]
    cost = sum(len(planned.pairs[job.pairs]) for job in to_run) / 60
    assert cost <= (15.5 if max(edited) >= LATE else 14)


def test_depth_layers() -> None:
    assert erasure.depth_layers(30, 22) == (30, 25, 22, 20, 15, 10, 5)
    assert erasure.depth_layers(2, 2) == (2, 1, 0)


def test_the_reference_share_is_the_one_of_the_design() -> None:
    assert study.REFERENCE_SHARE == 0.05


@pytest.mark.parametrize("residual", [math.inf, math.nan])
def test_scores_that_explain_no_difference_decide_nothing(residual: float) -> None:
    erasure.require_signal(0.03)
    with pytest.raises(UndecidedError):
        erasure.require_signal(residual)
