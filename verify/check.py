"""One call: a certificate, keys and a policy in; a result out. Integrity → permanence → behaviour → erasure → verdict.

Nothing here computes: each step is a module of `verify.checks` that turns evidence into `CheckResult`s.
"""

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

from verify.artefact.anchors import AnchorFiles
from verify.checks import integrity, permanence
from verify.checks.catalog import completed
from verify.checks.findings import Findings, Progress
from verify.checks.verdict import headline, limitations, rests_on, verdict
from verify.contract.manifest import Statement
from verify.contract.policy import Policy
from verify.contract.result import Level, Provenance, Result, Timing
from verify.errors import ExitCode, UsageError

DEFAULT_POLICY = Policy()
"""mansu's own thresholds."""

_EXIT = {"PASS": ExitCode.PASS, "FAIL": ExitCode.FAIL, "UNDECIDED": ExitCode.UNDECIDED}


def _silent(_title: str, _done: int, _total: int) -> None:
    return


def check(
    model: Path,
    manifest: Path,
    *,
    keys: Sequence[Path] = (),
    level: Level = "full",
    policy: Policy = DEFAULT_POLICY,
    base_digests: Mapping[str, str] | None = None,
    anchors: AnchorFiles | None = None,
    progress: Progress = _silent,
) -> Result:
    """Check a certificate and return the whole answer; a certificate that is refused is an answer too.

    `model` is a model folder, its model.safetensors or its index; `keys` are paths of public keys the user trusts;
    `base_digests` pins base files by name ("" for the only weight file) to their sha256. `anchors` gives these and all
    else that the user trusts in one; both may be given, and all of it counts. Raises UsageError for paths that do not
    exist, keys and certificates that cannot be read, and half of a pair of anchors.
    """
    started, clock = datetime.now(UTC), time.monotonic()
    given = anchors or AnchorFiles()
    given = replace(given, keys=(*given.keys, *keys), base_digests=_both(given.base_digests, base_digests or {}))
    reading = partial(progress, "Reading every byte of the weights")
    found = integrity.examine(model, manifest, given.load(), policy, progress=reading)
    findings = Findings(found.checks)
    if found.evidence is not None:
        findings += Findings(*permanence.examine(found.evidence, policy))
        if level == "full" and not any(entry.status == "fail" for entry in findings.checks):
            from verify.checks.runs import run_models  # noqa: PLC0415  (torch and transformers take seconds to load)

            findings += run_models(found.evidence, policy, progress)
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
        limitations=limitations(level, found.trust, findings.permanence),
        notes=findings.notes,
        repeat=_command(model, manifest, given, level),
        timing=Timing(
            started=started.isoformat(timespec="seconds").replace("+00:00", "Z"),
            seconds=round(time.monotonic() - clock, 1),
        ),
    )


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


def _both(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, str]:
    """Return all pins; UsageError where the two pin one file to two digests."""
    twice = sorted(name for name in first.keys() & second.keys() if first[name] != second[name])
    if twice:
        raise UsageError("a file of the base is pinned to two digests", found=ascii(twice[0]))
    return {**first, **second}


def _command(model: Path, manifest: Path, given: AnchorFiles, level: Level) -> str:
    words = ["mansu-verify", str(model), "--manifest", str(manifest)]
    for key in given.keys:
        words += ["--key", str(key)]
    return shlex.join([*words, "--checks", level, *given.words()])
