"""Policy files: read strictly, or refused with exit 2; and whose keys are then trusted."""

import os
from pathlib import Path

import certificates as c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verify.artefact import fingerprint, load_public
from verify.artefact.policy_file import MAX_BYTES, MAX_LINE, parse_policy, read_policy, trusted
from verify.contract.policy import Policy, TrustedKey
from verify.errors import ExitCode, UsageError

DIGEST = "a" * 64


def refused(text: str | bytes) -> UsageError:
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(UsageError) as caught:
        parse_policy(data, name="p.toml")
    assert caught.value.exit_code == ExitCode.USAGE
    assert caught.value.id == "ME230"
    assert caught.value.expected
    assert caught.value.found
    assert caught.value.diagnostic().isascii()
    return caught.value


def test_the_least_policy_is_mansus_own() -> None:
    assert parse_policy(b'level = "static"', name="p") == Policy()
    assert parse_policy(b'level = "full"', name="p") == Policy(level="full")


@pytest.mark.parametrize("text", ["", "\n# all of it was a comment\n", "forget_accuracy = 0.01\n"])
def test_an_empty_policy_is_not_a_lenient_one(text: str) -> None:
    assert "level" in refused(text).message


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("levell = 'full'", "levell"),
        ("Level = 'full'", "Level"),
        ("forget-accuracy = 0.01", "forget-accuracy"),
        ("thresholds.forget_accuracy = 0.01", "thresholds"),
        ("trusted_keys = []", "trusted_keys"),
        ("bases = []", "bases"),
        ("profiles = []", "profiles"),
        ("trusted_keys = ['" + DIGEST + "']", "trusted_keys.0"),
        ("trusted_keys = [{path = 'k.pem'}]", "trusted_keys.0.fingerprint"),
        ("trusted_keys = [{fingerprint = '" + DIGEST.upper() + "'}]", "trusted_keys.0.fingerprint"),
        ("trusted_keys = [{fingerprint = '" + DIGEST + "', file = 'k.pem'}]", "trusted_keys.0.file"),
        ('trusted_keys = [{fingerprint = "' + DIGEST + '", path = "k\\u0000"}]', "trusted_keys.0.path"),
        ("bases = [{name = 'x'}]", "bases.0.files"),
        ("bases = [{name = 'x', files = {}}]", "bases.0.files"),
        ("bases = [{name = 'x', files = {a = 'sha256:" + DIGEST + "'}}]", "bases.0.files"),
        ("bases = ['" + DIGEST + "']", "bases.0"),
        ("profiles = [{block = 64}]", "profiles.0.block"),
        ("profiles = [{block_size = 60}]", "profiles.0.block_size"),
        ("profiles = [{skip = 'lm_head'}]", "profiles.0.skip"),
        ("forget_accuracy = '0.08'", "forget_accuracy"),
        ("forget_accuracy = nan", "forget_accuracy"),
        ("forget_accuracy = inf", "forget_accuracy"),
        ("forget_accuracy = 8", "forget_accuracy"),
        ("perplexity_rise = inf", "perplexity_rise"),
        ("retention_loss = -0.1", "retention_loss"),
        ("ptq_gap = 2.0", "ptq_gap"),
        ("forget_rule = 'high'", "forget_rule"),
        ("minimum_probes = 0", "minimum_probes"),
        ("minimum_probes = 100.0", "minimum_probes"),
        ("minimum_probes = true", "minimum_probes"),
        ("minimum_sequence = 9007199254740992", "minimum_sequence"),
        ("maximum_age_days = 0", "maximum_age_days"),
        ("maximum_age_days = 2026-01-01", "maximum_age_days"),
        ("pre_registered = 1", "pre_registered"),
        ("pre_registered = 'false'", "pre_registered"),
        # a key below a table's heading belongs to the table
        (f"[[bases]]\nname = 'x'\nfiles = {{a = '{DIGEST}'}}\nmaximum_age_days = 30", "bases.0.maximum_age_days"),
        (f"[[bases]]\nname = 'x'\n[bases.files]\na = '{DIGEST}'\nminimum_sequence = 3", "minimum_sequence"),
        (f"[[bases]]\nname = 'x'\n[bases.files]\na = '{DIGEST}'\npre_registered = true", "pre_registered"),
        ("[[profiles]]\nblock_size = 64\nforget_accuracy = 0.01", "profiles.0.forget_accuracy"),
    ],
)
def test_whatever_is_not_understood_is_refused_by_name(text: str, key: str) -> None:
    error = refused(f"level = 'full'\n{text}\n")
    assert key in error.message + error.found


