"""Probes of the auditor's own (`--probes`): read like the producer's, and compared with them (MV507)."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from verify.artefact import read_regular
from verify.behaviour.probes import CHOICES, PAIRS, POOLS, TEXT, Probes, parse
from verify.behaviour.wording import plain
from verify.checks.catalog import decided
from verify.checks.evidence import LARGEST_SMALL_FILES
from verify.checks.measured import DECIDING, deciding_rows, prose_rows, rows_of
from verify.contract.policy import Policy
from verify.contract.result import CheckResult
from verify.contract.schema import FileDigest
from verify.errors import ArtefactError, UsageError

FILES = (CHOICES, PAIRS, POOLS, TEXT)
_REMEDY = "correct the probes; docs/policy.md says what they are made of"


@dataclass(frozen=True, eq=False)
class OwnProbes:
    """The auditor's probes, and the digests of the files they were read from."""

    probes: Probes
    files: tuple[FileDigest, ...]


def read_own(folder: Path) -> OwnProbes:
    """Read the four files of a probe set; what else lies in the folder is not looked at.

    Raises UsageError ME231 for whatever the producer's would be refused for, and for a kind of row that is missing.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}", expected="--probes DIR", error_id="ME231", remedy=_REMEDY)
    try:
        data = {name: read_regular(name, root=folder, limit=LARGEST_SMALL_FILES) for name in FILES}
        probes = parse(data)
    except ArtefactError as error:
        raise unusable(error) from error
    missing = [
        kind
        for kind, there in (
            (f'forgetting in a row whose name ends in "{DECIDING}"', bool(deciding_rows(probes))),
            ("retention", bool(rows_of(probes, "retention"))),
            ("prose", bool(prose_rows(probes))),
        )
        if not there
    ]
    if missing:
        message = f"{folder}: the probes cannot decide"
        expected = "forgetting, retention and prose"
        raise UsageError(message, expected=expected, found=f"no {missing[0]}", remedy=_REMEDY, error_id="ME231")
    files = tuple(FileDigest(name=name, sha256=hashlib.sha256(content).hexdigest()) for name, content in data.items())
    return OwnProbes(probes, files)


def unusable(error: ArtefactError) -> UsageError:
    """Return what is wrong with the auditor's probes as an error of usage: no certificate is to blame for them."""
    return UsageError(
        f"--probes: {error.message}", expected=error.expected, found=error.found, remedy=_REMEDY, error_id="ME231"
    )


def really_own(own: Probes, theirs: Mapping[str, bytes], policy: Policy) -> CheckResult:
    """MV507: every deciding row has enough prompts that the producer could not prepare for.

    `theirs` are the certificate's probe files; one without any hides nothing. Raises ArtefactError MV301 where they
    are malformed.
    """
    known = set[str]()
    if theirs:
        producers = parse(theirs)
        known = {plain(choice.prompt) for choice in producers.choices}
        known |= {plain(pair.clean) for pair in producers.pairs} | {plain(pair.corrupt) for pair in producers.pairs}
    new = {
        row: len({plain(c.prompt) for c in own.choices if (c.axis, c.row) == ("forgetting", row)} - known)
        for row in deciding_rows(own)
    }
    least = min(new, key=lambda row: new[row])
    expected = f"at least {policy.minimum_probes} prompts in every deciding row that the producer's probes lack"
    found = f"at least {new[least]}, in {least!a}"
    remedy = "give probes of your own: the producer could prepare for its own"
    return decided("MV507", expected, found, remedy, holds=new[least] >= policy.minimum_probes)
