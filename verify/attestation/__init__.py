"""The verifier's own signed word: what it signs of a result, and how that is checked years later (docs/reports.md)."""

from verify.attestation.check import check_report
from verify.attestation.names import report_path, svr_path
from verify.attestation.statements import report_statement, svr_statement

__all__ = ["check_report", "report_path", "report_statement", "svr_path", "svr_statement"]
