"""The result as a SARIF 2.1.0 log (OASIS), for code scanning and for viewers of it.

Every check is a rule. A result is written for each check that failed or stayed undecided, both as errors: consumers
count errors, and an undecided check must never count as none. What a check means comes from the catalogue.
"""

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from reports import wording
from reports.plain import ascii_json, neutral
from verify.contract.catalogue import ENTRIES, Entry
from verify.contract.failure import Failure
from verify.contract.result import CheckResult, Result

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
FOLDER = "CERTIFICATE"
MANIFEST = "m.json"
"""Where a result points when its text names no file: the manifest declares what was refused."""

Json = dict[str, Any]


def render_sarif(result: Result) -> str:
    """Return a log of one run, as indented ASCII JSON with a final newline."""
    shown = wording.open_checks(result) or ([] if result.verdict == "PASS" else list(result.checks))
    index = {check.id: place for place, check in enumerate(result.checks)}
    artifacts = [file.name for file in result.files]
    run = {
        "tool": {"driver": _driver(result.verifier, [_rule(check) for check in result.checks])},
        "invocations": [
            {
                "executionSuccessful": True,
                "commandLine": neutral(result.repeat),
                "startTimeUtc": result.timing.started,
                "exitCode": result.exit_code,
                "exitCodeDescription": neutral(f"{result.verdict}: {result.headline}"),
            }
        ],
        "originalUriBaseIds": {FOLDER: {"description": {"text": "The certificate's folder"}}},
        "artifacts": [{"location": _location(file.name), "hashes": {"sha-256": file.sha256}} for file in result.files],
        "results": [_result(check, index[check.id], artifacts) for check in shown],
        "properties": {
            "verdict": result.verdict,
            "headline": neutral(result.headline),
            "level": result.level,
            "policySha256": result.policy_sha256,
            "checks": {check.id: check.status for check in result.checks},
        },
    }
    return ascii_json(_log(run))


def render_sarif_failure(failure: Failure, verifier: str) -> str:
    """Return the log of a run that ended without a result: an error notification, and the same as a result.

    The result is there because consumers count results; a log without any would look like a clean run.
    """
    known = ENTRIES.get(failure.id)
    rule: Json = {"id": failure.id, "defaultConfiguration": {"level": "error"}} | _texts(
        known, failure.message if known is None else known.title
    )
    message = {"text": _text(f"{failure.message}.", failure.expected, failure.found, failure.remedy)}
    run = {
        "tool": {"driver": _driver(verifier, [rule])},
        "invocations": [
            {
                "executionSuccessful": False,
                "exitCode": failure.exit_code,
                "toolExecutionNotifications": [
                    {"descriptor": {"id": failure.id}, "level": "error", "message": message}
                ],
            }
        ],
        "originalUriBaseIds": {FOLDER: {"description": {"text": "The certificate's folder"}}},
        "results": [
            {
                "ruleId": failure.id,
                "ruleIndex": 0,
                "kind": "fail",
                "level": "error",
                "message": message,
                "locations": [{"physicalLocation": {"artifactLocation": _location(MANIFEST)}}],
            }
        ],
    }
    return ascii_json(_log(run))


def _log(run: Json) -> Json:
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _driver(verifier: str, rules: list[Json]) -> Json:
    name, _, version = verifier.partition(" ")
    driver: Json = {"name": neutral(name), "rules": rules}
    return driver | ({"version": neutral(version)} if version else {})


def _rule(check: CheckResult) -> Json:
    entry = ENTRIES.get(check.id)
    # a result of another version may ask something else under this id: then only its own title is right
    known = entry if entry is not None and entry.title == check.title else None
    return {
        "id": neutral(check.id),
        **_texts(known, check.title),
        "defaultConfiguration": {"level": "error"},
        "properties": {"tags": [check.group]},
    }


def _texts(entry: Entry | None, title: str) -> Json:
    """Return the texts of a rule; without an entry of the catalogue, its title alone."""
    title = neutral(title)
    if entry is None:
        return {"shortDescription": {"text": title}, "help": {"text": title}}
    return {
        "shortDescription": {"text": title},
        "fullDescription": {"text": entry.meaning},
        "help": {
            "text": f"{entry.meaning}\n\nWhy it matters: {entry.why}\n\nHow to fix it: {entry.fix}",
            "markdown": f"{entry.meaning}\n\n**Why it matters.** {entry.why}\n\n**How to fix it.** {entry.fix}",
        },
    }


def _result(check: CheckResult, index: int, artifacts: Iterable[str]) -> Json:
    named = [name for name in artifacts if name in check.found] or [MANIFEST]
    said = f"{check.title}: {wording.STATUS[check.status]}."
    return {
        "ruleId": neutral(check.id),
        "ruleIndex": index,
        "kind": "fail",
        "level": "error",
        "message": {"text": _text(said, check.expected, check.found, check.remedy)},
        "locations": [{"physicalLocation": {"artifactLocation": _location(name)}} for name in named],
        "partialFingerprints": {"check/v1": neutral(check.id)},
        "properties": {"status": check.status},
    }


def _text(said: str, expected: str, found: str, remedy: str) -> str:
    """Return a plain-text message. Brackets would make links of foreign text (SARIF 3.11.6), so a space parts them."""
    parts = (("Expected", expected), ("Found", found), ("Next", remedy))
    text = "\n".join([said, *(f"{label}: {value}" for label, value in parts if value)])
    return "\n".join(neutral(line).replace("](", "] (") for line in text.split("\n"))


def _location(name: str) -> Json:
    return {"uri": quote(wording.visible(name)), "uriBaseId": FOLDER}
