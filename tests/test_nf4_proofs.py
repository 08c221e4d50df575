"""The theorems come out as stated, their constants are sharp, and a changed number or inequality makes one fail.

What z3 proves of formulas is checked here on the code that runs: monotonicity, casts, drifting scales, fused rows and
compressed statistics, on `verify.nf4` and on bitsandbytes.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import bitsandbytes
import bitsandbytes.functional as bnb
import pytest
import torch
import z3
from hypothesis import given, settings
from hypothesis import strategies as st

from verify.contract.theorems import STATEMENTS, Theorem
from verify.nf4 import LEVELS, THRESHOLDS, quantize
from verify.nf4.proofs import PROVERS, Codebook, drift, float32, layout, logic, moves, prove_all
from verify.nf4.rows import ROW_IDS
from verify.nf4.survival import floor_targets

BOOK = Codebook.current()
MARGIN = float(logic.MARGIN)
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
SAFE = {"bfloat16": 0.0072716, "float16": 0.00090904}
"""T9's margins, rounded up."""


@pytest.fixture(scope="module")
def theorems() -> dict[str, Theorem]:
    return {theorem.statement.id: theorem for theorem in prove_all()}


def status(theorem_id: str, book: Codebook = BOOK) -> str:
    (theorem,) = prove_all(book, ids=[theorem_id])
    return theorem.status


def test_every_statement_has_a_prover_and_a_known_row() -> None:
    assert [statement.id for statement in STATEMENTS] == [f"T{i}" for i in range(1, 13)] == list(PROVERS)
    assert {row for statement in STATEMENTS for row in statement.rows} == set(ROW_IDS)
    assert {statement.id for statement in STATEMENTS if statement.expected == "refuted"} == {"T1", "T3"}


def test_all_come_out_as_stated(theorems: dict[str, Theorem]) -> None:
    assert {theorem.statement.id: theorem.counterexample for theorem in theorems.values() if not theorem.holds} == {}
    assert all(theorem.seconds > 0 and theorem.method for theorem in theorems.values())
    assert all(theorems[name].counterexample for name in ("T1", "T2", "T3", "T4", "T8", "T9"))


def test_constants_are_those_that_the_documentation_names(theorems: dict[str, Theorem]) -> None:
    documented = (Path(__file__).parent.parent / "docs" / "theorems.md").read_text(encoding="utf-8")
    found = {name: dict(theorem.constants) for name, theorem in theorems.items()}
    assert found["T1"] == {"cells with a counterexample": "16 of 16"}
    assert found["T3"] == {"cells with a counterexample": "2 of 2"}
    assert found["T2"]["more than half a bin by"] == "0.861479 · 2⁻²³"
    assert found["T4"]["more than a bin by"] == "1.504265 · 2⁻²³"
    assert found["T5"]["half the smallest spacing"] == "0.0397901"
    assert found["T5"]["margin in bfloat16"] == "0.0394793"
    assert found["T5"]["margin in float16"] == "0.0393019"
    assert found["T6"]["at m = 2⁻⁷"] == "0.00906859"
    assert found["T7"]["smallest s̃/s for realised"] == "0.693852"
    assert found["T7"]["error of s̃, in the largest |s − mean| of its 256"] == "0.00710157"
    assert found["T9"]["margin above which bfloat16 is safe"] == "0.0072715"
    assert found["T9"]["margin at which a block in bfloat16 crosses"] == "0.00662669"
    assert found["T9"]["margin above which float16 is safe"] == "0.000909028"
    assert found["T10"]["largest |w/s − t|/|t| with another code than w/s"] == "0.991395 · 2⁻²³"
    assert found["T11"]["relative error tolerated at m = 2⁻⁷"] == "0.00898721"
    assert found["T12"]["margins up to"] == "0.0393019"
    for name in ("T2", "T4", "T5", "T6", "T7", "T9", "T10", "T11", "T12"):
        for value in found[name].values():
            number = re.match(r"0\.\d{4,}", value)
            assert number is None or number.group() in documented, f"{name}: {value}"


# A changed number or inequality


def moved(values: tuple[Fraction, ...], index: int, ulps: int) -> tuple[Fraction, ...]:
    bits = torch.tensor([float(value) for value in values]).view(torch.int32)
    bits[index] += ulps
    return logic.exact(bits.view(torch.float32))


