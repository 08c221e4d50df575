"""Policies that must not fail open: what is required and missing is exit 1 or 2, and PASS is said nowhere.

Each case is a certificate whose every other check holds, run through the command's own `main`; two run as a process.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import certificates as c
import pytest

from verify.artefact import fingerprint, load_public
from verify.artefact.policy_file import read_policy
from verify.cli import main

DIGEST = "0" * 64


class Answer:
    """What the command said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err
        self.result = json.loads(out) if out else {}
        self.checks = {check["id"]: check for check in self.result.get("checks", [])}
        self.failed = {check_id for check_id, check in self.checks.items() if check["status"] == "fail"}


Ask = Callable[..., Answer]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ask:
    """Return a function that writes a policy, checks a certificate by it, and insists that only exit 0 says PASS."""
    monkeypatch.delenv("MANSU_KEY", raising=False)

    def run(made: c.Certificate, policy: str, *extra: object, key: bool = True, checks: str = "static") -> Answer:
        path = tmp_path / "policy.toml"
        path.write_text(policy, encoding="utf-8")
        words = [made.model, "--manifest", made.manifest, "--policy", path, "--format", "json", *extra]
        words += ["--key", made.keys.public] if key else []
        with pytest.raises(SystemExit) as exited:
            main([*map(str, words), "--checks", checks])
        captured = capsys.readouterr()
        assert ("PASS" in captured.out) == (exited.value.code == 0)
        assert "PASS" not in captured.err
        return Answer(exited.value.code, captured.out, captured.err)

    return run


def refused(answer: Answer, *ids: str) -> None:
    assert answer.code == 1
    assert answer.failed == set(ids)


def unusable(answer: Answer, *words: str) -> None:
    assert answer.code == 2
    assert json.loads(answer.out)["id"] in {"ME200", "ME230", "ME231"}
    assert "verdict" not in answer.out
    for word in words:
        assert word in answer.err


def signed(made: c.Certificate, **fields: object) -> c.Certificate:
    """Sign the certificate again with these fields of the predicate."""
    c.sign(made, c.digests_of(made.base), change=lambda data: data["predicate"].update(fields))
    return made


def ago(**time: float) -> str:
    return (datetime.now(UTC) - timedelta(**time)).isoformat(timespec="seconds")


def print_of(key: Path) -> str:
    return fingerprint(load_public(key))


def base_table(made: c.Certificate, **changed: str) -> str:
    files = {"model.safetensors": c.digests_of(made.base)["model.safetensors"], **changed}
    written = ", ".join(f'"{name}" = "{digest}"' for name, digest in files.items())
    return f"[[bases]]\nname = 'of the vendor'\nfiles = {{{written}}}\n"


# --- what is met is accepted, and said ----------------------------------------------------------------------------


def test_a_policy_that_is_met_in_every_point(certificate: c.Certificate, ask: Ask, tmp_path: Path) -> None:
    shutil.copy(certificate.keys.public, tmp_path / "producer.pem")
    policy = (
        "level = 'static'\nmaximum_age_days = 2\nminimum_sequence = 3\npre_registered = true\nminimum_masked = 24\n"
        f"[[trusted_keys]]\nfingerprint = '{print_of(certificate.keys.public)}'\npath = 'producer.pem'\n"
        f"{base_table(certificate)}[[profiles]]\ndouble_quant = true\n"
    )
    (tmp_path / "p.toml").write_text(policy)
    digest = read_policy(tmp_path / "p.toml").sha256()
    answer = ask(signed(certificate, sequence=3, created=ago(days=1), policy_sha256=digest), policy, key=False)
    assert (answer.code, answer.failed) == (0, set())
    assert {check["status"] for check_id, check in answer.checks.items() if check_id.startswith("MV5")} == {"pass"}
    assert answer.result["policy_sha256"] == digest
    assert answer.result["policy_source"].endswith("policy.toml")
    assert answer.result["pre_registration"] == "to this policy"
    assert answer.result["trust"]["base_digest"] == "pinned by the user"
    assert answer.result["probes"] is None
    assert "--policy" in answer.result["repeat"]


