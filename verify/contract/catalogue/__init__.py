"""The catalogue of ids, in words: every check (MV...) and every error (ME...), what it means, why, and how to fix it.

Words alone, as the theorems: the checks answer them, the reports cite them. To add an id, declare its class in the
module of its group (see `entry`); nothing else lists ids. The order of modules here, and of classes in them, is the
order in which a result lists its checks.
"""

from verify.contract.catalogue import (
    claims,
    deployed,
    erasure,
    errors,
    forgetting,
    integrity,
    permanence,
    policy,
    report,
    retention,
)
from verify.contract.catalogue.entry import Entry, entries_of

__all__ = ["CHECKS", "DEPLOYED", "ENTRIES", "ERRORS", "REPORTS", "Entry"]

CHECKS: tuple[Entry, ...] = tuple(
    entry
    for module in (integrity, permanence, forgetting, retention, erasure, claims, policy)
    for entry in entries_of(module)
)
"""Every check of a certificate, in the order of a result."""

DEPLOYED: tuple[Entry, ...] = entries_of(deployed)
"""Every check of a deployed file, beside those of the certificate."""

REPORTS: tuple[Entry, ...] = entries_of(report)
"""Every check of a signed report (`--check-report`)."""

ERRORS: tuple[Entry, ...] = entries_of(errors)
"""Every error that ends a command before there is a result."""

ENTRIES: dict[str, Entry] = {entry.id: entry for entry in (*CHECKS, *DEPLOYED, *REPORTS, *ERRORS)}
"""All of them, by id."""