@pytest.mark.parametrize("ulps", [-1, 1])
@pytest.mark.parametrize(("name", "count"), [("levels", 16), ("thresholds", 15), ("widths", 16)])
def test_no_number_of_the_codebook_may_move_by_an_ulp(name: str, count: int, ulps: int) -> None:
    for index in range(count):
        if name == "levels" and index == 7:
            continue  # zero has no ulp of its own size
        assert status("T11", replace(BOOK, **{name: moved(getattr(BOOK, name), index, ulps)})) == "refuted", index


@pytest.mark.parametrize("index", range(16))
def test_a_wrong_width_breaks_the_whole_bin(index: int) -> None:
    widths = list(BOOK.widths)
    widths[index] *= Fraction(99, 100)
    assert status("T4", replace(BOOK, widths=tuple(widths))) == "refuted"


def test_a_level_next_to_another_breaks_snapping() -> None:
    levels = list(BOOK.levels)
    levels[9] = levels[8] + Fraction(1, 100)
    assert status("T5", replace(BOOK, levels=tuple(levels))) == "refuted"


@pytest.mark.parametrize("index", range(15))
def test_a_threshold_off_its_place_breaks_snapping_or_the_widths(index: int) -> None:
    thresholds = list(BOOK.thresholds)
    thresholds[index] += Fraction(1, 200)
    book = replace(BOOK, thresholds=tuple(thresholds))
    assert status("T4", book) != "proved"


