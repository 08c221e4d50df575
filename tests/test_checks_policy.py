"""What a policy requires of a certificate: whatever is missing fails, and nothing that is required is skipped."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verify.checks import policy as p
from verify.contract.manifest import Profile
from verify.contract.policy import AllowedBase, Policy, TrustedKey
from verify.contract.result import Trust

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
A, B, C = "a" * 64, "b" * 64, "c" * 64


# --- MV501 and MV507: how far the checks went ------------------------------------------------------------------------


@pytest.mark.parametrize("required", ["static", "full", "own-probes"])
@pytest.mark.parametrize("made", ["static", "full", "own-probes"])
def test_a_level_holds_for_itself_and_those_below(required: str, made: str) -> None:
    order = ["static", "full", "own-probes"]
    found = p.far_enough(Policy(level=required), made)
    assert (found.status == "pass") == (order.index(made) >= order.index(required))
    assert found.status in {"pass", "fail"}
    if found.status == "fail":
        assert found.remedy


def test_own_probes_that_are_required_and_not_given_fail_twice() -> None:
    policy = Policy(level="own-probes")
    for level in ("static", "full"):
        assert p.far_enough(policy, level).status == "fail"
        assert p.producers_probes(policy, level).status == "fail"
        assert p.producers_probes(Policy(level="full"), level).status == "pass"


# --- MV502: the base --------------------------------------------------------------------------------------------------

ONE = AllowedBase(name="one", files={"1.safetensors": A, "2.safetensors": B})
TWO = AllowedBase(name="two", files={"1.safetensors": B, "2.safetensors": C})


def base_status(policy: Policy, rebuilt: dict[str, str], others: dict[str, str] | None = None) -> str:
    return p.allowed_base({**rebuilt, **(others or {})}, rebuilt, policy).status


def test_a_base_is_one_of_those_allowed() -> None:
    policy = Policy(bases=(ONE, TWO))
    assert base_status(policy, dict(ONE.files)) == "pass"
    assert base_status(policy, dict(TWO.files)) == "pass"
    assert base_status(Policy(), {"x": A}) == "pass"
    assert base_status(policy, {"1.safetensors": A, "2.safetensors": A}) == "fail"


def test_shards_of_two_allowed_bases_are_no_allowed_base() -> None:
    assert base_status(Policy(bases=(ONE, TWO)), {"1.safetensors": A, "2.safetensors": C}) == "fail"


@pytest.mark.parametrize(
    "rebuilt",
    [
        {"1.safetensors": A},
        {"1.safetensors": A, "2.safetensors": B, "3.safetensors": C},
        {"model.safetensors": A},
        {"1.safetensors": B, "2.safetensors": A},
        {},
    ],
)
def test_files_too_few_too_many_or_under_another_name_are_no_allowed_base(rebuilt: dict[str, str]) -> None:
    assert base_status(Policy(bases=(ONE,)), rebuilt) == "fail"


def test_other_files_that_are_named_must_be_the_bases() -> None:
    named = AllowedBase(name="x", files={**ONE.files, "config.json": C})
    policy = Policy(bases=(named,))
    assert base_status(policy, dict(ONE.files), {"config.json": C, "README.md": A}) == "pass"
    assert base_status(policy, dict(ONE.files), {"config.json": A}) == "fail"
    assert base_status(policy, dict(ONE.files)) == "fail"


def test_rebuilt_weights_count_more_than_what_the_manifest_says_of_them() -> None:
    found = p.allowed_base(ONE.files, {"1.safetensors": A, "2.safetensors": C}, Policy(bases=(ONE,)))
    assert found.status == "fail"
    assert C in found.found


# --- MV503: profiles --------------------------------------------------------------------------------------------------


def profiles_status(required: Profile, *claimed: Profile, stored: str = "BF16") -> str:
    return p.required_profiles(claimed, stored, Policy(profiles=(required,))).status


@pytest.mark.parametrize(
    "other",
    [
        Profile(block_size=128),
        Profile(double_quant=True),
        Profile(cast="fp16"),
        Profile(skip=()),
        Profile(skip=("lm_head",)),
    ],
)
def test_a_required_profile_must_be_claimed_as_it_is(other: Profile) -> None:
    assert profiles_status(Profile(), Profile()) == "pass"
    assert profiles_status(other, other, Profile()) == "pass"
    assert profiles_status(Profile(), other) == "fail"
    assert profiles_status(other, Profile()) == "fail"
    assert profiles_status(other) == "fail"


def test_all_required_profiles_must_be_claimed() -> None:
    policy = Policy(profiles=(Profile(), Profile(double_quant=True)))
    assert p.required_profiles([Profile()], "BF16", policy).status == "fail"
    assert p.required_profiles([Profile(double_quant=True), Profile()], "BF16", policy).status == "pass"
    assert p.required_profiles([], "BF16", Policy()).status == "pass"


def test_a_cast_to_the_stored_type_is_no_cast() -> None:
    assert profiles_status(Profile(cast="bf16"), Profile(), stored="BF16") == "pass"
    assert profiles_status(Profile(), Profile(cast="fp16"), stored="F16") == "pass"
    assert profiles_status(Profile(cast="bf16"), Profile(), stored="F16") == "fail"
    assert profiles_status(Profile(cast="bf16"), Profile(), stored="F32") == "fail"


def test_the_order_of_skipped_modules_does_not_matter() -> None:
    assert profiles_status(Profile(skip=("a", "b")), Profile(skip=("b", "a"))) == "pass"


# --- MV504: age -------------------------------------------------------------------------------------------------------

MONTH = Policy(maximum_age_days=30)


@pytest.mark.parametrize(
    ("created", "status"),
    [
        ("2026-03-01T12:00:00Z", "pass"),
        ("2026-03-01T12:00:00+00:00", "pass"),
        ("2026-03-01T12:05:00Z", "pass"),
        ("2026-03-01T12:05:01Z", "fail"),
        ("2026-03-01T13:04:00+01:00", "pass"),
        ("2026-03-01T12:04:00-01:00", "fail"),
        ("2026-01-30T12:00:00Z", "pass"),
        ("2026-01-30T11:59:59Z", "fail"),
        ("2126-03-01T12:00:00Z", "fail"),
        ("0001-01-01T00:00:00+23:59", "fail"),
        ("9999-12-31T23:59:59-23:59", "fail"),
        # no moment at all
        ("", "fail"),
        ("2026-03-01", "fail"),
        ("2026-03-01T12:00:00", "fail"),
        ("2026-03-01 12:00:00Z", "fail"),
        ("2026-03-01T12:00:00z", "fail"),
        ("20260301T120000Z", "fail"),
        ("2026-W09-7T12:00:00Z", "fail"),
        ("2026-02-30T12:00:00Z", "fail"),
        ("2026-03-01T24:00:00Z", "fail"),
        ("2026-03-01T12:00:00Z\n", "fail"),
        ("٢٠٢٦-03-01T12:00:00Z", "fail"),
        ("now", "fail"),
        ("PASS", "fail"),
    ],
)
def test_age(created: str, status: str) -> None:
    assert p.young_enough(created, MONTH, NOW).status == status
    assert p.young_enough(created, Policy(), NOW).status == "pass"


@given(st.text() | st.datetimes().map(lambda at: at.isoformat() + "Z"))
def test_any_text_is_judged_and_only_recent_moments_hold(created: str) -> None:
    found = p.young_enough(created, MONTH, NOW)
    made = p.moment(created)
    recent = made is not None and NOW - timedelta(days=30) <= made <= NOW + p.SKEW
    assert (found.status == "pass") == recent
    assert found.found.isascii()


# --- MV505, MV506, MV508 ----------------------------------------------------------------------------------------------


def test_an_older_manifest_is_not_played_again() -> None:
    policy = Policy(minimum_sequence=3)
    assert [p.in_sequence(number, policy).status for number in (1, 2, 3, 4)] == ["fail", "fail", "pass", "pass"]


def test_pre_registration_is_said_always_and_decides_where_it_is_required() -> None:
    lenient, strict = Policy(), Policy(pre_registered=True)
    valid, unsigned = trust("valid"), trust("not checked")
    for policy in (lenient, strict):
        assert p.pre_registration(policy.sha256(), policy, valid) == "to this policy"
        assert p.pre_registration(A, policy, valid) == "to another policy"
        assert p.pre_registration(None, policy, valid) == "to none"
        assert p.pre_registration(policy.sha256(), policy, unsigned) == "not established"
        assert p.committed(policy.sha256(), policy).status == "pass"
    for other in (None, A, lenient.sha256(), strict.sha256().upper()):
        assert p.committed(other, strict).status == "fail"
        assert p.committed(other, lenient).status == "pass"


def trust(signature: str, key: str | None = A) -> Trust:
    return Trust(key_fingerprint=key, signature=signature, base_digest="claimed by the producer")


def test_the_signer_is_among_the_listed_keys_however_the_signature_was_verified() -> None:
    policy = Policy(trusted_keys=(TrustedKey(fingerprint=A), TrustedKey(fingerprint=B)))
    assert p.trusted_signer(trust("valid"), policy).status == "pass"
    assert p.trusted_signer(trust("valid", B), policy).status == "pass"
    for bad in (trust("valid", C), trust("valid", None), trust("invalid"), trust("not checked")):
        assert p.trusted_signer(bad, policy).status == "fail"
        assert p.trusted_signer(bad, Policy()).status == "pass"
