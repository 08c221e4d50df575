"""What the report shows of permanence, and the margins of its rules. Violations are made in tests/attacks."""

import certificates as c
import numpy as np
import pytest

from verify.check import check
from verify.checks import permanence
from verify.contract.policy import Policy
from verify.contract.result import Permanence, Result
from verify.nf4.rows import FINE, UPDATE_BINS


def run(made: c.Certificate, policy: Policy) -> Result:
    return check(made.model, made.manifest, keys=[made.keys.public], level="static", policy=policy)


def shown(made: c.Certificate) -> tuple[Permanence, ...]:
    return run(made, Policy()).permanence


def test_one_summary_a_profile_and_their_rows_agree(tiny_certificate: c.Certificate) -> None:
    plain, double = shown(tiny_certificate)
    assert "float32" in plain.profile
    assert "double" in double.profile
    assert plain.model_copy(update={"profile": double.profile}) == double


def test_every_masked_value_is_counted_everywhere(tiny_certificate: c.Certificate) -> None:
    profile, _ = shown(tiny_certificate)
    masked = sum(indices.numel() for indices, _ in tiny_certificate.edits.values())
    assert profile.masked == masked
    assert [row.satisfied for row in profile.rows] == [masked] * 5
    assert sum(profile.update_in_half_bins.counts) == masked
    assert sum(profile.margin.counts) == masked
    assert sum(profile.codes_before) == sum(profile.codes_after) == masked
    assert {entry.tensor: entry.masked for entry in profile.tensors} == {
        name: indices.numel() for name, (indices, _) in tiny_certificate.edits.items()
    }
    assert profile.update_in_half_bins.counts[0] == profile.update_in_half_bins.counts[1] == 0
    assert profile.codes_after[0] == profile.codes_after[15] == 0
    assert profile.changed_share == masked / profile.parameters
    assert profile.bin_width_over_update * profile.median_update_in_bins == 1
    assert profile.quantized_parameters == sum(w.numel() for w in c.linear_weights(tiny_certificate.base).values())


def test_thresholds_are_the_policys(tiny_certificate: c.Certificate) -> None:
    masked = sum(indices.numel() for indices, _ in tiny_certificate.edits.values())
    for policy, failing in (
        (Policy(minimum_masked=masked), set()),
        (Policy(minimum_masked=masked + 1), {"MV210"}),
        (Policy(maximum_changed=masked / 80_128), set()),
        (Policy(maximum_changed=(masked - 1) / 80_128), {"MV209"}),
        (Policy(margin=0.5), {"MV205"}),
    ):
        assert {entry.id for entry in run(tiny_certificate, policy).checks if entry.status == "fail"} == failing


def test_an_update_of_nothing_still_has_finite_numbers(certificate: c.Certificate) -> None:
    for name, (indices, _) in certificate.edits.items():
        for index, base in zip(indices.tolist(), c.entries_of(certificate)[name].base, strict=True):
            c.poke(certificate, name, index, base)
    c.sign(certificate, c.digests_of(certificate.base))
    result = run(certificate, Policy())
    assert result.verdict == "FAIL"
    profile = result.permanence[0]
    assert [row.violated for row in profile.rows] == [24, 24, 24, 24, 0]
    assert "flat index" in profile.rows[0].first_violation
    assert profile.bin_width_over_update == pytest.approx(1e9)


def test_the_median_is_that_of_the_fine_histogram() -> None:
    updates = np.zeros(UPDATE_BINS, np.int64)
    updates[[FINE, 2 * FINE, 3 * FINE]] = (1, 3, 1)
    assert permanence._median(updates) == 2
    assert permanence._median(np.zeros(1, np.int64)) == 0


def test_histograms_join_fine_bins() -> None:
    found = permanence._histogram(np.arange(8), 4, 0.5)
    assert (found.edges, found.counts) == ((0.0, 0.5, 1.0), (6, 22))
