"""The result as a section of a model card (a README.md in Markdown): verdict, numbers, digests, how to repeat it.

A card is public. So it names what was forgotten by its commitment alone: names of rows, what checks found and paths on
the verifier's machine, all of which may tell, stay in result.json. Its words stand in `templates/card.md.j2`, where
every string of the result leaves escaped.
"""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reports import wording
from reports.markdown import VERDICT_MARK, escaped
from verify.contract.policy import Policy
from verify.contract.result import Result

START, END = "<!-- mansu: unlearning certificate -->", "<!-- end of mansu: unlearning certificate -->"
"""First and last line of the section: what lies between them is replaced by the next one."""

SAID = {
    ("PASS", "static"): "The files are the ones signed, and every declared change survives NF4. "
    "Whether the model forgot was not measured.",
    ("PASS", "full"): "On the held-out probes the model no longer answers what was to be forgotten, NF4 does not "
    "bring it back, and what was to be kept is kept.",
    ("FAIL", ""): "Refused: at least one check does not hold. Nothing is certified.",
    ("UNDECIDED", ""): "Not decided: something needed to decide is missing. Nothing is certified.",
}
"""The verdict in words, by verdict and level; only a pass depends on the level."""

BASE = {
    "signed by the vendor": ("--base-signature", "VENDOR.sig", "--base-key", "VENDOR.pem"),
    "pinned by the user": ("--base-digest", "VENDORS_SHA256"),
    "claimed by the producer": (),
    "not established": (),
}
"""The options that a base rests on, with names for what only its vendor can give."""


def render_card(result: Result, sha256: str) -> str:
    """Return the section with its two markers and a final newline; `sha256` is the digest of result.json's bytes."""
    level = "" if not result.passed else "static" if result.level == "static" else "full"
    return (
        _environment()
        .get_template("card.md.j2")
        .render(
            r=result,
            sha256=sha256,
            start=Markup(START),  # noqa: S704  (our own words, as the end and the command)
            end=Markup(END),  # noqa: S704
            mark=VERDICT_MARK[result.verdict],
            said=SAID[result.verdict, level],
            forgotten=_forgotten(result),
            open=wording.open_checks(result),
            axes=[(axis, row) for axis, rows in wording.by_axis(result) for row in rows],
            cad=[row for row in result.erasure.rows if row.role == "edited"] if result.erasure else [],
            w=wording,
            command=Markup(_command(result)),  # noqa: S704
            asked=" and ".join(_asked(result).values()),
        )
        + "\n"
    )


def _forgotten(result: Result) -> str:
    """Name the forget set by its commitment: what it is about would say what is still to be hidden."""
    said = result.provenance
    if said is None:
        return "not established: no manifest was read"
    lines = f"{wording.count(said.forget_lines)} lines, named by their commitment only: SHA-256"
    return f"{lines} {said.forget_sha256}" if said.forget_sha256 else f"{lines} in the manifest"


def _command(result: Result) -> str:
    """Return the arguments that repeat the check from a download; the verifier's own paths are nobody's business."""
    words = ["model", "--manifest", "m.json", "--key", "PRODUCER.pem"]
    words += ["--checks", "static" if result.level == "static" else "full", *BASE[result.trust.base_digest]]
    return " ".join([*words, *(f"--{name} {path}" for name, path in _asked(result).items())])


def _asked(result: Result) -> dict[str, str]:
    """Return what the check took besides that is not beside the model: option and a name for it."""
    asked = {} if result.policy == Policy() else {"policy": "policy.toml"}
    return {**asked, "probes": "PROBES"} if result.level == "own-probes" else asked


@cache
def _environment() -> Environment:
    return Environment(
        autoescape=False,  # noqa: S701  (this is Markdown: `finalize` escapes for both)
        undefined=StrictUndefined,
        loader=PackageLoader("reports"),
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(value: object) -> object:
    """Escape every string on its way into the page; markup comes only from this module."""
    return escaped(value) if isinstance(value, str) and not isinstance(value, Markup) else value