def test_without_a_policy_nothing_changes(tiny_certificate: c.Certificate, ask: Ask) -> None:
    answer = ask(tiny_certificate, "level = 'static'")
    assert (answer.code, answer.failed) == (0, set())
    assert answer.result["pre_registration"] == "to none"
    assert answer.result["trust"]["base_digest"] == "claimed by the producer"


# --- level --------------------------------------------------------------------------------------------------------


def test_static_checks_do_not_meet_a_full_policy(tiny_certificate: c.Certificate, ask: Ask) -> None:
    refused(ask(tiny_certificate, "level = 'full'"), "MV501")


@pytest.mark.parametrize("checks", ["static", "full"])
def test_own_probes_that_are_required_must_be_given(tiny_certificate: c.Certificate, ask: Ask, checks: str) -> None:
    refused(ask(tiny_certificate, "level = 'own-probes'", checks=checks), "MV501", "MV507")


def test_static_checks_with_probes_are_wrong_usage(tiny_certificate: c.Certificate, ask: Ask) -> None:
    answer = ask(tiny_certificate, "level = 'own-probes'", "--probes", tiny_certificate.out / "probes")
    unusable(answer, "ME231")


@pytest.mark.parametrize("level", ["static", "full", "own-probes"])
def test_the_producers_probes_are_nobodys_own(tiny_certificate: c.Certificate, ask: Ask, level: str) -> None:
    own = ("--probes", tiny_certificate.out / "probes")
    refused(ask(tiny_certificate, f"level = '{level}'\nminimum_probes = 1", *own, checks="full"), "MV507")


def test_probes_that_cannot_be_used_are_the_auditors_error(
    tiny_certificate: c.Certificate, ask: Ask, tmp_path: Path
) -> None:
    for folder in (tmp_path / "none", tmp_path):
        unusable(ask(tiny_certificate, "level = 'full'", "--probes", folder, checks="full"), "ME231")


# --- keys ---------------------------------------------------------------------------------------------------------


def key_table(key: Path, path: str = "") -> str:
    return f"[[trusted_keys]]\nfingerprint = '{print_of(key)}'\n" + (f"path = '{path}'\n" if path else "")


def test_a_key_beside_the_policys_is_not_trusted(tiny_certificate: c.Certificate, ask: Ask, tmp_path: Path) -> None:
    ours = c.make_keys(tmp_path / "ours").public
    for path in ("", "ours/public.pem"):
        unusable(ask(tiny_certificate, f"level = 'static'\n{key_table(ours, path)}"), "does not trust", print_of(ours))


