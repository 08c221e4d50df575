"""One call: a certificate, keys and a policy in; a result out. Integrity → permanence → behaviour → erasure → verdict.

Nothing here computes: each step is a module of `verify.checks` that turns evidence into `CheckResult`s.
"""

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from verify.artefact import load_public
from verify.behaviour.probes import Probes
from verify.behaviour.probes import parse as parse_probes
from verify.checks import behaviour, claims, erasure, integrity, permanence
from verify.checks.catalog import completed, refused, undecided
from verify.checks.evidence import Certificate
from verify.checks.integrity import Integrity
from verify.checks.models import Models, open_models
from verify.checks.verdict import headline, limitations, rests_on, verdict
from verify.contract.manifest import Statement
from verify.contract.policy import Policy
from verify.contract.result import (
    AxisRow,
    CheckResult,
    Erasure,
    Level,
    Permanence,
    Provenance,
    Result,
    Timing,
)
from verify.errors import ArtefactError, ExitCode, UndecidedError, UsageError

DEFAULT_POLICY = Policy()
"""mansu's own thresholds."""

Progress = Callable[[str, int, int], None]
"""Called with the title of a step, how much of it is done, and of how much."""

_EXIT = {"PASS": ExitCode.PASS, "FAIL": ExitCode.FAIL, "UNDECIDED": ExitCode.UNDECIDED}


def _silent(_title: str, _done: int, _total: int) -> None:
    return


@dataclass(frozen=True)
class Findings:
    """What the steps found: checks in any order, and what the report shows of them."""

    checks: tuple[CheckResult, ...] = ()
    permanence: tuple[Permanence, ...] = ()
    axes: tuple[AxisRow, ...] = ()
    erasure: Erasure | None = None
    notes: tuple[str, ...] = ()

    def __add__(self, other: "Findings") -> "Findings":
        """Return both."""
        return Findings(
            self.checks + other.checks,
            self.permanence + other.permanence,
            self.axes + other.axes,
            other.erasure or self.erasure,
            self.notes + other.notes,
        )


def check(
    model: Path,
    manifest: Path,
    *,
    keys: Sequence[Path],
    level: Level = "full",
    policy: Policy = DEFAULT_POLICY,
    base_digests: Mapping[str, str] | None = None,
    progress: Progress = _silent,
) -> Result:
    """Check a certificate and return the whole answer; a certificate that is refused is an answer too.

    `model` is a model folder, its model.safetensors or its index; `keys` are paths of public keys the user trusts;
    `base_digests` pins base files by name ("" for the only weight file) to their sha256. Raises UsageError for paths
    that do not exist and keys that cannot be read.
    """
    started, clock = datetime.now(UTC), time.monotonic()
    pinned = dict(base_digests or {})
    progress("Reading and hashing", 0, 1)
    trusted = [load_public(path) for path in keys]
    found = integrity.examine(model, manifest, trusted, pinned)
    progress("Reading and hashing", 1, 1)
    findings = Findings(found.checks) + _weights(found, policy, progress)
    if level == "full" and found.certificate is not None and not _any_failed(findings.checks):
        findings += _runs(found.certificate, policy, progress)
    checks = completed(findings.checks, level)
    answer = verdict(checks, level)
    return Result(
        verifier=f"mansu-verify {version('mansu')}",
        verdict=answer,
        exit_code=int(_EXIT[answer]),
        headline=headline(answer, checks, level, findings.axes),
        rests_on=rests_on(checks, level, found.trust),
        level=level,
        policy=policy,
        policy_sha256=policy.sha256(),
        manifest_sha256=found.manifest_sha256,
        files=found.files,
        trust=found.trust,
        provenance=None if found.statement is None else _provenance(found.statement),
        checks=checks,
        permanence=findings.permanence,
        axes=findings.axes,
        erasure=findings.erasure,
        limitations=limitations(level, found.trust),
        notes=findings.notes,
        repeat=_command(model, manifest, keys, level, pinned),
        timing=Timing(
            started=started.isoformat(timespec="seconds").replace("+00:00", "Z"),
            seconds=round(time.monotonic() - clock, 1),
        ),
    )


def _weights(found: Integrity, policy: Policy, progress: Progress) -> Findings:
    """Check the weights alone."""
    certificate = found.certificate
    if certificate is None:
        return Findings()
    total, done = len(certificate.ledger.entries), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress("Permanence of every masked value", done, total)

    try:
        checks, shown = permanence.examine(certificate, policy, progress=advance)
    except ArtefactError as error:
        return Findings((refused(error),))
    return Findings(checks, shown)


def _runs(certificate: Certificate, policy: Policy, progress: Progress) -> Findings:
    """Run the models: behaviour, then erasure, then what the manifest claims of both."""
    try:
        probes = parse_probes(certificate.probes)
        progress("Building base and edited model", 0, 4)
        models = open_models(certificate, progress=lambda done: progress("Building base and edited model", done, 4))
        behaved, measured = _behaviour(models, probes, policy, progress)
        erased = _erasure(certificate, models, probes, policy, progress)
    except ArtefactError as error:
        return Findings((refused(error),))
    named = claims.measured_claims(measured, erased.erasure)
    met = claims.claims_met(certificate.statement.predicate.claims, named, behaviour.prose_rows(probes), policy)
    return behaved + erased + Findings((met,))


def _behaviour(
    models: Models, probes: Probes, policy: Policy, progress: Progress
) -> tuple[Findings, tuple[AxisRow, ...]]:
    total, done = behaviour.items(probes), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress("Questions and prose, four models", done, total)

    checks, rows = behaviour.judge(behaviour.measure(models, probes, progress=advance), policy)
    return Findings(checks, axes=rows), rows


def _erasure(certificate: Certificate, models: Models, probes: Probes, policy: Policy, progress: Progress) -> Findings:
    enough = erasure.enough_pairs(probes, policy)
    if enough.status != "pass":
        return Findings((enough,))

    def advance(done: int, total: int) -> None:
        progress("Circuit attribution", done, total)

    try:
        found = erasure.measure(certificate, models, probes, policy, progress=advance)
    except (UndecidedError, UsageError) as error:
        remedy = error.remedy or "structural erasure cannot be judged for this model and these pairs"
        return Findings((undecided("MV405", "a circuit that can be compared", error.message, remedy),))
    half = (found.pairs + 1) // 2
    note = f"The depth profile of CAD is read on every second forget pair ({half} of {found.pairs})."
    return Findings((enough, *erasure.judge(found, policy)), erasure=found, notes=(note,))


def _any_failed(checks: Sequence[CheckResult]) -> bool:
    return any(entry.status == "fail" for entry in checks)


def _provenance(statement: Statement) -> Provenance:
    predicate = statement.predicate
    return Provenance(
        engine=f"{predicate.engine.name} {predicate.engine.version}",
        created=predicate.created,
        method=predicate.method.name,
        settings=predicate.method.settings,
        forget_lines=predicate.request.forget_lines,
        retain_lines=predicate.request.retain_lines,
        circuit_edges=predicate.circuit.edges,
        circuit_edges_total=predicate.circuit.edges_total,
        circuit_faithfulness=predicate.circuit.faithfulness,
        base_files=predicate.base.files,
    )


def _command(model: Path, manifest: Path, keys: Sequence[Path], level: Level, pinned: Mapping[str, str]) -> str:
    words = ["mansu-verify", str(model), "--manifest", str(manifest)]
    for key in keys:
        words += ["--key", str(key)]
    words += ["--checks", level]
    for name, digest in pinned.items():
        words += ["--base-digest", f"{name}={digest}" if name else digest]
    return shlex.join(words)
