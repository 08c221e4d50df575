"""The policy's own requirements (MV5xx): level, base, profiles, age, sequence, pre-registration, probes, signer.

Thresholds are read by the checks that measure. Here is what a certificate must *be*: what is required and missing
fails, and is never skipped. Without a requirement a check holds and says that nothing was required.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from verify.artefact import shown
from verify.checks.catalog import decided, passed
from verify.checks.evidence import Evidence, abbreviated
from verify.checks.permanence import named
from verify.contract.manifest import Predicate, Profile
from verify.contract.policy import AllowedBase, Policy
from verify.contract.result import CheckResult, Level, PreRegistration, Trust

SKEW = timedelta(minutes=5)
"""How far the signer's clock may be ahead of the verifier's."""

_LEVELS: tuple[Level, ...] = ("static", "full", "own-probes")
_LEVEL_WORDS: Mapping[Level, str] = {
    "static": "static checks",
    "full": "full checks",
    "own-probes": "full checks on probes of the auditor's own",
}
_STORED_CASTS = {"BF16": "bf16", "F16": "fp16"}
# RFC 3339, with the offset: a local time without one is no moment
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII)


def of_manifest(
    predicate: Predicate, trust: Trust, policy: Policy, level: Level, now: datetime
) -> tuple[CheckResult, ...]:
    """Return what can be told from the manifest alone; `now` is the verifier's clock, with its offset."""
    checks = (
        far_enough(policy, level),
        young_enough(predicate.created, policy, now),
        in_sequence(predicate.sequence, policy),
        committed(predicate.policy_sha256, policy),
        trusted_signer(trust, policy),
    )
    return checks if level == "own-probes" else (*checks, producers_probes(policy, level))


def of_weights(evidence: Evidence, policy: Policy) -> tuple[CheckResult, ...]:
    """Return what needs the weights: whether the base is allowed, and the required profiles are claimed."""
    actual = {file.name: file.sha256 for file in evidence.statement.predicate.base.files}
    profiles = evidence.statement.predicate.profiles
    return (
        allowed_base(actual, evidence.scan.base_sha256, policy),
        required_profiles(profiles, evidence.stored, policy),
    )


def far_enough(policy: Policy, level: Level) -> CheckResult:
    """MV501: the checks that were run are at least those that the policy requires."""
    expected = f"{_LEVEL_WORDS[policy.level]}, or more"
    remedy = {
        "static": "",
        "full": "run it without --checks static",
        "own-probes": "run it with --probes and a folder of your own probes",
    }[policy.level]
    holds = _LEVELS.index(level) >= _LEVELS.index(policy.level)
    return decided("MV501", expected, _LEVEL_WORDS[level], remedy, holds=holds)


def allowed_base(claimed: Mapping[str, str], rebuilt: Mapping[str, str], policy: Policy) -> CheckResult:
    """MV502: one entry of the policy names every rebuilt weight file, and every file it names is the base's.

    `claimed` are the base's files by the manifest, which MV107 and MV108 compare with what is there; `rebuilt` the
    digests of the rebuilt weights. Entries are not mixed: shards of two allowed bases are no allowed base.
    """
    if policy.bases is None:
        return passed("MV502", "any base", "the policy names no base")
    expected = f"one of {len(policy.bases)} allowed bases: {abbreviated([base.name for base in policy.bases])}"
    remedy = "reject the certificate, or add this base to a policy of yours"
    actual = {**claimed, **rebuilt}
    for base in policy.bases:
        if not list(_differences(base, actual, rebuilt)):
            return passed("MV502", expected, shown(base.name))
    closest = min(policy.bases, key=lambda base: len(list(_differences(base, actual, rebuilt))))
    found = f"another base; from {shown(closest.name)} differs: {next(_differences(closest, actual, rebuilt))}"
    return decided("MV502", expected, found, remedy, holds=False)


def _differences(base: AllowedBase, actual: Mapping[str, str], weights: Iterable[str]) -> Iterator[str]:
    """Yield in words what keeps a base from being the allowed one."""
    for name in weights:
        if name not in base.files:
            yield f"{shown(name)}, a weight file that the policy does not name"
    for name, digest in base.files.items():
        if actual.get(name) != digest:
            yield f"{shown(name)} has {actual.get(name, 'no such file')}"