def test_a_key_from_the_environment_is_not_trusted_either(
    tiny_certificate: c.Certificate, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = c.make_keys(tmp_path / "ours").public
    monkeypatch.setenv("MANSU_KEY", str(tiny_certificate.keys.public))
    unusable(ask(tiny_certificate, f"level = 'static'\n{key_table(ours)}", key=False), "does not trust")


def test_a_signature_by_a_key_that_is_not_listed(tiny_certificate: c.Certificate, ask: Ask, tmp_path: Path) -> None:
    ours = c.make_keys(tmp_path / "ours").public
    policy = f"level = 'static'\n{key_table(ours, 'ours/public.pem')}"
    refused(ask(tiny_certificate, policy, key=False), "MV103", "MV508")


def test_listed_keys_that_are_not_there(tiny_certificate: c.Certificate, ask: Ask, tmp_path: Path) -> None:
    policy = f"level = 'static'\n{key_table(tiny_certificate.keys.public)}"
    unusable(ask(tiny_certificate, policy, key=False), "none of the policy's trusted keys")
    assert ask(tiny_certificate, policy).code == 0
    missing = f"level = 'static'\n{key_table(tiny_certificate.keys.public, 'none.pem')}"
    unusable(ask(tiny_certificate, missing), "none.pem")
    c.make_keys(tmp_path / "ours")
    swapped = f"level = 'static'\n{key_table(tiny_certificate.keys.public, 'ours/public.pem')}"
    unusable(ask(tiny_certificate, swapped), "holds another key")


def test_no_key_at_all_is_never_accepted(tiny_certificate: c.Certificate, ask: Ask) -> None:
    answer = ask(tiny_certificate, "level = 'static'", key=False)
    assert answer.code == 3
    assert answer.result["pre_registration"] == "not established"


# --- base, profiles -----------------------------------------------------------------------------------------------


def test_another_base(tiny_certificate: c.Certificate, ask: Ask) -> None:
    for changed in ({"model.safetensors": DIGEST}, {"config.json": DIGEST}, {"none.json": DIGEST}):
        table = base_table(tiny_certificate, **changed)
        answer = ask(tiny_certificate, f"level = 'static'\n{table}")
        refused(answer, "MV502")
        assert answer.result["trust"]["base_digest"] == "claimed by the producer"


def test_a_falsified_base_that_the_manifest_claims(certificate: c.Certificate, ask: Ask) -> None:
    """An undeclared change, with the base's digest falsified to fit: the policy's base sees it."""
    table = base_table(certificate)
    indices, values = c.valid_moves(c.linear_weights(certificate.out / "model")["model.layers.1.mlp.up_proj.weight"])
    c.poke(certificate, "model.layers.1.mlp.up_proj.weight", int(indices[5]), values[5])
    c.sign(certificate, c.rebuilt_digests(certificate))
    assert ask(certificate, "level = 'static'").code == 0
    refused(ask(certificate, f"level = 'static'\n{table}"), "MV502")


def test_shards_of_two_allowed_bases(tiny_keys: c.Keys, ask: Ask, tmp_path: Path) -> None:
    base = c.save_base(c.random_model(), tmp_path / "base", shard_size="150KB")
    made = c.make(base, tmp_path / "out", tiny_keys, c.valid_edits(base, tensors=2, each=2))
    made = c.Certificate(made.out, base, tiny_keys, made.edits)
    shards = {name: digest for name, digest in c.digests_of(base).items() if name.endswith(".safetensors")}
    first, *rest = shards
    assert rest

    def tables(*bases: dict[str, str]) -> str:
        written = [", ".join(f'"{name}" = "{digest}"' for name, digest in files.items()) for files in bases]
        return "level = 'static'\n" + "".join(f"[[bases]]\nname = 'b'\nfiles = {{{files}}}\n" for files in written)

    folder = c.Certificate(made.out, base, tiny_keys, made.edits)
    one, two = {**shards, first: DIGEST}, {**dict.fromkeys(shards, DIGEST), first: shards[first]}
    words = (made.out / "model").resolve()
    for policy, code in ((tables(shards), 0), (tables(one, two), 1), (tables({first: shards[first]}), 1)):
        answer = ask(_OfFolder(folder, words), policy)
        assert answer.code == code
        assert answer.failed == (set() if code == 0 else {"MV502"})


class _OfFolder:
    """A certificate whose model is named by its folder."""

    def __init__(self, made: c.Certificate, model: Path) -> None:
        self.model, self.manifest, self.keys = model, made.manifest, made.keys


@pytest.mark.parametrize(
    "profile", ["block_size = 128", "cast = 'fp16'", "skip = []", "double_quant = true\ncast = 'fp16'"]
)
def test_a_required_profile_that_is_not_claimed(tiny_certificate: c.Certificate, ask: Ask, profile: str) -> None:
    refused(ask(tiny_certificate, f"level = 'static'\n[[profiles]]\n{profile}\n"), "MV503")


def test_a_required_block_size_and_mask(tiny_certificate: c.Certificate, ask: Ask) -> None:
    refused(ask(tiny_certificate, "level = 'static'\nblock_size = 128"), "MV211")
    refused(ask(tiny_certificate, "level = 'static'\nminimum_masked = 25"), "MV210")
    refused(ask(tiny_certificate, "level = 'static'\nmaximum_changed = 0.0001"), "MV209")


# --- replay, commitment -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "created",
    [
        ago(days=8),
        ago(days=-1),
        ago(minutes=-30),
        "2026-03-01T12:00:00",
        "yesterday",
        "",
        "9999-12-31T23:59:59Z",
        "\x1b[2J",
    ],
    ids=["too old", "tomorrow", "in half an hour", "no zone", "a word", "empty", "last of all days", "escape"],
)
def test_a_date_that_is_too_old_in_the_future_or_none(certificate: c.Certificate, ask: Ask, created: str) -> None:
    made = signed(certificate, created=created)
    refused(ask(made, "level = 'static'\nmaximum_age_days = 7"), "MV504")
    assert ask(made, "level = 'static'").code == 0