@pytest.mark.parametrize(
    "data",
    [
        b"level = 'full'\nlevel = 'static'",
        b"level = 'full'\nminimum_probes = 5\nminimum_probes = 500",
        b"\xef\xbb\xbflevel = 'full'",
        b"level = 'full'\n\xff",
        b'{"level": "full"}',
        b"level: full",
        b"level = full",
        b"level = 'full",
        b"level = ['full'",
        b"\x00" * 10,
        b"level = 'full'\nx = " + b"9" * 900,
        b"level = 'full'\nx = " + b"\n".join([b"9" * 900] * 6),
        b"level = " + b"[\n" * 5000,
        b"level = 'full'\nx = " + b"[\n" * 5000 + b"]\n" * 5000,
        b"level = 'full'\n" + b".".join([b"a"] * 400) + b" = 1",
        b"# " + b"x" * MAX_LINE,
        b"level = 'full'\n" + b"#\n" * (MAX_BYTES // 2),
        b'level = "full\\ud800"',
        b'level = "\\u001b[2J"',
    ],
)
def test_what_is_no_policy_at_all_is_refused(data: bytes) -> None:
    refused(data)


def test_keys_of_many_dots_take_no_time() -> None:
    line = b"[" + b".".join([b"a"] * (MAX_LINE // 2 - 20)) + b".b%d]\n"
    data = b"level = 'full'\n" + b"".join(line % i for i in range(MAX_BYTES // (MAX_LINE - 20)))
    refused(data[:MAX_BYTES])  # one such key over several lines' length would take minutes
    refused(b"level = 'full'\n" + b".".join([b"a"] * 30_000) + b" = 1")
    refused("level = 'full'\n" + ".".join(["'\u2028'"] * 15_000) + " = 1")  # a line for Python, not for TOML


@given(st.binary(max_size=300))
def test_any_bytes_are_a_policy_or_refused(data: bytes) -> None:
    for content in (data, b"level = 'full'\n" + data):
        try:
            policy = parse_policy(content, name="p")
        except UsageError:
            continue
        assert policy.level in {"static", "full", "own-probes"}


VALUES = st.one_of(
    st.booleans().map(lambda value: str(value).lower()),
    st.integers().map(str),
    st.floats().map(repr),
    st.sampled_from(["'x'", "''", "[]", "{}", "[[]]", "2026-01-01", "'point'"]),
)


@given(st.sampled_from(sorted(Policy.model_fields)), VALUES)
def test_what_is_accepted_is_what_was_written(name: str, value: str) -> None:
    import tomllib

    text = f"{name} = {value}\n" + ("" if name == "level" else "level = 'full'\n")
    try:
        policy = parse_policy(text.encode(), name="p")
    except UsageError:
        return
    assert getattr(policy, name) == tomllib.loads(text)[name]
    assert len(policy.sha256()) == 64


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(UsageError) as caught:
            read_policy(path)
        assert caught.value.id == "ME230"
    written = tmp_path / "p.toml"
    written.write_text("level = 'full'\n")
    assert read_policy(written) == Policy(level="full")


def test_a_policy_may_come_through_a_pipe() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"level = 'full'\n")
    os.close(writing)
    assert read_policy(Path(f"/dev/fd/{reading}")) == Policy(level="full")
    os.close(reading)


# --- keys ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    return c.make_keys(tmp_path / "one").public, c.make_keys(tmp_path / "two").public


def listing(*keys: Path, path: str | None = None) -> Policy:
    return Policy(trusted_keys=tuple(TrustedKey(fingerprint=fingerprint(load_public(k)), path=path) for k in keys))


def prints(policy: Policy, given: list[Path], folder: Path = Path()) -> list[str]:
    return [fingerprint(key) for key in trusted(policy, given, folder=folder)]


def test_without_a_list_the_keys_given_are_trusted(two: tuple[Path, Path]) -> None:
    assert prints(Policy(), list(two)) == [fingerprint(load_public(key)) for key in two]
    assert prints(Policy(), []) == []


def test_a_listed_key_is_found_relative_to_the_policy(two: tuple[Path, Path], tmp_path: Path) -> None:
    policy = listing(two[0], path="one/public.pem")
    wanted = [fingerprint(load_public(two[0]))]
    assert prints(policy, [], tmp_path) == wanted
    assert prints(policy, [two[0]], tmp_path) == wanted
    with pytest.raises(UsageError):
        prints(policy, [], tmp_path / "one")


def test_only_listed_keys_are_trusted(two: tuple[Path, Path], tmp_path: Path) -> None:
    for policy in (listing(two[0]), listing(two[0], path="one/public.pem")):
        for offered in ([two[1]], list(two)):
            with pytest.raises(UsageError, match="does not trust"):
                prints(policy, offered, tmp_path)
    assert prints(listing(*two), [two[1]]) == [fingerprint(load_public(two[1]))]


def test_a_key_that_was_swapped_under_its_path_is_refused(two: tuple[Path, Path], tmp_path: Path) -> None:
    policy = listing(two[0], path="one/public.pem")
    two[0].write_bytes(two[1].read_bytes())
    with pytest.raises(UsageError, match="holds another key") as caught:
        prints(policy, [], tmp_path)
    assert caught.value.found == fingerprint(load_public(two[1]))


def test_a_list_of_keys_none_of_which_is_there_is_unusable(two: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="none of the policy's"):
        prints(listing(*two), [])
