"""The manifest's claims (MV308): every number the producer states comes back when the verifier measures it."""

from collections.abc import Iterable, Mapping

from verify.checks.catalog import decided
from verify.contract.manifest import Claim
from verify.contract.policy import Policy
from verify.contract.result import AxisRow, CheckResult, Erasure
from verify.contract.schema import Estimate

Named = Mapping[tuple[str, str, str], Estimate | None]
"""(axis, row, precision) → what was measured, or None where the evidence did not suffice to measure."""


def measured_claims(rows: Iterable[AxisRow], erasure: Erasure | None) -> Named:
    """Return every number that a manifest must claim, as measured here."""
    named: dict[tuple[str, str, str], Estimate | None] = {}
    for row in rows:
        if row.axis == "ptq_gap":
            named[row.axis, row.row, "difference"] = row.difference_nf4
        else:
            named[row.axis, row.row, "full"] = row.edited
            named[row.axis, row.row, "nf4"] = row.edited_nf4
    named["erasure", "CAD", "full"] = named["erasure", "CAD", "nf4"] = None
    for cad in () if erasure is None else erasure.rows:
        if cad.role == "edited" and cad.from_layer is None:
            named["erasure", "CAD", cad.precision] = cad.cad
    return named


def claims_met(claims: Iterable[Claim], named: Named, perplexities: Iterable[str], policy: Policy) -> CheckResult:
    """MV308: nothing measured goes unclaimed, nothing unmeasured is claimed, and every claim is met.

    `perplexities` names the rows whose tolerance is relative. A number this run could not measure is not held
    against its claim: another check says why it could not.
    """
    relative = set(perplexities)
    made = {(claim.axis, claim.row, claim.precision): claim.estimate for claim in claims}
    wrong = [f"no claim of {_name(key)}" for key in sorted(named.keys() - made.keys())]
    wrong += [f"nothing measured for the claim of {_name(key)}" for key in sorted(made.keys() - named.keys())]
    for key in sorted(made.keys() & named.keys()):
        claimed, actual = made[key], named[key]
        if actual is None:
            continue
        scale = actual.value if key[0] == "retention" and key[1] in relative else 1.0
        if abs(claimed.value - actual.value) > policy.claim_tolerance * scale or claimed.n != actual.n:
            wrong.append(f"{_name(key)}: claimed {claimed.value:.3f} (n {claimed.n}), measured {actual.value:.3f}")
    expected = f"every measured number claimed, within {policy.claim_tolerance:g}, and no other"
    found = "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
    remedy = "reject the certificate: its numbers do not come back"
    return decided("MV308", expected, found or f"{len(made)} claims met", remedy, holds=not wrong)


def _name(key: tuple[str, str, str]) -> str:
    axis, row, precision = key
    return f"{axis} {row!a} ({precision})"