def test_an_older_manifest_played_again(certificate: c.Certificate, ask: Ask) -> None:
    refused(ask(signed(certificate, sequence=6), "level = 'static'\nminimum_sequence = 7"), "MV505")
    assert ask(signed(certificate, sequence=7), "level = 'static'\nminimum_sequence = 7").code == 0


@pytest.mark.parametrize("committed", [None, DIGEST])
def test_no_commitment_or_one_to_another_policy(certificate: c.Certificate, ask: Ask, committed: str | None) -> None:
    made = signed(certificate, policy_sha256=committed)
    refused(ask(made, "level = 'static'\npre_registered = true"), "MV506")
    answer = ask(made, "level = 'static'")
    assert answer.code == 0
    assert answer.result["pre_registration"] == ("to none" if committed is None else "to another policy")


def test_a_commitment_to_the_same_rules_but_one(certificate: c.Certificate, ask: Ask, tmp_path: Path) -> None:
    """A producer that committed to stricter rules is not judged by laxer ones under the same name."""
    policy = tmp_path / "strict.toml"
    policy.write_text("level = 'static'\npre_registered = true\nmaximum_changed = 0.001")
    made = signed(certificate, policy_sha256=read_policy(policy).sha256())
    assert ask(made, policy.read_text()).code == 0
    refused(ask(made, "level = 'static'\npre_registered = true\nmaximum_changed = 0.002"), "MV506")


def test_a_commitment_written_in_afterwards_breaks_the_signature(certificate: c.Certificate, ask: Ask) -> None:
    import base64

    bundle = json.loads(certificate.manifest.read_bytes())
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    forged = payload.replace(b'"policy_sha256":null', b'"policy_sha256":"' + DIGEST.encode() + b'"')
    assert forged != payload
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(forged).decode()
    certificate.manifest.write_text(json.dumps(bundle))
    answer = ask(certificate, "level = 'static'")
    refused(answer, "MV103")
    assert answer.result["pre_registration"] == "not established"


# --- the file -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "policy",
    [
        "",
        "# level = 'full'\n",
        "level = 'none'",
        "level = 'static'\nmaximum_age = 7",
        "level = 'static'\n[policy]\nmaximum_age_days = 7",
        "level = 'static'\ntrusted_keys = []",
        "level = 'static'\nbases = []",
        "level = 'static'\nprofiles = []",
        "level = 'static'\nmaximum_changed = nan",
        "level = 'static'\nlevel = 'static'",
        "level = 'static'\n[[profiles]]\nblock_size = 64\nminimum_masked = 1000000",
        "level = 'static'\n\x1b[2J = 1",
        "level = 'static'\n'::error::' = 1",
    ],
)
def test_a_policy_that_is_not_understood(tiny_certificate: c.Certificate, ask: Ask, policy: str) -> None:
    answer = ask(tiny_certificate, policy)
    unusable(answer, "ME230")
    assert "\x1b" not in answer.err
    assert not any(line.startswith("::") for line in answer.err.splitlines())


@pytest.mark.parametrize("cut", range(0, 100, 7))
def test_a_policy_cut_short_loses_its_level_or_its_sense(tiny_certificate: c.Certificate, ask: Ask, cut: int) -> None:
    """Whatever is left of a file whose first key is its level either still asks for it, or is refused."""
    policy = "level = 'full'\nminimum_sequence = 9\nmaximum_changed = 0.00001\n[[profiles]]\nblock_size = 4096\n"
    answer = ask(tiny_certificate, policy[:cut])
    assert answer.code in {1, 2}


@pytest.mark.parametrize(("policy", "code"), [("level = 'static'\n", 0), ("level = 'full'\n", 1), ("", 2)])
def test_as_a_process(tiny_certificate: c.Certificate, tmp_path: Path, policy: str, code: int) -> None:
    path = tmp_path / "p.toml"
    path.write_text(policy)
    made = tiny_certificate
    words = [made.model, "--manifest", made.manifest, "--key", made.keys.public, "--checks", "static", "--policy", path]
    run = subprocess.run(
        [sys.executable, "-m", "verify.cli", *map(str, words)], capture_output=True, text=True, check=False
    )
    assert run.returncode == code
    assert ("PASS" in run.stdout + run.stderr) == (code == 0)
