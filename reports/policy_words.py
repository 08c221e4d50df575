"""A policy in words: its thresholds and what they mean, which side of an interval counts, and where it is from."""

from pydantic import BaseModel

from verify.contract.policy import Policy
from verify.contract.result import Result

RULE = "side of the 95 % interval that counts: point (none), interval (the worse end), overlap (the better end)"

THRESHOLDS = {
    "level": "level of checks, at least",
    "trusted_keys": "the only keys whose signature counts",
    "bases": "the rebuilt base must be one of these",
    "profiles": "deployment profiles that must be claimed",
    "maximum_age_days": "age of the manifest in days, at most",
    "minimum_sequence": "sequence number of the manifest, at least",
    "pre_registered": "the manifest must have committed to this policy",
    "minimum_probes": "probes a behavioural row needs, at least",
    "minimum_masked": "masked values, at least",
    "block_size": "block size that a profile must have",
    "minimum_pairs": "prompt pairs CAD needs, at least",
    "margin": "distance to the nearest threshold, in units of the block's absmax, at least",
    "maximum_changed": "share of the parameters that may change",
    "forget_accuracy": "accuracy on the forget set, at most",
    "forget_rule": f"accuracy on the forget set: {RULE}",
    "base_knows": "accuracy of the base on the forget set, at least",
    "retention_loss": "loss of accuracy on any retention row, at most",
    "retention_rule": f"retention: {RULE}",
    "perplexity_rise": "relative rise of perplexity, at most",
    "perplexity_rule": f"perplexity: {RULE}",
    "ptq_gap": "forget accuracy in NF4 minus full precision, at most",
    "ptq_gap_rule": f"PTQ gap: {RULE}",
    "cad": "CAD of the edited model, at least",
    "cad_late": "CAD with the reference read-out and late layers, at least",
    "rho": "ρ of the edited model, within ±",
    "cad_rule": f"CAD: {RULE}",
    "late_layers": "share of the layers that counts as late",
    "retain_cad_excess": "CAD on the retain set above its control, at most",
    "retain_cad_rule": f"CAD on the retain set, against its control's near end: {RULE}",
    "claim_tolerance": "distance of a claimed number from the measured one, at most",
}

PRE_REGISTRATION = {
    "to this policy": "yes: the signed manifest committed to this policy",
    "to another policy": "no: the signed manifest committed to ANOTHER policy than this one",
    "to none": "no: the signed manifest committed to no policy",
    "not established": "not established: no valid signature vouches for the manifest",
}


def rules(policy: Policy) -> list[tuple[str, str]]:
    """Return which side of an interval counts, and for which numbers."""
    names = {
        "forget_rule": "forgetting",
        "retention_rule": "retention",
        "perplexity_rule": "perplexity",
        "ptq_gap_rule": "PTQ gap",
        "cad_rule": "CAD",
        "retain_cad_rule": "CAD on the retain set",
    }
    sides = dict.fromkeys(getattr(policy, field) for field in names)
    return [
        (side, ", ".join(name for field, name in names.items() if getattr(policy, field) == side)) for side in sides
    ]


def thresholds(policy: Policy) -> list[tuple[str, str, str]]:
    """Return the policy as (field, value, meaning)."""
    return [(field, _policy_value(getattr(policy, field)), meaning) for field, meaning in THRESHOLDS.items()]


def _policy_value(value: object) -> str:
    match value:
        case None:
            text = "not required"
        case bool():
            text = "yes" if value else "no"
        case float():
            text = f"{value:g}"
        case tuple():
            text = "; ".join(map(_policy_value, value)) or "none"
        case dict():
            text = ", ".join(f"{name} {_policy_value(item)}" for name, item in value.items() if item is not None)
        case BaseModel():  # a key, a base, a profile
            text = _policy_value(value.model_dump())
        case _:
            text = str(value)
    return text


def policy_origin(result: Result) -> str:
    """Return where the policy came from, with its digest."""
    return f"{result.policy_source}, SHA-256 {result.policy_sha256}"
