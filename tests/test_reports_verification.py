"""The answer on a report in text: within the width, every check, and nothing a terminal would obey."""

import attestations as a
import pytest
from rich.cells import cell_len

from reports.verification import render_report_check, render_report_check_json
from verify.attestation import check_report
from verify.contract.verification import ReportAnswer


@pytest.mark.parametrize("width", [60, 80, 100])
def test_every_check_and_every_fact_within_the_width(signed_reports: a.Signed, width: int) -> None:
    answer = check_report(signed_reports.report, keys=[signed_reports.verifier.public])
    text = render_report_check(answer, width=width)
    # digests are never broken: they are copied
    assert all(cell_len(line) <= max(width, 12 + 64) for line in text.splitlines())
    words = " ".join(text.split())
    assert answer.report is not None
    for check in answer.checks:
        assert f"{check.id} " in text
    for digest in (answer.signer, answer.report.predicate.policy.digest.sha256):
        assert digest is not None
        assert digest.replace(" ", "") in words.replace(" ", "")
    for limitation in answer.limitations:
        assert limitation in words


def test_hidden_characters_are_shown(signed_reports: a.Signed) -> None:
    answer = check_report(signed_reports.report, keys=[signed_reports.verifier.public])
    hostile = answer.model_copy(update={"headline": "\x1b[2J::error::##vso[\u202e"})
    text = render_report_check(hostile)
    assert not {"\x1b", "\u202e"} & set(text)
    assert "::" not in text
    rendered = render_report_check_json(hostile)
    assert rendered.isascii()
    assert "##" not in rendered
    assert ReportAnswer.model_validate_json(rendered) == hostile
