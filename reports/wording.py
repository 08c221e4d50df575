"""The words and number formats that every renderer shares, so that text and HTML say the same thing.

A result holds strings from files nobody trusts (tensor names, manifest settings). `visible` turns every character that
a terminal, a browser or a reader could mistake for something else into a form that can be seen.
"""

import unicodedata

from verify.contract.result import AxisRow, CadRow, CheckResult, Permanence, Result
from verify.contract.theorems import STATEMENTS, Statement

LONGEST = 2000
"""Characters of one string that are shown; the rest is counted. The whole string is in the JSON."""

# Cc and Cf: control and format characters (bidirectional overrides, zero width); Zl and Zp break lines; the others have
# no agreed appearance.
_HIDDEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})

STATUS = {"pass": "passed", "fail": "failed", "undecided": "undecided", "skipped": "skipped"}
"""Statuses of checks in words. They never contain the verdict's own word, so that no search can confuse the two."""

STATUS_MARK = {"pass": "✓", "fail": "✗", "undecided": "?", "skipped": "–"}

LEVEL = {
    "full": "full: files, weights and behaviour",
    "static": "static: files and weights; no model was run",
    "own-probes": "full, on the auditor's own probes: files, weights and behaviour",
}

THEOREMS = "The rows rest on these theorems, which mansu-verify --prove decides anew:"

NOT_MEASURED = "Not measured: static checks run no model."
UNAVAILABLE = "Not available: an earlier check stopped this part."

AXIS = {
    "forgetting": "Meaningful forgetting",
    "retention": "Retain preservation",
    "ptq_gap": "Non-positive PTQ gap",
    "erasure": "Structural erasure",
}

ROLE = {"edited": "", "control": "control, ", "retain": "retain set, ", "retain control": "retain set, control, "}

GLOSSARY = (
    ("NF4", "The 4-bit format most often used to deploy language models: each weight is stored as one of 16 codes."),
    ("Block", "Consecutive weights of a tensor, 64 by default, that share one scale in NF4."),
    ("Absmax", "The largest absolute value of a block; it is the block's scale."),
    ("Bin width", "The length of the interval of weights that share one code. Rounding can undo a smaller change."),
    ("Mask", "The parameters the edit was allowed to change. All others equal the base bit for bit."),
    ("PTQ gap", "Accuracy on the forget set after 4-bit quantization minus before. Above zero: knowledge came back."),
    ("Manifest", "The producer's signed list of files with their digests, and its claims of how the edit was made."),
    ("Policy", "The thresholds and rules that the verdict is judged by."),
    (
        "Probes",
        "Questions, prompts and texts that the verifier runs through the model; held out: not used for the edit.",
    ),
    ("SHA-256 digest", "64 characters computed from a file; another file, even by one bit, has another digest."),
    (
        "95 % interval",
        "The range in which the value would fall in 95 of 100 repetitions with other probes of the kind.",
    ),
    ("Circuit", "The connections inside the model that carry its answers on the forget set."),
    ("CAD", "Circuit attribution divergence: 0, the circuit works as in the base; 1, vanished, replaced or inverted."),
    (
        "ρ (rho)",
        "What is left of the circuit: 1 unchanged, 0 gone, negative inverted (readable with the sign flipped).",
    ),
)


def visible(text: str) -> str:
    """Return `text` with hidden characters shown: control pictures for C0 and DEL, code points for the others."""
    shown = "".join(_shown(character) for character in text[:LONGEST])
    more = len(text) - LONGEST
    return shown if more <= 0 else f"{shown}… ({more:,} characters more)"


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN:
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def count(number: int) -> str:
    """Return a count with thousands separators."""
    return f"{number:,}"


def of(satisfied: int, violated: int) -> str:
    """Return how many satisfy a condition: all of them, or so many of so many."""
    return f"all {count(satisfied)}" if not violated else f"{count(satisfied)} of {count(satisfied + violated)}"


def decimal(value: float, places: int = 3) -> str:
    """Return a fixed-point number with a true minus sign, and no sign on what rounds to zero."""
    rounded = round(value, places) + 0.0  # the sum turns -0.0 into 0.0
    return f"{rounded:.{places}f}".replace("-", "−")


def signed(value: float, places: int = 3) -> str:
    """Return a difference: as `decimal`, with a plus sign above zero."""
    text = decimal(value, places)
    return text if round(value, places) <= 0 else f"+{text}"


def percent(share: float) -> str:
    """Return a share (0 to 1) in percent with three significant digits."""
    return f"{100 * share:.3g} %"


def level(row: AxisRow, value: float) -> str:
    """Return a model's value on an axis row, in the row's unit."""
    return decimal(value, 3 if row.unit == "accuracy" else 2)


