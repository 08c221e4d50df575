"""The verdict and its words: what the checks come to, in sentences that stand alone."""

from collections.abc import Sequence

from verify.checks.catalog import belongs
from verify.contract.result import AxisRow, CheckResult, Deployed, Level, Permanence, Trust, Verdict

LIMITATIONS = (
    "Weights alone cannot prove that something was unlearned, and neither can any number of questions.",
    "A question nobody asked may still be answered, and further training may bring knowledge back.",
    "This is about the files listed by digest. A copy that was merged, fine-tuned or converted is another model.",
    "The verifier knows the base's digests, not where its weights come from or how they were converted before.",
)
"""What no certificate proves, whatever the level (docs/threat-model.md)."""

PROBES_LIMITATIONS = {
    "static": (),
    "full": ("The probes were supplied by the producer; they are held out by the producer's word.",),
    "own-probes": (
        "The probes were supplied by whoever ran this check, who answers for them and for keeping them secret.",
        "The manifest's claims were not compared with anything: they are about the producer's probes.",
    ),
}
"""What each level takes on someone's word."""

MEASURED_LIMITATIONS = (
    "An answer is read from its first token, as a choice among the answers of a pool; longer answers are not judged.",
    "Questions were asked one by one and in no chat template: asked otherwise, or taught again, a model may answer.",
    "The models were run after NF4 with blocks of 64 and scales in float32; other profiles rest on the weights alone.",
    "CAD is mansu's own definition of circuit attribution divergence, not that of the paper that coined the name.",
    "One run with one seed: another edit of the same model by the same method may come out differently.",
)
"""What the model runs of the full level leave open."""

DEPLOYED_LIMITATIONS = (
    "The deployed file is what bitsandbytes makes on CPU; what a runtime makes of it when it loads was not examined.",
)
"""What the comparison of a deployed file leaves open."""


def verdict(checks: Sequence[CheckResult], level: Level) -> Verdict:
    """FAIL if any check fails, else UNDECIDED if any of the level is undecided or was not reached, else PASS."""
    if any(check.status == "fail" for check in checks):
        return "FAIL"
    return "PASS" if all(check.status == "pass" for check in checks if belongs(check.id, level)) else "UNDECIDED"


def headline(
    answer: Verdict,
    checks: Sequence[CheckResult],
    level: Level,
    axes: Sequence[AxisRow],
    deployed: Deployed | None = None,
) -> str:
    """Return the answer as one plain sentence; where a deployed file was compared, another before it."""
    if answer == "PASS" and deployed is not None:
        before = f"The deployed file is exactly the certified model under {deployed.profile}. "
        return before + headline(answer, checks, level, axes)
    if answer == "FAIL":
        first, *more = [check for check in checks if check.status == "fail"]
        others = f" (and {len(more)} more)" if more else ""
        return f"Refused: {first.id}{others}. This does not hold: {_lowered(first.title)}. Found: {first.found}."
    if answer == "UNDECIDED":
        open_checks = [check for check in checks if check.status == "undecided"] or [
            check for check in checks if check.status == "skipped" and belongs(check.id, level)
        ]
        return f"Could not decide: {open_checks[0].id}, {_lowered(open_checks[0].title)}: {open_checks[0].found}."
    row = next((row for row in axes if row.axis == "forgetting" and row.status == "pass"), None)
    if level == "static" or row is None:
        return (
            "The files are the ones signed, and every declared change survives NF4; "
            "whether the model forgot was not measured."
        )
    return (
        "Forgotten, and NF4 does not bring it back: accuracy on the forget set is "
        f"{row.edited.value:.2f} in full precision and {row.edited_nf4.value:.2f} after NF4 "
        f"(base: {row.base.value:.2f} and {row.base_nf4.value:.2f})."
    )


def _lowered(title: str) -> str:
    """Return a title to stand within a sentence; names such as NF4 keep their capitals."""
    return title if title[1:2].isupper() else title[0].lower() + title[1:]


def rests_on(checks: Sequence[CheckResult], level: Level, trust: Trust, *, deployed: bool = False) -> str:
    """Name the set of checks behind the verdict, and what the base's identity rests on."""
    made = sum(check.status != "skipped" for check in checks if check.group != "deployed")
    compared = sum(check.status != "skipped" for check in checks if check.group == "deployed")
    before = (
        f"deployed checks ({compared} of the quantized file against the certified model), and of that model "
        if deployed
        else ""
    )
    which = {
        "static": f"static checks only ({made} of files and weights): no model was run",
        "full": f"full checks ({made} of files, weights, behaviour and circuits)",
        "own-probes": f"full checks on the auditor's own probes ({made} of files, weights, behaviour and circuits)",
    }[level]
    return f"{before}{which}; the base's digest is {trust.base_digest}"


def limitations(
    level: Level, trust: Trust, permanence: Sequence[Permanence] = (), *, deployed: bool = False
) -> tuple[str, ...]:
    """Return what the verdict does not prove."""
    count = f"{len(permanence)} deployment profiles of NF4 were" if permanence else "No deployment profile was"
    formats = (f"{count} examined; other block sizes, casts and quantization formats were not.",)
    base = {
        "signed by the vendor": (
            "The base is the folder whose digests the key given as the vendor's signed; whose key that is, you said.",
        ),
        "pinned by the user": (
            "The base's weights are pinned; its other files are, where no digest was given for them, as claimed.",
        ),
        "claimed by the producer": (
            "The base's digest is the producer's claim: give --base-digest with the vendor's digest to pin the base.",
        ),
        "not established": ("Which model was edited is not established.",),
    }[trust.base_digest]
    measured = () if level == "static" else MEASURED_LIMITATIONS
    file = DEPLOYED_LIMITATIONS if deployed else ()
    return LIMITATIONS + file + formats + base + PROBES_LIMITATIONS[level] + measured
