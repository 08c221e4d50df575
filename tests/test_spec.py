"""The specification says what the code does: schemas and tables are the models', its code runs, its links lead.

`python spec/generate.py` writes what is generated.
"""

import base64
import copy
import hashlib
import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import attestations as a
import certificates as c
import jsonschema
import pytest
from audited import adapter, edited, noisy, silent

from reports.audit import render_audit_json
from verify.artefact import bundle
from verify.artefact.attestation import read_attestation
from verify.audit import audit
from verify.cli import main
from verify.contract.catalogue import ENTRIES
from verify.contract.result import Result
from verify.contract.verification import SvrStatement, VerificationStatement
from verify.errors import ArtefactError, ExitCode

ROOT = Path(__file__).parent.parent
SPEC = ROOT / "spec"
VECTORS = SPEC / "vectors"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(SPEC.glob("*.md"))}
GOLDEN = sorted((ROOT / "tests" / "golden").glob("report_*.json"))


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_spec", SPEC / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def schema(stem: str) -> dict[str, Any]:
    return json.loads((SPEC / "schemas" / f"{stem}.schema.json").read_text(encoding="utf-8"))


def accepted(stem: str, value: object) -> bool:
    return jsonschema.Draft202012Validator(schema(stem)).is_valid(value)


def payload_of(path: Path) -> Any:
    return json.loads(base64.b64decode(json.loads(path.read_bytes())["dsseEnvelope"]["payload"]))


# --- what is generated -----------------------------------------------------------------------------------------------


def test_everything_generated_is_up_to_date(generate: ModuleType) -> None:
    assert generate.stale(generate.pages()) == [], "run `python spec/generate.py`"


def test_a_difference_is_noticed(generate: ModuleType) -> None:
    wanted = generate.pages()
    path = SPEC / "schemas" / "result.schema.json"
    assert generate.stale({**wanted, path: wanted[path] + " "}) == [path]
    assert generate.stale({name: text for name, text in wanted.items() if name != path}) == [path]


def test_every_model_has_one_table_and_every_field_a_meaning(generate: ModuleType) -> None:
    tables = generate.described(PAGES)
    assert sorted(tables) == sorted(generate.models())
    assert [name for text in PAGES.values() for name in generate.unexplained(text)] == []


def test_a_new_field_is_refused_until_it_is_explained(generate: ModuleType) -> None:
    known = generate.models()
    changed = copy.deepcopy(known)
    changed["Engine"]["properties"]["commit"] = {"type": "string"}
    del changed["Engine"]["properties"]["version"]
    places = generate.described(PAGES)
    text = generate.tables(PAGES["manifest.md"], changed, places)
    assert generate.unexplained(text) == ["Engine.commit"]
    assert "| `commit` | string; absent: `null` |" in text
    assert generate.tables(PAGES["manifest.md"], known, places) == PAGES["manifest.md"]


