"""`verify.check`, `verify.load_result`, `verify.show`: docs/api.md as a test, strictness, imports that are light."""

import doctest
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import certificates as c
import pytest
from test_reports_render import GOLDEN, NAMES

import verify
from verify.check import check
from verify.contract.policy import Policy

ROOT = Path(__file__).parent.parent


DEPLOYED = {
    "profile": "nf4",
    "dtype": "bfloat16",
    "compute_dtype": "float32",
    "quantized": 1,
    "unquantized": 1,
    "differing": [],
    "differing_total": 0,
    "files": [],
}


def test_the_examples_of_the_documentation(
    tiny_certificate: c.Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_certificate.copied_to(tmp_path / "OUT")
    shutil.copytree(tiny_certificate.keys.public.parent, tmp_path / "keys")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```pycon\n(.*?)```", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.DOTALL)
    example = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "api.md", "api.md", 0)
    said: list[str] = []
    done = doctest.DocTestRunner().run(example, out=said.append)
    assert done.failed == 0, "".join(said)
    assert done.attempted > 15


def test_the_api_is_what_it_says_and_loads_nothing() -> None:
    code = (
        "import sys, verify; heavy = {'torch', 'numpy', 'pydantic', 'cryptography'}; print(heavy & sys.modules.keys());"
        "print(all(callable(getattr(verify, n)) for n in verify.__all__), set(verify.__all__) <= set(dir(verify)));"
        "import verify.check as module; print(module is verify.check and callable(module))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.split("\n") == ["set()", "True True", "True", ""]
    assert not hasattr(verify, "no_such_name")


def test_the_module_called_is_its_function(tiny_certificate: c.Certificate, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('level = "full"\n')
    paths = (str(tiny_certificate.out / "model"), str(tiny_certificate.manifest))
    called = verify.check(*paths, keys=[str(tiny_certificate.keys.public)], level="static", policy=str(policy))
    assert called.verdict == "FAIL"
    assert [entry.id for entry in called.checks if entry.status == "fail"] == ["MV501"]
    assert called.policy_source == str(policy)
    by_value = check(*paths, keys=tiny_certificate.keys.public, level="static", policy=Policy(level="full"))
    assert by_value.checks == called.checks
    assert f"--policy {policy}" in called.repeat


@pytest.mark.parametrize("name", NAMES)
def test_every_result_reads_back(name: str) -> None:
    path = GOLDEN / f"report_{name}.json"
    result = verify.load_result(path)
    assert result.passed is (name == "pass_full")
    older = json.loads(path.read_text())
    for absent in ("forget_sha256", "retain_sha256"):
        del older["provenance"][absent]
    assert result.provenance is not None
    bare = result.provenance.model_copy(update={"forget_sha256": None, "retain_sha256": None})
    parsed = verify.Result.model_validate_json(json.dumps(older))
    assert parsed == result.model_copy(update={"provenance": bare})


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def apply(data: bytes) -> bytes:
        document = json.loads(data)
        change(document)
        return json.dumps(document).encode()

    return apply


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda data: data[:-5],
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b'"verdict"', b'"verdict": "FAIL", "verdict"', 1),
        lambda data: data.replace(b'"seconds"', b'"seconds": 1e999, "x"', 1),
        lambda _: b"[" * 100_000,
        lambda _: b'"urn:mansu:result/v1"',
        changed(lambda d: d.update(schema_="urn:mansu:error/v1")),
        changed(lambda d: d.update(unknown=1)),
        changed(lambda d: d.pop("trust")),
        changed(lambda d: d.update(verdict="FAIL")),
        changed(lambda d: d.update(verdict="UNDECIDED")),
        changed(lambda d: d.update(exit_code=1)),
        changed(lambda d: d.update(checks=[])),
        changed(lambda d: d["checks"][0].update(status="fail")),
        changed(lambda d: d["checks"][0].update(status="undecided")),
        changed(lambda d: d["checks"][0].update(status="skipped")),
        changed(lambda d: [one.update(status="skipped") for one in d["checks"] if one["id"].startswith("MV4")]),
        changed(lambda d: d.update(checks=d["checks"][:1])),
        changed(lambda d: d.update(checks=[one for one in d["checks"] if one["group"] != "erasure"])),
        changed(lambda d: d["checks"].append(d["checks"][0])),
        changed(lambda d: d.update(deployed=DEPLOYED)),
        changed(lambda d: d["checks"].append({**d["checks"][0], "id": "MV701", "group": "deployed"})),
    ],
)
def test_a_result_with_more_than_one_reading_is_refused(spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(spoil((GOLDEN / "report_pass_full.json").read_bytes()))
    with pytest.raises(verify.UsageError) as caught:
        verify.load_result(path)
    assert (caught.value.id, int(caught.value.exit_code)) == ("ME310", 2)
    assert caught.value.expected


@pytest.mark.parametrize("name", ["fail_static", "undecided_full"])
def test_no_result_is_turned_into_a_pass(name: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    document = json.loads((GOLDEN / f"report_{name}.json").read_text())
    path.write_text(json.dumps({**document, "verdict": "PASS", "exit_code": 0}))
    with pytest.raises(verify.UsageError, match="contradicts itself"):
        verify.load_result(path)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(verify.UsageError) as caught:
        verify.load_result(tmp_path / "none.json")
    assert caught.value.id == "ME310"
    with pytest.raises(verify.UsageError, match="no manifest"):
        verify.show(tmp_path / "m.json")


def test_a_static_pass_is_not_read_as_a_full_one(tiny_certificate: c.Certificate, tmp_path: Path) -> None:
    path, model = tmp_path / "result.json", tiny_certificate.out / "model"
    result = check(model, tiny_certificate.manifest, keys=tiny_certificate.keys.public, level="static")
    path.write_text(result.model_dump_json(by_alias=True))
    assert verify.load_result(path) == result
    assert result.passed
    for level in ("full", "own-probes"):
        path.write_text(result.model_copy(update={"level": level}).model_dump_json(by_alias=True))
        with pytest.raises(verify.UsageError, match="contradicts itself"):
            verify.load_result(path)