def required_profiles(claimed: Iterable[Profile], stored: str, policy: Policy) -> CheckResult:
    """MV503: every profile of the policy is claimed, and so examined; a cast to the stored type is no cast."""
    if policy.profiles is None:
        return passed("MV503", "any profiles", "the policy names no profile")
    have = {_key(profile, stored) for profile in claimed}
    missing = [named(profile) for profile in policy.profiles if _key(profile, stored) not in have]
    expected = f"every profile that the policy requires is claimed: {len(policy.profiles)}"
    found = f"not claimed: {'; '.join(missing[:3])}" + (f"; and {len(missing) - 3} more" if len(missing) > 3 else "")
    remedy = "reject the certificate: it says nothing of a deployment that you require"
    return decided("MV503", expected, found if missing else "all claimed", remedy, holds=not missing)


def _key(profile: Profile, stored: str) -> tuple[object, ...]:
    """Return what tells two profiles apart, for weights stored in a dtype."""
    cast = "none" if profile.cast == _STORED_CASTS.get(stored) else profile.cast
    skip = None if profile.skip is None else frozenset(profile.skip)
    return profile.quant_type, profile.block_size, profile.double_quant, cast, skip


def young_enough(created: str, policy: Policy, now: datetime) -> CheckResult:
    """MV504: the manifest's date, which is the signer's word, lies within the policy's age and not in the future."""
    if policy.maximum_age_days is None:
        return passed("MV504", "any age", f"{shown(created)}, by the signer's word; the policy sets no limit")
    expected = f"made at most {policy.maximum_age_days:g} days before {now:%Y-%m-%d}, and not after"
    remedy = "ask the producer for a certificate made lately"
    made = moment(created)
    if made is None:
        return decided("MV504", expected, f"no date with a time and an offset: {shown(created)}", remedy, holds=False)
    age = now - made
    holds = -SKEW <= age <= timedelta(days=policy.maximum_age_days)
    days = age / timedelta(days=1)
    words = f"{days:,.1f} days before" if age >= timedelta(0) else f"{-days:,.3g} days in the future"
    return decided("MV504", expected, f"{shown(created)}: {words}", remedy, holds=holds)


def moment(text: str) -> datetime | None:
    """Return the moment that an RFC 3339 timestamp names, or None where it names none."""
    if not _MOMENT.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:  # the form of a date, but not one
        return None


def in_sequence(sequence: int, policy: Policy) -> CheckResult:
    """MV505: an older manifest of the same signer is not played again."""
    expected = f"sequence number at least {policy.minimum_sequence}"
    remedy = "use the producer's latest certificate: this one was superseded"
    return decided("MV505", expected, str(sequence), remedy, holds=sequence >= policy.minimum_sequence)


def pre_registration(committed_to: str | None, policy: Policy, trust: Trust) -> PreRegistration:
    """Return what policy the manifest committed to; without a valid signature nobody committed to anything."""
    if trust.signature != "valid":
        return "not established"
    if committed_to is None:
        return "to none"
    return "to this policy" if committed_to == policy.sha256() else "to another policy"


def committed(committed_to: str | None, policy: Policy) -> CheckResult:
    """MV506: the manifest committed to this policy, if the policy demands so; otherwise it only says what it did."""
    expected = f"a commitment to policy {policy.sha256()}" if policy.pre_registered else "no commitment required"
    found = "no commitment" if committed_to is None else f"a commitment to policy {committed_to}"
    remedy = "judge it by the policy it committed to, or ask for a certificate that commits to this one"
    holds = committed_to == policy.sha256() or not policy.pre_registered
    return decided("MV506", expected, found, remedy, holds=holds)


def producers_probes(policy: Policy, level: Level) -> CheckResult:
    """MV507 without probes of the auditor's own: they must not be required."""
    expected = "probes of the auditor's own" if policy.level == "own-probes" else "any probes"
    found = "no probes were used" if level == "static" else "the producer's probes"
    remedy = "run it with --probes and a folder of your own probes"
    return decided("MV507", expected, found, remedy, holds=policy.level != "own-probes")


def trusted_signer(trust: Trust, policy: Policy) -> CheckResult:
    """MV508: whoever signed is listed in the policy, however the signature was verified."""
    if policy.trusted_keys is None:
        return passed("MV508", "any key that the user gave", "the policy names no key")
    listed = [entry.fingerprint for entry in policy.trusted_keys]
    signer = trust.key_fingerprint if trust.signature == "valid" else None
    found = f"signed by {signer}" if signer else f"the signature is {trust.signature}"
    remedy = "reject the certificate: no key that the policy trusts signed it"
    return decided("MV508", f"signed by {' or '.join(listed)}", found, remedy, holds=signer in listed)
