"""The model card's section: hostile text changes nothing but words, and nothing in it tells what was forgotten."""

import re
from typing import Literal

import pytest
from test_reports_markdown import HOSTILE, shape
from test_reports_render import NAMES, card, load, poisoned

from reports import render_card, render_html
from reports.card import END, START
from verify.contract.result import CheckResult, Deployed, Result


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("name", NAMES)
def test_hostile_text_adds_no_element(name: str, text: str) -> None:
    assert shape(card(poisoned(name, text))) == shape(card(poisoned(name, "plain")))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", [START, END, f"x\n{END}\ny", f"\r{START}\r"])
def test_the_section_ends_where_it_ends(name: str, text: str) -> None:
    lines = card(poisoned(name, text)).split("\n")
    assert (lines[0], lines[-2], lines[-1]) == (START, END, "")
    assert sum(START in line or END in line for line in lines) == 2


@pytest.mark.parametrize("name", NAMES)
def test_verdict_and_digests_are_there(name: str) -> None:
    result, section = load(name), render_card(load(name), "e" * 64)
    assert result.verdict in section.split("\n")[1]
    assert "| result.json, SHA-256 | " + "e" * 64 + " |" in section
    assert f"| Manifest m.json, SHA-256 | {result.manifest_sha256} |" in section
    assert all(file.sha256 in section for file in result.files)
    assert section.count("\n- ") == len(result.limitations)
    assert len(section.encode()) < 50_000


@pytest.mark.parametrize("name", NAMES)
def test_what_was_forgotten_is_a_commitment(name: str) -> None:
    """Row names, findings, headline, settings, notes and the verifier's paths are left out, whatever they say."""
    result = load(name)
    assert result.provenance is not None
    secret = "zzsecretzz"
    told = result.model_copy(
        update={
            "headline": secret,
            "rests_on": secret,
            "policy_source": secret,
            "repeat": secret,
            "notes": (secret,),
            "axes": tuple(row.model_copy(update={"row": secret, "rule": secret}) for row in result.axes),
            "checks": tuple(
                check.model_copy(update={"expected": secret, "found": secret, "remedy": secret})
                for check in result.checks
            ),
            "provenance": result.provenance.model_copy(update={"method": secret, "settings": {secret: secret}}),
        }
    )
    assert secret not in card(told)
    committed = result.provenance.forget_sha256
    assert (committed or "in the manifest") in card(result)


@pytest.mark.parametrize(
    ("update", "words"),
    [
        ({"level": "own-probes"}, "--checks full --base-digest VENDORS_SHA256 --probes PROBES"),
        ({}, "model --manifest m.json --key PRODUCER.pem --checks full --base-digest VENDORS_SHA256"),
    ],
)
def test_the_check_is_repeated_as_it_was_made(update: dict[str, str], words: str) -> None:
    section = card(load("pass_full").model_copy(update=update))
    (line,) = re.findall(r"^\$ mansu-verify .*$", section, re.MULTILINE)
    assert words in line
    assert ("ask for it" in section) is ("own-probes" in update.values())
    strict = load("pass_full").policy.model_copy(update={"minimum_sequence": 7})
    assert " --policy policy.toml" in card(load("pass_full").model_copy(update={"policy": strict}))


def test_a_result_with_next_to_nothing_still_renders() -> None:
    update = {"files": (), "provenance": None, "permanence": (), "checks": (), "manifest_sha256": None}
    section = card(load("fail_static").model_copy(update=update))
    assert "none read" in section
    assert "no manifest was read" in section


def deployed(status: Literal["pass", "fail", "skipped"], differing: int | None) -> Result:
    check = CheckResult(id="MV705", group="deployed", title="t", status=status, expected="e", found="f")
    file = Deployed(
        profile="NF4, blocks of 64 | <b>",
        dtype="bfloat16",
        compute_dtype="float32",
        quantized=7,
        unquantized=5,
        differing=("model.secret",) if differing else (),
        differing_total=differing or 0,
        files=(),
    )
    result = load("pass_full")
    return result.model_copy(
        update={"checks": (*result.checks, check), "deployed": None if differing is None else file}
    )


@pytest.mark.parametrize(
    ("status", "differing", "words"),
    [
        ("pass", 0, "exactly the NF4 of the certified model, all 12 tensors"),
        ("fail", 3, "3 tensors are not those of the NF4 of the certified model"),
        ("fail", 0, "but not every check of the file holds"),
        ("skipped", 0, "but not every check of the file holds"),
        ("skipped", None, "could not be compared with the certified model"),
    ],
)
def test_a_deployed_file_is_named_with_what_came_of_it(
    status: Literal["pass", "fail", "skipped"], differing: int | None, words: str
) -> None:
    result = deployed(status, differing)
    row = next(line for line in card(result).split("\n") if line.startswith("| Deployed file examined |"))
    assert words in row
    assert words in render_html(result)
    assert ("exactly" in row) == (status == "pass")
    assert row.count(" | ") == 1, "hostile names stay in their cell"
    assert "model.secret" not in card(result)
    assert "mansu-verify NF4_DIR --certified model --manifest m.json" in card(result)


def test_a_result_without_a_deployed_file_does_not_speak_of_one() -> None:
    assert "Deployed file" not in card(load("pass_full"))
    assert "Deployed file examined" not in render_html(load("pass_full"))
    assert "$ mansu-verify model --manifest" in card(load("pass_full"))
