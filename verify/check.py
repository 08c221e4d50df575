"""One call: a certificate, keys and a policy in; a result out. Integrity → permanence → behaviour → erasure → verdict.

Nothing here computes: each step is a module of `verify.checks` that turns evidence into `CheckResult`s.
"""

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from verify.artefact.anchors import AnchorFiles, Anchors
from verify.artefact.policy_file import read_policy, trusted
from verify.checks import integrity, permanence, tradeoff
from verify.checks import policy as requirements
from verify.checks.catalog import completed
from verify.checks.deployed import examine as examine_deployed
from verify.checks.deployed_folder import locate
from verify.checks.evidence import PROBES
from verify.checks.findings import Findings, Progress
from verify.checks.integrity import Integrity
from verify.checks.verdict import headline, limitations, rests_on, verdict
from verify.contract.manifest import Statement
from verify.contract.policy import Policy
from verify.contract.result import Deployed, Level, ProbesUsed, Provenance, Result, Timing, Trust, exit_code
from verify.contract.schema import FileDigest
from verify.errors import UsageError

if TYPE_CHECKING:
    from verify.checks.own_probes import OwnProbes

DEFAULT_POLICY = Policy()
"""mansu's own thresholds."""

StrPath = str | PathLike[str]


def _silent(_title: str, _done: int, _total: int) -> None:
    return


def check(
    model: StrPath,
    manifest: StrPath,
    *,
    keys: StrPath | Sequence[StrPath] = (),
    level: Level = "full",
    policy: Policy | StrPath = DEFAULT_POLICY,
    policy_path: Path | None = None,
    probes: StrPath | None = None,
    certified: StrPath | None = None,
    base_digests: Mapping[str, str] | None = None,
    anchors: AnchorFiles | None = None,
    progress: Progress = _silent,
) -> Result:
    """Check a certificate and return the whole answer; a certificate that is refused is an answer too.

    `model` is a model folder, its model.safetensors or its index; `keys` are paths of public keys the user trusts, one
    or several; `level` "static" runs no model. `policy` is a policy or the path of its file; of one that was read
    already, `policy_path` says where from: its keys lie relative to it. `probes` is a folder of the auditor's own,
    which makes the full level "own-probes"; `base_digests` pins base files by name ("" for the only weight file) to
    their sha256. `certified` is the certified model in full precision where `model` is what bitsandbytes made of it
    and saved, which is also found out by itself; the default is then `model/` beside the manifest. `anchors` gives
    keys, digests and all else that the user trusts in one; both may be given, and all of it counts. Raises UsageError
    for paths that do not exist, keys, policies and certificates that cannot be read, keys that are not the policy's,
    half of a pair of anchors, probes that cannot be used, and a quantized model without its certified one.
    """
    started, clock = datetime.now(UTC), time.monotonic()
    model, manifest, probes = Path(model), Path(manifest), None if probes is None else Path(probes)
    certified = None if certified is None else Path(certified)
    if not isinstance(policy, Policy):
        policy_path = Path(policy)
        policy = read_policy(policy_path)
    own, level = _own_probes(probes, level)
    given = anchors or AnchorFiles()
    paths = (keys,) if isinstance(keys, str | PathLike) else keys
    both = _both(given.base_digests, base_digests or {})
    given = replace(given, keys=(*given.keys, *map(Path, paths)), base_digests=both)
    reading = partial(progress, "Reading every byte of the weights")
    trusts = _anchors(given, policy, policy_path)
    target = locate(model, manifest, certified)
    certified_model = model if target is None else target.certified
    found = integrity.examine(certified_model, manifest, trusts, policy, progress=reading)
    findings = Findings(found.checks)
    if found.statement is not None:
        required = requirements.of_manifest(found.statement.predicate, found.trust, policy, level, started)
        findings += Findings(required)
    trust = found.trust
    if found.evidence is not None:
        findings += Findings(requirements.of_weights(found.evidence, policy))
        trust = _with_allowed_base(trust, findings, policy)
        findings += Findings(*permanence.examine(found.evidence, policy))
        if level != "static" and not any(entry.status == "fail" for entry in findings.checks):
            from verify.checks.runs import run_models  # noqa: PLC0415  (torch and transformers take seconds to load)

            findings += run_models(found.evidence, policy, progress, own)
    deployed = None
    if target is not None and found.evidence is not None:
        comparing = partial(progress, "Comparing the deployed file")
        compared, deployed = examine_deployed(target, found.evidence, progress=comparing)
        findings += Findings(compared)
    checks = completed(findings.checks, level, deployed=target is not None)
    answer = verdict(checks, level)
    committed_to = None if found.statement is None else found.statement.predicate.policy_sha256
    return Result(
        verifier=f"mansu-verify {version('mansu')}",
        verdict=answer,
        exit_code=exit_code(answer),
        headline=headline(answer, checks, level, findings.axes, deployed),
        rests_on=rests_on(checks, level, trust, deployed=target is not None),
        level=level,
        policy=policy,
        policy_sha256=policy.sha256(),
        policy_source=_source(policy, policy_path),
        pre_registration=requirements.pre_registration(committed_to, policy, trust),
        probes=_probes_used(found, own, level),
        manifest_sha256=found.manifest_sha256,
        files=(*found.files, *_deployed_files(deployed)),
        trust=trust,
        provenance=None if found.statement is None else _provenance(found.statement),
        checks=checks,
        permanence=findings.permanence,
        tradeoff=None if found.evidence is None or not findings.permanence else tradeoff.curve(found.evidence, policy),
        axes=findings.axes,
        erasure=findings.erasure,
        deployed=deployed,
        limitations=limitations(level, trust, findings.permanence, deployed=target is not None),
        notes=findings.notes,
        repeat=_command(model, manifest, given, level, policy_path, probes, certified),
        timing=Timing(
            started=started.isoformat(timespec="seconds").replace("+00:00", "Z"),
            seconds=round(time.monotonic() - clock, 1),
        ),
    )


