"""The first page in words that a reader outside the field can use: verdict, questions and answers, what they mean.

Everything follows from fields of the result by fixed wording; nothing is measured or judged here.
"""

from dataclasses import dataclass

from reports import wording
from verify.contract.result import Result, Status

VERDICT = {
    "PASS": "The certificate holds.",
    "FAIL": "The certificate is refused.",
    "UNDECIDED": "The certificate could not be decided.",
}

SAID = {
    ("PASS", "static"): "The files are the ones signed, and every declared change survives NF4. "
    "Whether the model forgot was not measured.",
    ("PASS", "full"): "On the held-out probes the model no longer answers what was to be forgotten, NF4 does not "
    "bring it back, and what was to be kept is kept.",
    ("FAIL", ""): "Refused: at least one check does not hold. Nothing is certified.",
    ("UNDECIDED", ""): "Not decided: something needed to decide is missing. Nothing is certified.",
}
"""The verdict in words, by verdict and level; only a pass depends on the level."""

QUESTIONS = {
    "integrity": "Are these the files that were signed, with the declared changes and no others?",
    "permanence": "Does every change survive 4-bit quantization (NF4)?",
    "forgetting": "Does the model fail the test questions about what was to be forgotten?",
    "retention": "Does it still answer what it was to keep?",
    "erasure": "Is the mechanism behind the forgotten answers gone, and not only silenced at the output?",
    "policy": "Does it meet what else the policy demands?",
}
"""What each group of checks asks, by the group's name."""

ANSWER = {"pass": "yes", "fail": "no", "undecided": "not decided", "skipped": "not examined"}

_WORST_FIRST: tuple[Status, ...] = ("fail", "undecided", "pass", "skipped")

MEANS_NOT = (
    "It is no proof that nothing of the forgotten material is left: no test of a model can give one.",
    "It is no legal opinion, and no finding that a law, a standard or a right of anybody is satisfied.",
    "It says nothing of other copies of the model, of its training data, of backups, or of later versions.",
)


@dataclass(frozen=True)
class Answer:
    """One question of the first page: its answer as a status, and how the checks behind it ended."""

    question: str
    status: Status
    checks: str


def said(result: Result) -> str:
    """Return the verdict in one or two sentences."""
    level = "" if not result.passed else "static" if result.level == "static" else "full"
    return SAID[result.verdict, level]


def questions(result: Result) -> list[Answer]:
    """Return a question for every group of checks; the worst status of a group is its answer, but for skipped ones."""
    return [_answer(result, group, question) for group, question in QUESTIONS.items()]


def _answer(result: Result, group: str, question: str) -> Answer:
    statuses = [check.status for check in result.checks if check.group == group]
    ended = [f"{statuses.count(status)} {wording.STATUS[status]}" for status in _WORST_FIRST if status in statuses]
    worst: Status = next((status for status in _WORST_FIRST if status in statuses), "skipped")
    if group == "integrity" and worst == "pass" and result.trust.signature != "valid":
        worst = "undecided"  # the files may be the ones listed, but nobody is known to have signed the list
    return Answer(question, worst, ", ".join(ended) or "no check of this kind was run")


def means(result: Result) -> tuple[str, ...]:
    """Return what follows from the verdict, for the items listed and for them only."""
    if result.verdict == "FAIL":
        return (
            "These files are not what their producer says, or do not meet the policy. They should not be relied on.",
        )
    if result.verdict == "UNDECIDED":
        return (
            "Neither that the edit holds nor that it fails was shown. These files should not be relied on as they are.",
        )
    found = ["The listed files are, byte for byte, what the key named below signed."]
    found.append("Exactly the declared parameters differ from the base model, and their change survives NF4.")
    if result.level == "static":
        return (*found, "No model was run: nothing here says how it answers.")
    return (*found, "Run by the verifier, the model gave the answers reported here, within the stated intervals.")


def forgotten(result: Result) -> str:
    """Name the forget set by its commitment: what it is about would say what is still to be hidden."""
    made = result.provenance
    if made is None:
        return "not established: no manifest was read"
    lines = f"{wording.count(made.forget_lines)} lines, named by their commitment only: SHA-256"
    return f"{lines} {made.forget_sha256}" if made.forget_sha256 else f"{lines} in the manifest"


def signer_of_report() -> str:
    """Return who vouches for the report: no name stands in a result."""
    return (
        "the program named above, which names no person. Whoever holds the key of result.intoto.json, where that "
        "file stands beside this report, vouches for it"
    )
