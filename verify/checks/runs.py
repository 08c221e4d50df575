"""The model runs of the full level: base and edited model, each in full precision and under NF4."""

from verify.behaviour.probes import Probes
from verify.behaviour.probes import parse as parse_probes
from verify.checks import behaviour, claims, erasure
from verify.checks.catalog import refused, undecided
from verify.checks.certificate import Certificate, load
from verify.checks.evidence import Evidence
from verify.checks.findings import Findings, Progress
from verify.checks.measured import Measured, prose_rows
from verify.checks.models import Models, open_models
from verify.checks.own_probes import OwnProbes, really_own, unusable
from verify.checks.pairs import corrupt_answers, enough_pairs
from verify.contract.policy import Policy
from verify.errors import ArtefactError, UndecidedError, UsageError


def run_models(evidence: Evidence, policy: Policy, progress: Progress, own: OwnProbes | None = None) -> Findings:
    """Run the models: behaviour, then erasure, then what the manifest claims of both.

    On probes of the auditor's `own` the claims are not compared: they are about the producer's. Raises UsageError ME231
    where these cannot be used with this model.
    """
    found = Findings()
    try:
        if own is not None:
            found += Findings((really_own(own.probes, evidence.probes, policy),))
            if found.checks[0].status == "fail":
                return found
        probes = parse_probes(evidence.probes) if own is None else own.probes
        certificate = load(evidence)
        progress("Building base and edited model", 0, 4)
        models = open_models(certificate, progress=lambda done: progress("Building base and edited model", done, 4))
    except ArtefactError as error:
        return found + Findings((refused(error),))
    try:
        measured = _measured(models, probes, progress)
        checks, rows = behaviour.judge(measured, policy)
        erased = _erasure(certificate, models, measured, policy, progress)
    except ArtefactError as error:
        if own is not None and error.id == "MV301":
            raise unusable(error) from error
        return found + Findings((refused(error),))
    found += Findings(checks, axes=rows) + erased
    if own is not None:
        return found
    named = claims.measured_claims(rows, erased.erasure)
    met = claims.claims_met(evidence.statement.predicate.claims, named, prose_rows(probes), policy)
    return found + Findings((met,))


def _measured(models: Models, probes: Probes, progress: Progress) -> Measured:
    total, done = behaviour.items(probes), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress("Questions and prose, four models", done, total)

    return behaviour.measure(models, probes, progress=advance)


def _erasure(
    certificate: Certificate, models: Models, measured: Measured, policy: Policy, progress: Progress
) -> Findings:
    corrupt = corrupt_answers(models.base_nf4, measured.probes)
    enough = enough_pairs(measured, corrupt, models.base.tokenizer, policy)
    if enough.status != "pass":
        return Findings((enough,))

    def advance(done: int, total: int) -> None:
        progress("Circuit attribution", done, total)

    try:
        found = erasure.measure(certificate, models, measured.probes, policy, progress=advance)
    except (UndecidedError, UsageError) as error:
        remedy = error.remedy or "structural erasure cannot be judged for this model and these pairs"
        return Findings((undecided("MV405", "a circuit that can be compared", error.message, remedy),))
    half = (found.pairs + 1) // 2
    note = f"The depth profile of CAD is read on every second forget pair ({half} of {found.pairs})."
    return Findings((enough, *erasure.judge(found, policy)), erasure=found, notes=(note,))
