"""`mansu permanence`: reads the two models and the sets, measures the matrix, and shows it."""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from mansu.base import Base, open_base
from mansu.bench.permanence import Answered, Pair, PermanenceMatrix, PermanenceRow, chance, held_out, permanence_matrix
from mansu.bench.quantizers import QUANTIZERS
from mansu.progress import Steps
from mansu.request import read_request, require_tokens
from mansu.seal.same_split import require_same_split
from verify.artefact import write_atomic
from verify.behaviour.loading import Language
from verify.contract.schema import Estimate
from verify.errors import ArtefactError, UsageError

_WIDTH = 80
# a line of Markdown is as long as its cells
_WIDE = 1000


@dataclass(frozen=True, slots=True)
class Job:
    """What is compared on what: two models, both sets, quantizers by name (none: all), probes a row at most, seed."""

    base: Path
    edited: Path
    forget: Path
    retain: Path
    quantizers: tuple[str, ...]
    probes: int
    seed: int
    out: Path | None


def permanence(job: Job, *, steps: Steps) -> PermanenceMatrix:
    """Measure the matrix, and write it to `job.out` as JSON, whole or not at all.

    Raises `UsageError` ME201 to ME204 and ME214 (sets), ME210 (a folder), ME361 (a quantizer), ME352, ME364, ME365.
    """
    request = read_request(job.forget, job.retain, seed=job.seed)
    require_same_split(job.edited, request, job.seed)
    files = open_base(job.base), open_base(job.edited)
    if files[0].stored != files[1].stored:
        raise UsageError(
            "these are not a model and its edit",
            expected="two folders of one architecture and dtype, with different weights",
            found=f"{files[0].stored} and {files[1].stored}",
            remedy="give the base model first, then the model that was edited from it",
            error_id="ME365",
        )
    base, edited = (_language(file) for file in files)
    require_tokens(base.tokenizer, request)
    # both are asked through the base's tokenizer: a difference in answers is one of weights
    pair = Pair(base, Language(edited.model, base.tokenizer), files[0].stored)
    asked = held_out(request, base.tokenizer, limit=job.probes, seed=job.seed)
    names = job.quantizers or tuple(QUANTIZERS)
    rows = []
    with steps.step("Asking under every quantizer", 1 + len(names)) as advance:
        for row in permanence_matrix(pair, asked, names):
            rows.append(row)
            advance(1)
            steps.say(_progress(row))
    matrix = PermanenceMatrix(
        base=str(job.base),
        edited=str(job.edited),
        seed=job.seed,
        forget_row=asked.forget_row,
        retain_row=asked.retain_row,
        forget_chance=chance(asked.forget, asked, base.tokenizer),
        retain_chance=chance(asked.retain, asked, base.tokenizer),
        parameters=sum(parameter.numel() for parameter in base.model.parameters()),
        edited_parameters=sum(len(at) for at in pair.edits().values()),
        rows=tuple(rows),
    )
    if job.out is not None:
        write_atomic(job.out, (matrix.model_dump_json(indent=1, by_alias=True) + "\n").encode())
    return matrix


def _language(file: Base) -> Language:
    try:
        return file.language()
    except ArtefactError as error:
        raise UsageError(
            error.message,
            expected="a Hugging Face causal-LM folder with its tokenizer",
            found=f"{error.found} in {file.folder}",
            remedy="give a folder that loads",
            error_id="ME210",
        ) from error


def _progress(row: PermanenceRow) -> str:
    if row.forget is None:
        return f"{row.title}: {row.state}"
    return f"{row.title}: forget {row.forget.base.value:.3f} base, {row.forget.edited.value:.3f} edited"


def shown(matrix: PermanenceMatrix, *, markdown: bool = False) -> str:
    """Return the table, with what its columns mean and what each format was applied to, as text."""
    parts = [_table(matrix, markdown=markdown), *_notes(matrix)]
    if markdown:
        return "\n\n".join(parts) + "\n"
    table, *others = parts
    return "\n".join([table, *(textwrap.fill(part, _WIDTH, break_on_hyphens=False) for part in others)]) + "\n"


def _table(matrix: PermanenceMatrix, *, markdown: bool) -> str:
    table = Table(
        box=box.MARKDOWN if markdown else box.SIMPLE_HEAD, pad_edge=markdown, padding=(0, 1) if markdown else 0
    )
    between = " " if markdown else "\n"
    kinds = (f"{kind}{between}{column}" for kind in ("forget", "retain") for column in ("base", "edited", "gap"))
    headings = ("quantizer", *kinds, "differ", "realised" if markdown else "real-\nised")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    for row in matrix.rows:
        table.add_row(row.title if markdown else row.quantizer, *_cells(row, intervals=markdown))
    console = Console(
        width=_WIDE if markdown else _WIDTH, highlight=False, color_system=None, file=io.StringIO(), markup=False
    )
    console.print(table)
    output = console.file
    assert isinstance(output, io.StringIO)
    lines = [line.rstrip() for line in output.getvalue().splitlines()]
    return "\n".join(line for line in lines if line)


def _cells(row: PermanenceRow, *, intervals: bool) -> list[str]:
    if row.forget is None or row.retain is None:
        return [row.state, *[""] * 7]
    cells = [*_answered(row.forget, intervals=intervals), *_answered(row.retain, intervals=intervals)]
    if row.control is False:
        cells[0] += "*"
    if row.quantized_edits is None or row.differing is None:
        return [*cells, "", ""]
    share = f"{row.differing / row.quantized_edits:.1%}" if row.quantized_edits else "none taken"
    return [*cells, share, "" if row.realised is None else f"{row.realised:.2f}"]


def _answered(answered: Answered, *, intervals: bool) -> list[str]:
    gap = f"{answered.gap.value:+.3f}"
    if intervals:
        gap += f" ({answered.gap.low:+.2f} to {answered.gap.high:+.2f})"
    return [f"{answered.base.value:.3f}", _value(answered.edited, intervals=intervals), gap]


def _value(estimate: Estimate, *, intervals: bool) -> str:
    return f"{estimate.value:.3f}" + (f" ({estimate.low:.2f} to {estimate.high:.2f})" if intervals else "")


def _notes(matrix: PermanenceMatrix) -> Sequence[str]:
    first = matrix.rows[0]
    assert first.forget is not None
    assert first.retain is not None
    asked = (
        f"forget: {matrix.forget_row}, {first.forget.base.n} probes, chance {matrix.forget_chance:.3f}; retain: "
        f"{matrix.retain_row}, {first.retain.base.n} probes, chance {matrix.retain_chance:.3f}; seed {matrix.seed}. "
        f"{matrix.edited_parameters:,} of {matrix.parameters:,} parameters were edited."
    )
    columns = (
        "gap: accuracy under the quantizer minus full precision, same probes. differ: share of the edited parameters "
        "whose quantized value is another than the base's. realised: how much of the edit is left in its direction."
    )
    notes = [asked, columns]
    for row in matrix.rows:
        if row.proofs:
            formats = "; ".join(
                f"{proof.format}: {proof.tensors} tensors, {proof.values:,} values, {proof.changed / proof.values:.1%} "
                f"changed, at most {proof.distinct} values in a block of {proof.levels} levels"
                for proof in row.proofs
            )
            notes.append(f"{row.title}: {formats}.")
        if row.note:
            notes.append(f"{row.title}: {row.note}.")
        if row.control is False:
            notes.append(f"* {row.title}: the base does not know the forget set either, so the row is inconclusive.")
    return notes
