"""SARIF: what consumers of the standard count on. The golden logs are compared in test_reports_render."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from test_reports_render import NAMES, load, poisoned

from reports import render_sarif, render_sarif_failure
from verify.checks.catalog import completed, failed
from verify.contract.catalogue import CHECKS
from verify.contract.failure import Failure
from verify.contract.result import Result

SCHEMA = json.loads((Path(__file__).parent / "schemas" / "sarif-subset.schema.json").read_text(encoding="utf-8"))
FAILURE = Failure(id="ME200", message="no manifest given", expected="", found="'x'", remedy="add it", exit_code=2)


def hostile(name: str) -> Result:
    """Return a result full of hostile text whose ids and file names still differ, as a verifier's always do."""
    clean, result = load(name), poisoned(name)
    checks = (bad.model_copy(update={"id": good.id}) for bad, good in zip(result.checks, clean.checks, strict=True))
    files = (file.model_copy(update={"name": f"{file.name}{at}"}) for at, file in enumerate(result.files))
    return result.model_copy(update={"checks": tuple(checks), "files": tuple(files)})


def log(rendered: str) -> dict[str, Any]:
    document = json.loads(rendered)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    run: dict[str, Any] = document["runs"][0]
    return run


@pytest.mark.parametrize("result", [*map(load, NAMES), *map(hostile, NAMES)])
def test_every_log_is_valid_and_harmless_in_a_ci_log(result: Result) -> None:
    rendered = render_sarif(result)
    log(rendered)
    assert rendered.isascii()
    assert "##" not in rendered
    assert not any(line.lstrip().startswith("::") for line in rendered.splitlines())


def test_the_schema_refuses_what_is_not_sarif() -> None:
    document = json.loads(render_sarif(load("fail_static")))
    for spoil in (
        lambda d: d.pop("version"),
        lambda d: d["runs"][0]["results"][0].pop("message"),
        lambda d: d["runs"][0]["results"][0].update(level="fatal"),
        lambda d: d["runs"][0]["tool"]["driver"].update(rule=[]),
        lambda d: d["runs"][0]["artifacts"][0]["location"].update(uri="a b"),
    ):
        spoilt = json.loads(json.dumps(document))
        spoil(spoilt)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(SCHEMA).validate(spoilt)


@pytest.mark.parametrize("name", NAMES)
def test_results_are_the_open_checks_as_errors_and_rules_are_all_checks(name: str) -> None:
    result, run = load(name), log(render_sarif(load(name)))
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [check.id for check in result.checks]
    open_checks = {check.id for check in result.checks if check.status in {"fail", "undecided"}}
    assert {entry["ruleId"] for entry in run["results"]} == open_checks
    assert (run["results"] == []) is (result.verdict == "PASS")
    for entry in run["results"]:
        assert run["tool"]["driver"]["rules"][entry["ruleIndex"]]["id"] == entry["ruleId"]
    assert run["invocations"][0]["exitCode"] == result.exit_code
    assert run["properties"]["verdict"] == result.verdict


@pytest.mark.parametrize("verdict", ["FAIL", "UNDECIDED"])
def test_no_log_is_clean_unless_the_verdict_is(verdict: str) -> None:
    result = load("pass_full")
    checks = tuple(check.model_copy(update={"status": "skipped"}) for check in result.checks)
    run = log(render_sarif(result.model_copy(update={"verdict": verdict, "checks": checks})))
    assert len(run["results"]) == len(checks)


def test_rules_carry_the_catalogues_help_where_they_ask_what_it_asks() -> None:
    checks = completed([failed("MV203", "e", "f", "r")], "full")
    rules = log(render_sarif(load("pass_full").model_copy(update={"checks": checks})))["tool"]["driver"]["rules"]
    for rule, entry in zip(rules, CHECKS, strict=True):
        assert (rule["id"], rule["shortDescription"]["text"]) == (entry.id, entry.title)
        assert rule["fullDescription"]["text"] == entry.meaning
        assert entry.fix in rule["help"]["text"]
        assert entry.why in rule["help"]["markdown"]
    other = completed([failed("MV203", "e", "f", "r")], "full")[0].model_copy(update={"title": "Something else"})
    (rule,) = log(render_sarif(load("pass_full").model_copy(update={"checks": (other,)})))["tool"]["driver"]["rules"]
    assert rule["help"] == {"text": "Something else"}


def test_a_result_points_to_the_file_it_names_else_to_the_manifest() -> None:
    result = load("fail_static")
    name = result.files[-1].name
    first, *others = [check for check in result.checks if check.status == "fail"]
    found = first.model_copy(update={"found": f"changed: {name}"})
    run = log(render_sarif(result.model_copy(update={"checks": (found, *others)})))
    uris = [entry["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for entry in run["results"]]
    assert uris == [name] + ["m.json"] * len(others)


def test_foreign_text_makes_no_link() -> None:
    check = load("fail_static").checks[0].model_copy(update={"status": "fail", "found": "[here](javascript:alert)"})
    (entry,) = log(render_sarif(load("fail_static").model_copy(update={"checks": (check,)})))["results"]
    assert "](" not in entry["message"]["text"]
    assert "[here] (javascript:alert)" in entry["message"]["text"]


def test_an_error_is_an_unsuccessful_run_with_a_result() -> None:
    run = log(render_sarif_failure(FAILURE, "mansu-verify"))
    (invocation,) = run["invocations"]
    assert (invocation["executionSuccessful"], invocation["exitCode"]) == (False, 2)
    assert "no manifest given" in invocation["toolExecutionNotifications"][0]["message"]["text"]
    assert [entry["ruleId"] for entry in run["results"]] == ["ME200"]
    log(render_sarif_failure(FAILURE.model_copy(update={"id": "MX999"}), "mansu-verify 1"))