def _deployed_files(deployed: Deployed | None) -> tuple[FileDigest, ...]:
    files = () if deployed is None else deployed.files
    return tuple(file.model_copy(update={"name": f"deployed/{file.name}"}) for file in files)


def _own_probes(folder: Path | None, level: Level) -> "tuple[OwnProbes | None, Level]":
    """Read the auditor's probes, if there are any, and return the level that the checks then have."""
    if folder is None:
        if level == "own-probes":
            raise UsageError("no probes given", expected="a folder of your own probes", remedy="add --probes DIR")
        return None, level
    if level == "static":
        remedy = "leave one of the two out"
        raise UsageError("--probes with static checks, which ask nothing", remedy=remedy, error_id="ME231")

    from verify.checks.own_probes import read_own  # noqa: PLC0415  (imports torch)

    return read_own(folder), "own-probes"


def _with_allowed_base(trust: Trust, findings: Findings, policy: Policy) -> Trust:
    """Return what the base rests on: the policy is the user's word, so a base that it allows is pinned."""
    allowed = any(check.id == "MV502" and check.status == "pass" for check in findings.checks)
    if policy.bases is not None and allowed and trust.base_digest == "claimed by the producer":
        return trust.model_copy(update={"base_digest": "pinned by the user"})
    return trust


def _source(policy: Policy, path: Path | None) -> str:
    if path is not None:
        return str(path)
    return "mansu's own defaults" if policy == DEFAULT_POLICY else "given by the calling program"


def _probes_used(found: Integrity, own: "OwnProbes | None", level: Level) -> ProbesUsed | None:
    """Return whose probes the level is measured on, and their digests; None where nothing is asked."""
    if own is not None:
        return ProbesUsed(origin="auditor", files=own.files)
    if level == "static" or not found.files:
        return None
    theirs = (file for file in found.files if file.name.startswith(PROBES))
    files = tuple(file.model_copy(update={"name": file.name.removeprefix(PROBES)}) for file in theirs)
    return ProbesUsed(origin="producer", files=files)


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
        forget_sha256=predicate.request.forget_sha256,
        retain_sha256=predicate.request.retain_sha256,
    )


def _anchors(given: AnchorFiles, policy: Policy, policy_path: Path | None) -> Anchors:
    """Read what the user gave; keys are those of the policy, if it lists any."""
    anchors = given.load()
    keys = trusted(policy, given.keys, folder=Path() if policy_path is None else policy_path.parent)
    return replace(anchors, trusted=replace(anchors.trusted, keys=tuple(keys)))


def _both(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, str]:
    """Return all pins; UsageError where the two pin one file to two digests."""
    twice = sorted(name for name in first.keys() & second.keys() if first[name] != second[name])
    if twice:
        raise UsageError("a file of the base is pinned to two digests", found=ascii(twice[0]))
    return {**first, **second}


def _command(
    model: Path,
    manifest: Path,
    given: AnchorFiles,
    level: Level,
    policy: Path | None,
    probes: Path | None,
    certified: Path | None,
) -> str:
    words = ["mansu-verify", str(model), "--manifest", str(manifest)]
    for key in given.keys:
        words += ["--key", str(key)]
    words += ["--checks", "static" if level == "static" else "full"]
    for option, path in (("--policy", policy), ("--probes", probes), ("--certified", certified)):
        words += [] if path is None else [option, str(path)]
    return shlex.join([*words, *given.words()])


class _Callable(ModuleType):
    """This module, called: `verify.check(...)` is `check(...)`, whether or not somebody has imported the module."""

    def __call__(self, *arguments: Any, **named: Any) -> Result:
        return check(*arguments, **named)


sys.modules[__name__].__class__ = _Callable