def test_links_lead_somewhere() -> None:
    for name, text in {**PAGES, "vectors/README.md": (VECTORS / "README.md").read_text(encoding="utf-8")}.items():
        folder = (SPEC / name).parent
        for target, anchor in re.findall(r"\]\(([^)#\s]*)(#[^)\s]*)?\)", text):
            if target.startswith("http"):
                continue
            path = (folder / target) if target else SPEC / name
            assert path.exists(), f"{name}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
                anchors = {"#" + re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
                assert anchor in anchors, f"{name}: {anchor}"


def test_ids_named_in_the_specification_exist() -> None:
    named = {check_id for text in PAGES.values() for check_id in re.findall(r"\bM[VE]\d{3}\b", text)}
    assert named <= set(ENTRIES)
    assert {check_id for check_id in ENTRIES if check_id.startswith("MV1")} <= named


def test_exit_codes_and_statuses_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| (\d+) \| `?(\w+)`?", PAGES["result.md"], re.MULTILINE)
    assert {int(code): name for code, name in rows} == {code.value: code.name for code in ExitCode}


# --- the schemas, against real artefacts -----------------------------------------------------------------------------


def test_every_schema_is_one() -> None:
    stems = {path.name.removesuffix(".schema.json") for path in (SPEC / "schemas").iterdir()}
    assert stems == {"manifest", "result", "verification", "svr", "policy", "report-check", "error", "circuit", "audit"}
    ids = [schema(stem)["$id"] for stem in stems]
    assert len(set(ids)) == len(ids)
    for stem in stems:
        jsonschema.Draft202012Validator.check_schema(schema(stem))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_results(path: Path) -> None:
    value = json.loads(path.read_bytes())
    assert accepted("result", value)
    for change in ({"more": 1}, {"verdict": "MAYBE"}, {"schema_": "urn:mansu:result/v2"}, {"exit_code": "0"}):
        assert not accepted("result", {**value, **change})
    for name in ("schema_", "verdict", "checks"):
        assert not accepted("result", {key: item for key, item in value.items() if key != name})


def test_audits_of_a_model_and_of_an_adapter(tiny_base: Path, tmp_path: Path) -> None:
    other = edited(tiny_base, tmp_path / "edited", noisy(0.01))
    side = adapter(tiny_base, tmp_path / "adapter", {"model.layers.1.mlp.down_proj": (64, 128)})
    for pair in ((tiny_base, other), (tiny_base, side), (tiny_base, tiny_base)):
        value = json.loads(render_audit_json(audit(*pair, progress=silent)))
        assert accepted("audit", value)
        spoilt = (
            {"more": 1},
            {"headline": None},
            {"schema_": "urn:mansu:audit/v2"},
            {"total": {**value["total"], "norm": "1"}},
        )
        assert not any(accepted("audit", {**value, **change}) for change in spoilt)
        for name in ("schema_", "total", "undecided"):
            assert not accepted("audit", {key: item for key, item in value.items() if key != name})


def test_a_fresh_certificate_and_its_result(
    tiny_certificate: c.Certificate, capsys: pytest.CaptureFixture[str]
) -> None:
    assert accepted("manifest", payload_of(tiny_certificate.manifest))
    words = [tiny_certificate.model, "--manifest", tiny_certificate.manifest, "--checks", "static", "--format", "json"]
    with pytest.raises(SystemExit):
        main([str(word) for word in (*words, "--key", tiny_certificate.keys.public)])
    value = json.loads(capsys.readouterr().out)
    assert accepted("result", value)
    assert Result.model_validate_json(json.dumps(value)).verdict == "PASS"


def test_signed_reports_and_what_is_said_of_them(signed_reports: a.Signed, capsys: pytest.CaptureFixture[str]) -> None:
    assert accepted("verification", payload_of(signed_reports.report))
    assert accepted("svr", payload_of(signed_reports.svr))
    assert not accepted("svr", payload_of(signed_reports.report))
    words = ["--check-report", signed_reports.report, "--key", signed_reports.verifier.public, "--format", "json"]
    with pytest.raises(SystemExit):
        main([str(word) for word in words])
    assert accepted("report-check", json.loads(capsys.readouterr().out))


def test_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main([str(tmp_path / "none"), "--manifest", str(tmp_path / "none.json"), "--format", "json"])
    value = json.loads(capsys.readouterr().out)
    assert accepted("error", value)
    assert value["exit_code"] == exited.value.code == 2
    assert not accepted("error", {**value, "verdict": "PASS"})


@pytest.mark.parametrize("path", sorted(VECTORS.glob("valid/*/certificate/m.json")), ids=lambda p: p.parts[-3])
def test_the_schema_accepts_every_valid_vector(path: Path) -> None:
    assert accepted("manifest", payload_of(path))


SCHEMA_WEAKER = {
    "profile-twice": "uniqueness",
    "base-file-twice": "uniqueness",
    "masked-tensor-twice": "uniqueness",
    "subject-twice": "uniqueness",
    "subject-outside": "file names",
    "subject-absolute": "file names",
    "subject-with-control-character": "file names",
    "payload-not-canonical": "the bytes",
    "payload-number-not-canonical": "the bytes",
    "payload-escape-not-canonical": "the bytes",
    "payload-duplicate-key": "the bytes",
    "payload-large-integer": "the bytes",
    "payload-infinite": "the bytes",
}
"""Vectors whose payload the schema accepts and the reader refuses, and why (spec/README.md)."""


def test_the_schema_is_weaker_than_the_reader_only_where_the_specification_says() -> None:
    weaker = set()
    for folder in sorted((VECTORS / "invalid").iterdir()):
        expected = json.loads((folder / "expect.json").read_bytes())
        try:
            content, _ = bundle.read_bundle((folder / "certificate" / "m.json").read_bytes(), name="m")
        except ArtefactError:
            continue  # the schema is about the payload
        refuses = set(expected["failed"]) & {"MV102", "MV104"}
        ours = content.payload_type == "application/vnd.in-toto+json"
        if refuses and ours and accepted("manifest", json.loads(content.payload)):
            weaker.add(folder.name)
    # the hint and the keyid are the bundle's, whose payload is an honest one
    assert weaker - {"keyid-of-another-key", "certificate-unasked"} == set(SCHEMA_WEAKER)


Change = Callable[[Any], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(more=1),
        lambda s: s["predicate"].update(more=1),
        lambda s: s["predicate"].pop("verifier"),
        lambda s: s["predicate"]["verifier"].pop("id"),
        lambda s: s["predicate"]["verifier"].update(id="urn:mansu:verifier/v2"),
        lambda s: s.update(subject=[]),
        lambda s: s["subject"][0]["digest"].update(sha256="A" * 64),
        lambda s: s.update(predicateType="urn:mansu:unlearning/v1"),
    ],
)
@pytest.mark.parametrize("which", ["verification", "svr"])
def test_schema_and_reader_of_signed_reports_refuse_the_same(signed: a.Signed, which: str, change: Change) -> None:
    path, kind = {"verification": (signed.report, VerificationStatement), "svr": (signed.svr, SvrStatement)}[which]
    read_attestation(path.read_bytes(), kind)
    a.forge(path, signed.verifier, change)
    assert not accepted(which, payload_of(path))
    with pytest.raises(ArtefactError):
        read_attestation(path.read_bytes(), kind)