def change(row: AxisRow, value: float) -> str:
    """Return a difference on an axis row: in accuracy, or relative in percent for perplexity."""
    return signed(value) if row.unit == "accuracy" else f"{signed(100 * value, 1)} %"


def cad_label(row: CadRow) -> str:
    """Return what a CAD row was measured on, in words."""
    precision = "NF4" if row.precision == "nf4" else "full precision"
    depth = "" if row.from_layer is None else f", reference layers from {row.from_layer} on"
    return f"{row.label} ({ROLE[row.role]}{precision}{depth})"


def optional(value: float | None) -> str:
    """Return a number, or a dash where there is none."""
    return "–" if value is None else decimal(value)


def by_axis(result: Result) -> list[tuple[str, list[AxisRow]]]:
    """Return the behavioural rows under their axis' name, in the order of `AXIS`; axes without rows are left out."""
    grouped = ((name, [row for row in result.axes if row.axis == axis]) for axis, name in AXIS.items())
    return [(name, rows) for name, rows in grouped if rows]


def paired(profile: Permanence) -> list[tuple[int, int]]:
    """Return the counts before and after the edit, code by code."""
    return list(zip(profile.codes_before, profile.codes_after, strict=False))


def examined(result: Result) -> str:
    """Return the heading of the list of files: nothing was certified unless the verdict says so."""
    return "What was certified" if result.verdict == "PASS" else "What was examined"


def deployed(result: Result) -> str:
    """Return what was examined of a deployed file and what came of it; nothing where none was given."""
    checks = [check for check in result.checks if check.group == "deployed"]
    if not checks and result.deployed is None:
        return ""
    file = result.deployed
    if file is None:
        return "an NF4 file was given, and could not be compared with the certified model"
    how = f"NF4 as bitsandbytes saves it ({file.profile}; other tensors in {file.dtype})"
    if file.differing_total:
        return f"{how}: {count(file.differing_total)} tensors are not those of the NF4 of the certified model"
    if any(check.status != "pass" for check in checks):
        return f"{how}: no tensor differs from the NF4 of the certified model, but not every check of the file holds"
    whole = count(file.quantized + file.unquantized)
    return f"{how}: exactly the NF4 of the certified model, all {whole} tensors"


def absent(result: Result) -> str:
    """Return why a measured section is missing."""
    return NOT_MEASURED if result.level == "static" else UNAVAILABLE


def open_checks(result: Result) -> list[CheckResult]:
    """Return the checks that failed or stayed undecided, failures first, otherwise in the result's order."""
    return [check for status in ("fail", "undecided") for check in result.checks if check.status == status]


def tally(result: Result) -> str:
    """Return how many checks ended how: `23 passed, 0 failed, 0 undecided, 1 skipped`."""
    statuses = [check.status for check in result.checks]
    return ", ".join(f"{statuses.count(status)} {word}" for status, word in STATUS.items())  # type: ignore[arg-type]


def signature(result: Result) -> str:
    """Return who signed, in words."""
    trust = result.trust
    key = trust.key_fingerprint or "none given"
    if trust.identity is not None and trust.signature == "valid":
        return f"valid, certified for {trust.identity} under a root the user gave: SHA-256 {key}"
    if trust.key_fingerprint is None and trust.signature == "invalid":
        return "invalid: not by the identity the user gave, under a root the user gave"
    return {
        "valid": f"valid, made with the key the user gave: SHA-256 {key}",
        "invalid": f"invalid under the key the user gave: SHA-256 {key}",
        "not checked": f"not checked (key: {key})",
    }[trust.signature]


def base_digest(result: Result) -> str:
    """Return what the base's digest rests on, and what follows from that."""
    return {
        "signed by the vendor": "signed by the vendor: the base is the folder that the vendor's key signed",
        "pinned by the user": "pinned by the user: the base is the one the user named",
        "claimed by the producer": "claimed by the producer only: the base is the one the producer named",
        "not established": "not established: nothing here says which model was edited",
    }[result.trust.base_digest]


def theorems() -> tuple[Statement, ...]:
    """Return the theorems that the permanence rows rest on."""
    return tuple(statement for statement in STATEMENTS if statement.rows)


def theorem(statement: Statement) -> str:
    """Return a theorem in words; what is refuted says so first."""
    return statement.words if statement.expected == "proved" else f"It is refuted that: {statement.words}"


def probes(result: Result) -> str:
    """Return whose probes the measurements rest on."""
    if result.probes is None:
        return "none were used"
    return {"producer": "the producer's, held out by its word", "auditor": "the auditor's own"}[result.probes.origin]
