"""The whole check on a tiny model that knew facts and forgot some: real training, real runs, no stand-ins."""

import json
from pathlib import Path

import certificates as c
import pytest
import tiny_unlearning
import torch

from mansu.base import open_base, open_language
from reports import render_html, render_json, render_text
from verify.behaviour.probes import Probes, dump, token_pairs
from verify.check import DEFAULT_POLICY, check
from verify.checks.catalog import CATALOGUE
from verify.circuits import attribute
from verify.contract.manifest import Claim
from verify.contract.policy import Policy
from verify.contract.result import ProbesUsed, Result
from verify.contract.schema import FileDigest
from verify.errors import UsageError

# A model of 0.15 million parameters is no 135 million: the thresholds follow what such an edit reaches on it.
LAX = Policy(
    minimum_probes=40,
    forget_accuracy=0.4,
    retention_loss=0.1,
    cad=0.35,
    cad_late=0.35,
    rho=0.6,
    maximum_changed=0.1,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tiny_unlearning.trained_model(seed=2, dtype=torch.float64)
    return c.save_base(model, tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def unclaimed(tmp_path_factory: pytest.TempPathFactory, base: Path, tiny_keys: c.Keys) -> tuple[c.Certificate, Result]:
    """Return a certificate of an edit that forgets, without claims, and its result."""
    out = tmp_path_factory.mktemp("forgetting") / "out"
    made = c.make(base, out, tiny_keys, tiny_unlearning.forgetting_edits(base))
    return made, run(made, LAX)


@pytest.fixture(scope="module")
def forgetting(unclaimed: tuple[c.Certificate, Result], tmp_path_factory: pytest.TempPathFactory) -> c.Certificate:
    """Return the same certificate, claiming what was measured."""
    made, result = unclaimed
    claimed = made.copied_to(tmp_path_factory.mktemp("claimed") / "out")
    c.sign(claimed, c.digests_of(made.base), claims=claims_of(result))
    return claimed


def run(made: c.Certificate, policy: Policy = DEFAULT_POLICY, **options: object) -> Result:
    return check(made.model, made.manifest, keys=[made.keys.public], policy=policy, **options)  # type: ignore[arg-type]


def claims_of(result: Result) -> list[Claim]:
    claims = []
    for row in result.axes:
        columns = (
            {"difference": row.difference_nf4} if row.axis == "ptq_gap" else {"full": row.edited, "nf4": row.edited_nf4}
        )
        claims += [Claim(axis=row.axis, row=row.row, precision=p, estimate=e) for p, e in columns.items()]
    assert result.erasure is not None
    claims += [
        Claim(axis="erasure", row="CAD", precision=row.precision, estimate=row.cad)
        for row in result.erasure.rows
        if row.role == "edited" and row.from_layer is None
    ]
    return claims


def statuses(result: Result) -> dict[str, str]:
    return {entry.id: entry.status for entry in result.checks}


def test_an_honest_certificate_of_a_model_that_forgot_holds_in_full(forgetting: c.Certificate) -> None:
    digest = c.digests_of(forgetting.base)["model.safetensors"]
    result = run(forgetting, LAX, base_digests={"": digest})
    assert statuses(result) == dict.fromkeys(CATALOGUE, "pass")
    assert (result.verdict, result.exit_code) == ("PASS", 0)
    assert result.headline.startswith("Forgotten, and NF4 does not bring it back: accuracy on the forget set is 0.")
    assert result.trust.signature == "valid"
    assert result.trust.base_digest == "pinned by the user"
    assert result.policy_sha256 == LAX.sha256()
    assert "PASS" in render_text(result)
    assert Result.model_validate_json(render_json(result)) == result
    assert "Forgotten" in render_html(result)


def test_the_measurement_of_erasure_is_complete(unclaimed: tuple[c.Certificate, Result]) -> None:
    erasure = unclaimed[1].erasure
    assert erasure is not None
    assert (erasure.pairs, erasure.retain_pairs, erasure.layers, erasure.late_from) == (40, 40, 4, 3)
    assert 0 < erasure.circuit_edges <= 0.05 * erasure.edges
    assert erasure.completeness_residual < 0.5
    found = {(row.role, row.precision, row.from_layer): row.cad.value for row in erasure.rows}
    assert set(found) == {
        *(("edited", precision, layer) for precision in ("full", "nf4") for layer in (None, 3)),
        ("control", "nf4", None),
        ("control", "nf4", 3),
        ("control", "full", None),
        ("retain", "full", None),
        ("retain", "nf4", None),
        ("retain control", "nf4", None),
    }
    assert found["edited", "full", None] > 2 * found["control", "full", None]
    assert [point.from_layer for point in erasure.depth] == [4, 3, 2, 1]
    assert [point.edited_nf4 is not None for point in erasure.depth] == [True, True, True, False]
    for point in erasure.depth:
        assert point.edited_low is not None
        assert point.edited_high is not None
        assert 0 <= point.edited_low <= point.edited_high <= 1
        assert point.edited_low - 0.05 <= point.edited <= point.edited_high + 0.05  # a bootstrap may be off centre


def test_the_certificate_has_the_picture_of_what_was_measured(unclaimed: tuple[c.Certificate, Result]) -> None:
    made, result = unclaimed
    assert result.erasure is not None
    drawn = result.erasure.map
    assert drawn is not None
    assert drawn.after is not None
    assert (drawn.layers, len(drawn.before)) == (result.erasure.layers, len(drawn.names))
    base, edited = (open_language(open_base(folder))[0] for folder in (made.base, made.model.parent))
    pairs = token_pairs(base.tokenizer, c.probes(), "forget")
    for model, scores, side in ((base, drawn.before, "before"), (edited, drawn.after, "after")):
        own = attribute(model.model, pairs, points=5)
        assert scores[:-1] == pytest.approx(own.scores.sum(1).tolist(), rel=2e-3, abs=1e-4)
        strongest = own.scores.abs().max()
        assert max(abs(getattr(edge, side)) for edge in drawn.edges) == pytest.approx(float(strongest), rel=1e-3)
    assert "The circuit before and after the edit" in render_html(result)


def test_a_result_of_an_earlier_verifier_without_a_picture_still_reads(
    unclaimed: tuple[c.Certificate, Result],
) -> None:
    old = json.loads(render_json(unclaimed[1]))
    del old["erasure"]["map"]
    read = Result.model_validate_json(json.dumps(old))
    assert read.erasure is not None
    assert read.erasure.map is None
    assert "The circuit before and after" not in render_html(read)
    assert "Depth profile" in render_html(read)


def test_claims_that_are_missing_are_refused_and_nothing_else(unclaimed: tuple[c.Certificate, Result]) -> None:
    result = unclaimed[1]
    assert {i for i, status in statuses(result).items() if status == "fail"} == {"MV308"}
    assert result.exit_code == 1
    assert "PASS" not in render_text(result) + render_html(result) + render_json(result)


def test_an_edit_that_forgets_nothing_is_refused(base: Path, tiny_keys: c.Keys, tmp_path: Path) -> None:
    made = c.make(base, tmp_path / "out", tiny_keys, c.valid_edits(base))
    result = run(made, LAX)
    assert result.verdict == "FAIL"
    assert {"MV304", "MV401", "MV402", "MV403", "MV308"} <= {i for i, s in statuses(result).items() if s == "fail"}
    assert result.headline.startswith("Refused: MV304")
    assert "PASS" not in render_text(result)


def own_probes(folder: Path, *, count: int = 40) -> Path:
    """Write probes with the forget facts in the model's other wording, and the rest as the producer has it."""
    theirs = c.probes()
    asked = {c.held_out_wording(name): c.prompt("capital", name) for name in c.COUNTRIES}
    choices = [
        choice.model_copy(update={"prompt": asked.get(choice.prompt, choice.prompt)}) for choice in theirs.choices
    ]
    mine = Probes(
        choices=(
            *[x for x in choices if x.axis == "forgetting"][:count],
            *[x for x in choices if x.axis != "forgetting"],
        ),
        texts=theirs.texts,
        pairs=tuple(
            pair.model_copy(
                update={"clean": asked.get(pair.clean, pair.clean), "corrupt": asked.get(pair.corrupt, pair.corrupt)}
            )
            for pair in theirs.pairs
        ),
        pools=theirs.pools,
    )
    folder.mkdir()
    for name, data in dump(mine).items():
        (folder / name).write_bytes(data)
    return folder


def test_probes_of_the_auditors_own_replace_the_producers(
    unclaimed: tuple[c.Certificate, Result], tmp_path: Path
) -> None:
    made, theirs = unclaimed
    folder = own_probes(tmp_path / "mine")
    policy = LAX.model_copy(update={"level": "own-probes", "forget_accuracy": 0.5, "cad": 0.0, "cad_late": 0.0})
    result = run(made, policy, probes=folder)
    found = statuses(result)
    assert result.level == "own-probes"
    assert result.probes == ProbesUsed(
        origin="auditor",
        files=tuple(FileDigest(name=name, sha256=digest) for name, digest in c.digests_of(folder).items()),
    )
    assert {found[i] for i in ("MV301", "MV303", "MV309", "MV501", "MV507")} == {"pass"}
    # nothing was claimed, which is refused on the producer's probes; nothing is compared on others
    assert found["MV308"] == "skipped"
    assert statuses(theirs)["MV308"] == "fail"
    assert next(entry.found for entry in result.checks if entry.id == "MV308").startswith("not compared")
    assert result.verdict == "PASS", result.headline
    rows = {row.row: row.base.value for row in result.axes if row.axis == "forgetting"}
    assert rows.keys() == {"capitals, held-out wordings"}
    said = " ".join(result.limitations)
    assert "supplied by the producer" not in said
    assert "supplied by whoever ran this check" in said
    assert "claims were not compared" in said
    assert "the auditor's own probes" in result.rests_on
    assert f"--probes {folder}" in result.repeat
    assert theirs.probes is not None
    assert theirs.probes.origin == "producer"
    assert {f"probes/{file.name}" for file in theirs.probes.files} == {
        file.name for file in theirs.files if file.name.startswith("probes/")
    }


def test_probes_of_the_auditors_own_that_do_not_fit_the_model_are_wrong_usage(
    forgetting: c.Certificate, tmp_path: Path
) -> None:
    folder = own_probes(tmp_path / "mine")
    lines = (folder / "text.jsonl").read_text().splitlines()
    (folder / "text.jsonl").write_text("\n".join([*lines, '{"row": "prose", "text": "people"}']))
    with pytest.raises(UsageError) as caught:
        run(forgetting, LAX, probes=folder)
    assert caught.value.id == "ME231"


def test_too_few_probes_of_the_auditors_own_are_no_evidence(forgetting: c.Certificate, tmp_path: Path) -> None:
    result = run(forgetting, LAX, probes=own_probes(tmp_path / "mine", count=39))
    assert (result.verdict, statuses(result)["MV507"]) == ("FAIL", "fail")
    assert result.axes == ()


def test_a_level_of_own_probes_needs_them(tiny_certificate: c.Certificate) -> None:
    with pytest.raises(UsageError):
        run(tiny_certificate, level="own-probes")


def test_mansus_own_policy_is_not_decided_on_so_few_probes(forgetting: c.Certificate) -> None:
    lenient_on_size = DEFAULT_POLICY.model_copy(update={"maximum_changed": 0.1, "minimum_pairs": 41})
    result = run(forgetting, lenient_on_size)
    assert (result.verdict, result.exit_code) == ("UNDECIDED", 3)
    found = statuses(result)
    assert {found[i] for i in ("MV309", "MV304", "MV305", "MV306", "MV307", "MV405")} == {"undecided"}
    assert {found[i] for i in ("MV401", "MV402", "MV403", "MV404", "MV406")} == {"skipped"}
    assert found["MV308"] == "pass"
    assert "PASS" not in render_text(result)


def test_a_base_that_never_knew_is_undecided(tiny_certificate: c.Certificate) -> None:
    result = run(tiny_certificate, LAX)
    assert statuses(result)["MV303"] == "undecided"


def test_a_failure_of_the_weights_spares_the_model_runs(forgetting: c.Certificate) -> None:
    result = run(forgetting)  # under mansu's own policy the edit is too dense
    assert {i for i, status in statuses(result).items() if status == "fail"} == {"MV209"}
    assert statuses(result)["MV304"] == "skipped"
    assert result.axes == ()
    assert "MV209" in next(entry.found for entry in result.checks if entry.id == "MV304")


def test_without_a_key_everything_else_runs_and_the_verdict_is_open(forgetting: c.Certificate) -> None:
    result = check(forgetting.model, forgetting.manifest, keys=[], policy=LAX)
    assert (result.verdict, result.exit_code) == ("UNDECIDED", 3)
    assert {i for i, status in statuses(result).items() if status != "pass"} == {"MV103"}
    assert result.trust.signature == "not checked"


def test_probes_that_are_malformed_are_refused(forgetting: c.Certificate, tmp_path: Path) -> None:
    made = forgetting.copied_to(tmp_path / "out")
    (made.out / "probes" / "choices.jsonl").write_text("{}\n")
    c.sign(made, c.digests_of(made.base))
    result = run(made, LAX)
    assert statuses(result)["MV301"] == "fail"
    assert statuses(result)["MV304"] == "skipped"
    assert result.exit_code == 1


def test_static_checks_run_no_model_and_say_so(tiny_certificate: c.Certificate) -> None:
    result = run(tiny_certificate, level="static")
    assert result.verdict == "PASS"
    assert result.rests_on.startswith("static checks only")
    assert "no model was run" in result.rests_on
    assert (result.axes, result.erasure) == ((), None)
    assert {s for i, s in statuses(result).items() if i.startswith(("MV3", "MV4"))} == {"skipped"}
    assert {s for i, s in statuses(result).items() if i.startswith(("MV1", "MV2"))} == {"pass"}
    assert len(result.permanence) == 2
    assert any("claim" in text and "--base-digest" in text for text in result.limitations)


def test_a_model_folder_and_a_file_are_one_model(tiny_certificate: c.Certificate) -> None:
    by_folder = check(
        tiny_certificate.model.parent, tiny_certificate.manifest, keys=[tiny_certificate.keys.public], level="static"
    )
    assert by_folder.checks == run(tiny_certificate, level="static").checks


def test_a_sharded_model(tiny_keys: c.Keys, tmp_path: Path) -> None:
    base = c.save_base(c.random_model(), tmp_path / "base", shard_size="100KB")
    assert len(list(base.glob("*.safetensors"))) > 1
    made = c.make(base, tmp_path / "out", tiny_keys, c.valid_edits(base, tensors=14, each=2))
    index = made.out / "model" / "model.safetensors.index.json"
    for model in (index, index.parent, next(index.parent.glob("*.safetensors"))):
        result = check(model, made.manifest, keys=[tiny_keys.public], level="static")
        assert result.verdict == "PASS", result.headline
    one, *_ = (name for name in c.digests_of(base) if name.endswith(".safetensors"))
    partly = check(
        index, made.manifest, keys=[tiny_keys.public], level="static", base_digests={one: c.digests_of(base)[one]}
    )
    assert partly.trust.base_digest == "claimed by the producer"
    shard = made.out / "model" / one
    shard.unlink()
    result = check(index, made.manifest, keys=[tiny_keys.public], level="static")
    assert {i for i, s in statuses(result).items() if s == "fail"} == {"MV105", "MV111"}


def test_the_command_to_repeat_is_exact(tiny_certificate: c.Certificate) -> None:
    result = run(tiny_certificate, level="static", base_digests={"a b": c.ZERO})
    assert result.repeat == (
        f"mansu-verify {tiny_certificate.model} --manifest {tiny_certificate.manifest} "
        f"--key {tiny_certificate.keys.public} --checks static --base-digest 'a b={c.ZERO}'"
    )


def test_progress_reaches_its_end(tiny_certificate: c.Certificate) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}
    run(
        tiny_certificate,
        level="static",
        progress=lambda title, done, total: seen.setdefault(title, []).append((done, total)),
    )
    assert seen
    for steps in seen.values():
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)
        assert steps[-1][0] == steps[-1][1]


def test_paths_that_do_not_exist_are_usage_errors(tiny_certificate: c.Certificate, tmp_path: Path) -> None:
    keys = [tiny_certificate.keys.public]
    for model, manifest, public in (
        (tmp_path / "none", tiny_certificate.manifest, keys),
        (tiny_certificate.model, tmp_path / "m.json", keys),
        (tiny_certificate.model, tiny_certificate.manifest, [tmp_path / "key.pem"]),
        (tiny_certificate.out / "probes" / "pools.json", tiny_certificate.manifest, keys),
    ):
        with pytest.raises(UsageError):
            check(model, manifest, keys=public, level="static")


def test_a_manifest_that_cannot_be_read_still_gives_a_result(certificate: c.Certificate) -> None:
    for content, expected in ((b"", "MV102"), (b"\xff", "MV102"), (json.dumps({}).encode(), "MV102")):
        certificate.manifest.write_bytes(content)
        result = run(certificate)
        assert (result.verdict, statuses(result)[expected]) == ("FAIL", "fail")
        assert {s for i, s in statuses(result).items() if i != expected} == {"skipped"}
        assert result.provenance is None
        assert "PASS" not in render_text(result) + render_html(result)