# --- the rule of the ledger ------------------------------------------------------------------------------------------


def rule() -> Callable[[bytes, bytes], str]:
    """Return the function that spec/ledger.md states, with nothing of ours in reach."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGES["ledger.md"], re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 25
    scope: dict[str, Any] = {}
    exec(compile(code, "spec/ledger.md", "exec"), scope)
    return scope["base_digest"]


@pytest.mark.parametrize("name", ["plain", "float32", "float16", "one-value"])
def test_the_rule_as_written_meets_the_digest_of_the_base(name: str) -> None:
    folder = VECTORS / "valid" / name / "certificate"
    files = {file["name"]: file["sha256"] for file in payload_of(folder / "m.json")["predicate"]["base"]["files"]}
    model, ledger = (folder / "model" / "model.safetensors").read_bytes(), (folder / "ledger.safetensors").read_bytes()
    assert rule()(model, ledger) == files["model.safetensors"] != hashlib.sha256(model).hexdigest()


@pytest.mark.parametrize("name", ["swapped-base", "unmasked-change", "shrunken-mask"])
def test_the_rule_as_written_refuses_what_it_is_for(name: str) -> None:
    folder = VECTORS / "invalid-payload" / name / "certificate"
    files = {file["name"]: file["sha256"] for file in payload_of(folder / "m.json")["predicate"]["base"]["files"]}
    model, ledger = (folder / "model" / "model.safetensors").read_bytes(), (folder / "ledger.safetensors").read_bytes()
    assert rule()(model, ledger) != files["model.safetensors"]
