"""The result as a section of a model card (a README.md in Markdown): verdict, numbers, digests, how to repeat it.

A card is public. So it names what was forgotten by its commitment alone: names of rows, what checks found and paths on
the verifier's machine, all of which may tell, stay in result.json. Its words stand in `templates/card.md.j2`, where
every string of the result leaves escaped.
"""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reports import summary, wording
from reports.markdown import VERDICT_MARK, escaped
from verify.contract.policy import Policy
from verify.contract.result import Result

START, END = "<!-- mansu: unlearning certificate -->", "<!-- end of mansu: unlearning certificate -->"
"""First and last line of the section: what lies between them is replaced by the next one."""

BASE = {
    "signed by the vendor": ("--base-signature", "VENDOR.sig", "--base-key", "VENDOR.pem"),
    "pinned by the user": ("--base-digest", "VENDORS_SHA256"),
    "claimed by the producer": (),
    "not established": (),
}
"""The options that a base rests on, with names for what only its vendor can give."""


def render_card(result: Result, sha256: str) -> str:
    """Return the section with its two markers and a final newline; `sha256` is the digest of result.json's bytes."""
    return (
        _environment()
        .get_template("card.md.j2")
        .render(
            r=result,
            sha256=sha256,
            start=Markup(START),  # noqa: S704  (our own words, as the end and the command)
            end=Markup(END),  # noqa: S704
            mark=VERDICT_MARK[result.verdict],
            said=summary.said(result),
            deployed=wording.deployed(result),
            forgotten=summary.forgotten(result),
            open=wording.open_checks(result),
            axes=[(axis, row) for axis, rows in wording.by_axis(result) for row in rows],
            cad=[row for row in result.erasure.rows if row.role == "edited"] if result.erasure else [],
            w=wording,
            command=Markup(_command(result)),  # noqa: S704
            asked=" and ".join(_asked(result).values()),
        )
        + "\n"
    )


def _command(result: Result) -> str:
    """Return the arguments that repeat the check from a download; the verifier's own paths are nobody's business."""
    files = ["NF4_DIR", "--certified", "model"] if wording.deployed(result) else ["model"]
    words = [*files, "--manifest", "m.json", "--key", "PRODUCER.pem"]
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