def sampled_scales(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(float32, "mantissas", lambda: iter([float32.sampled(2**14)]))


def test_a_sample_of_the_scales_decides_as_all_do(monkeypatch: pytest.MonkeyPatch) -> None:
    sampled_scales(monkeypatch)
    assert status("T10") == "proved"


@pytest.mark.parametrize(
    ("theorem", "module", "name", "value"),
    [
        ("T10", float32, "ROUNDING", Fraction(1, 2**24)),
        ("T10", float32, "ROUNDING", Fraction(1, 2**22)),
        ("T10", float32, "_NEAR", 1),
        ("T2", moves, "reach", lambda threshold: threshold),
        ("T2", moves, "foot", lambda threshold: threshold * 2),
        ("T4", moves, "reach", lambda threshold: threshold),
        ("T4", moves, "foot", lambda threshold: threshold),
        ("T5", moves, "MARGIN", Fraction(4, 100)),
        ("T6", drift, "ROUNDING", Fraction(0)),
        ("T6", drift, "ROUNDING", Fraction(1, 2**22)),
        ("T7", layout, "REALISED", Fraction(693, 1000)),
        ("T9", drift, "MARGIN", Fraction(1, 2**8)),
        ("T9", drift, "UNIT_ROUNDOFF", {"bfloat16": Fraction(1, 2**7), "float16": Fraction(1, 2**11)}),
        ("T9", drift, "ROUNDING", Fraction(0)),
        ("T11", drift, "BACKENDS", (("another", Fraction(1, 2**20)),)),
        ("T11", drift, "BACKEND_ERROR", Fraction(1, 2**23)),
        ("T11", drift, "FLUSHED", Fraction(1, 2**4)),
        ("T12", moves, "SLACK", Fraction(1)),
        ("T12", moves, "SLACK", 1 + Fraction(1, 2**6)),
        ("T12", moves, "SLACK", 1 + Fraction(1, 2**4)),
    ],
)
def test_a_changed_constant_fails_its_theorem(
    theorems: dict[str, Theorem],
    monkeypatch: pytest.MonkeyPatch,
    theorem: str,
    module: object,
    name: str,
    value: object,
) -> None:
    assert theorems[theorem].status == "proved"
    sampled_scales(monkeypatch)
    monkeypatch.setattr(module, name, value)
    assert status(theorem) == "refuted"


def upper_code_on_a_threshold(weight: torch.Tensor) -> torch.Tensor:
    scaled = weight.reshape(-1, 64) * (1.0 / weight.reshape(-1, 64).abs().amax(dim=1, keepdim=True))
    return torch.bucketize(scaled, THRESHOLDS, right=True)


def thresholds_an_ulp_up(weight: torch.Tensor) -> torch.Tensor:
    scaled = weight.reshape(-1, 64) * (1.0 / weight.reshape(-1, 64).abs().amax(dim=1, keepdim=True))
    return torch.bucketize(scaled, torch.nextafter(THRESHOLDS, torch.ones(15)))


def division(weight: torch.Tensor) -> torch.Tensor:
    return torch.bucketize(weight.reshape(-1, 64) / weight.reshape(-1, 64).abs().amax(dim=1, keepdim=True), THRESHOLDS)


@pytest.mark.parametrize("codes", [upper_code_on_a_threshold, thresholds_an_ulp_up, division])
def test_another_quantizer_fails_the_lemma(
    monkeypatch: pytest.MonkeyPatch, codes: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    sampled_scales(monkeypatch)

    class Codes:
        def __init__(self, weight: torch.Tensor) -> None:
            self.codes = codes(weight).reshape(weight.shape)

    monkeypatch.setattr(float32, "quantize", Codes)
    monkeypatch.setattr(logic, "quantize", Codes)
    assert status("T10") == "refuted"


def test_cells_in_formulas_are_the_quantizers_cells() -> None:
    points = [point for t in THRESHOLDS for point in (t, torch.nextafter(t, t + 1), torch.nextafter(t, t - 1))]
    values = [Fraction(float(point)) for point in points]
    for value, code in zip(values, logic.replayed(values), strict=True):
        within = [k for k in range(16) if z3.is_true(z3.simplify(logic.in_cell(BOOK, logic.number(value), k)))]
        assert within == [code]


def test_a_solver_that_gives_up_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(z3.Solver, "check", lambda _: z3.unknown)
    found = prove_all(ids=["T1", "T2", "T6", "T8"])
    assert {theorem.status for theorem in found} == {"undecided"}
    assert not any(theorem.holds for theorem in found)


def test_a_counterexample_that_does_not_replay_refutes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "replayed", lambda values: list(range(len(values))))
    assert status("T1") == "undecided"
    monkeypatch.undo()
    with pytest.raises(logic.UndecidedError, match="float32"):
        logic.replayed([Fraction(1, 3)])


# The code that runs


@given(
    scale=st.floats(2.0**-121, 2.0**126, width=32),
    shares=st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=30),
    ulps=st.integers(1, 3),
    short=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_codes_do_not_fall_as_values_rise(scale: float, shares: list[float], ulps: int, short: bool) -> None:
    s = torch.tensor(scale)
    near = THRESHOLDS * s
    values = torch.cat([torch.tensor(shares) * s, near, (near.view(torch.int32) + ulps).view(torch.float32)])
    values = values.clamp(-s, s).sort().values[:62]
    scaled = values / s if short else values * (1.0 / s)
    assert bool((scaled.diff() >= 0).all())
    block = torch.cat([s[None], values]) if short else torch.cat([s[None], values, torch.zeros(63 - values.numel())])
    codes = quantize(block).codes[1 : values.numel() + 1].int()
    assert bool((codes.diff() >= 0).all())


@given(exponent=st.integers(-121, 125), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_powers_of_two_factor_out_so_that_one_binade_decides_all_scales(exponent: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scales = 1 + torch.rand(8, 1, generator=generator)
    near = float32.neighbours(scales, 1.0, 0) * THRESHOLDS[torch.randint(15, (8, 63), generator=generator)]
    near = (near.view(torch.int32) + torch.randint(-3, 4, (8, 63), generator=generator).int()).view(torch.float32)
    block = torch.cat([scales, near], dim=1)
    assert torch.equal(quantize(block).codes, quantize(block * 2.0**exponent).codes)


def test_a_scale_below_the_covered_ones_is_not_covered() -> None:
    tiny = torch.zeros(64)
    tiny[:2] = torch.tensor([2.0**-130, 2.0**-130 * 0.75])
    assert quantize(tiny).codes[1] != quantize(tiny * 2.0**100).codes[1]


def away(scaled: torch.Tensor, margin: float) -> torch.Tensor:
    return ((scaled[..., None] - THRESHOLDS.double()).abs() >= margin).all(dim=-1)


@pytest.mark.parametrize("name", DTYPES)
@given(seed=st.integers(0, 10**6), exponent=st.integers(-14, 14))
@settings(max_examples=60, deadline=None)
def test_casts_keep_codes_beyond_the_safe_margin(name: str, seed: int, exponent: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scale = (1 + torch.rand(1, generator=generator)) * 2.0**exponent
    block = torch.cat([scale, (torch.rand(6399, generator=generator) * 2 - 1) * scale]).reshape(100, 64)
    block[:, 0] = scale
    kept = away(block.double() / scale.double(), SAFE[name])
    assert int(kept.sum()) > 1000
    assert torch.equal(quantize(block).codes[kept], quantize(block.to(DTYPES[name])).codes[kept])


@given(seed=st.integers(0, 10**6), drifted=st.floats(-0.99, 0.99))
@settings(max_examples=60, deadline=None)
def test_scales_may_drift_as_far_as_the_theorem_says(seed: int, drifted: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    block = torch.rand(64, generator=generator) * 1.96 - 0.98
    block[0] = 1.0
    other = block.clone()
    other[0] = 1 + drifted * 0.00906859
    kept = away(block.double(), MARGIN)
    kept[0] = False
    assert torch.equal(quantize(block).codes[kept], quantize(other).codes[kept])


@given(
    rows=st.lists(st.integers(1, 4), min_size=2, max_size=3),
    blocks=st.integers(1, 3),
    size=st.sampled_from([2, 32, 64, 128]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_fused_rows_keep_their_blocks(rows: list[int], blocks: int, size: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(count, blocks * size, generator=generator) * 10.0**i for i, count in enumerate(rows)]
    fused, apart = quantize(torch.cat(parts), block_size=size), [quantize(part, block_size=size) for part in parts]
    assert torch.equal(fused.codes, torch.cat([part.codes for part in apart]))
    assert torch.equal(fused.absmax, torch.cat([part.absmax for part in apart]))


@given(seed=st.integers(0, 10**6), spread=st.floats(0, 8), dtype=st.sampled_from([torch.float32, *DTYPES.values()]))
@settings(max_examples=40, deadline=None)
def test_compressed_statistics_change_no_code_and_err_as_stated(seed: int, spread: float, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.exp(spread * torch.rand(300, 1, generator=generator))
    weight = (torch.randn(300, 64, generator=generator) * rows * 0.01).to(dtype)
    plain, state = bnb.quantize_4bit(weight, quant_type="nf4")
    compressed, nested = bnb.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    assert torch.equal(plain, compressed)
    packed = quantize(weight).codes.reshape(-1, 2)
    assert torch.equal((packed[:, 0] << 4 | packed[:, 1])[:, None], plain)
    stored = bnb.dequantize_blockwise(nested.absmax, nested.state2) + nested.offset
    deviation = (state.absmax - nested.offset).abs()
    largest = torch.cat([deviation[i : i + 256].max().expand_as(deviation[i : i + 256]) for i in (0, 256)])
    assert bool(((stored - state.absmax).abs() <= 0.00710157 * largest + 1e-7).all())


def test_the_cited_thresholds_are_in_the_triton_kernel() -> None:
    source = (Path(bitsandbytes.__file__).parent / "backends" / "triton" / "kernels_4bit.py").read_text()
    kernel = source[source.index("def quantize_nf4_blockwise_kernel") :]
    kernel = kernel[: kernel.index("tl.store(out_ptr")]
    found = sorted(float(text) for text in re.findall(r"A_normalized > (-?[\d.]+)", kernel))
    assert found == list(drift.KERNEL_THRESHOLDS)
    assert "A_normalized = A_reshaped / absmax[:, None]" in kernel


# The engine's rule


def offered(code: int, x: float, slack: Fraction) -> list[bool]:
    def holds(target: int) -> bool:
        rule = moves.selected(BOOK, code, target, logic.number(Fraction(x)), logic.number(logic.MARGIN), slack=slack)
        return z3.is_true(z3.simplify(rule))

    return [1 <= target <= 14 and holds(target) for target in range(16)]


@given(mantissa=st.integers(-255, 255))
@settings(max_examples=100, deadline=None)
def test_the_engines_rule_is_the_proved_one_up_to_its_slack(mantissa: int) -> None:
    x = torch.tensor([mantissa / 256])
    code = int(quantize(torch.cat([torch.ones(1), x, torch.zeros(62)])).codes[1])
    found = floor_targets(x, torch.ones(1), torch.tensor([code]), margin=MARGIN)[0].tolist()
    proved, least = offered(code, float(x), moves.SLACK), offered(code, float(x), 1 + Fraction(1, 2**6))
    assert all(ours for ours, wanted in zip(found, proved, strict=True) if wanted)
    assert all(allowed for ours, allowed in zip(found, least, strict=True) if ours)


def test_the_engines_rule_leaves_room_for_rounding_to_bfloat16() -> None:
    base, scale = torch.tensor([0.625]), torch.tensor([1.21875])
    code = torch.tensor([13])
    target = (LEVELS[12] * scale).bfloat16().double()
    half_bin = scale.double() * float(BOOK.widths[13]) / 2
    assert bool((target - base.double()).abs() < half_bin)
    assert not bool(floor_targets(base, scale, code, margin=MARGIN)[0, 12])
