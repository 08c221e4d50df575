"""The tables of a suite, in whatever format: the four axes, seed by seed too, what edits take, what they withstand."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mansu.bench.study.columns import CellDocument
from mansu.bench.study.judging import Criteria
from mansu.bench.study.kept import base_kept, kept, topics
from mansu.bench.study.summary import Document, Line, Over

Show = Callable[[Mapping[str, Over | None]], str]
Columns = Sequence[tuple[str, Show]]
Measured = Callable[[CellDocument], bool]


@dataclass(frozen=True, slots=True)
class Row:
    """A base's or method's cells; `line` is None of a base."""

    title: str
    cells: tuple[str, ...]
    line: Line | None


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its caption, and a note on what its columns mean where no table above has said so."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str | None


def tables(found: Document) -> tuple[Table, ...]:
    """Return what there is to print of a suite; of several seeds each one's axes too, for their mean hides them."""
    axes = [_base("base", found.base, AXES), *_methods(found, AXES, _edited)]
    made = [_table("The four axes", AXES, axes, rule(found))]
    if found.by_seed:
        made.append(_table("Seed by seed", AXES, _seed_by_seed(found), None))
    if topics(found.cells):
        made.append(_kept(found))
    made.append(_table("What they take", COSTS, _methods(found, COSTS, _edited), COSTS_NOTE))
    if any(map(_attacked, found.cells)):
        made.append(_table("What they withstand", ATTACKS, _of_some(found, ATTACKS, _attacked), ATTACKS_NOTE))
    if any(map(_told_apart, found.cells)):
        made.append(_table("Told from a model that never knew", TOFU, _of_some(found, TOFU, _told_apart), TOFU_NOTE))
    return tuple(made)


def intro(found: Document) -> str:
    """Return what the numbers are."""
    seeds = sorted({seed for line in found.lines for seed in line.seeds})
    numbers = "in brackets the 95 % interval"
    if len(seeds) > 1:
        numbers = (
            "of several seeds the mean, in brackets the mean of their 95 % intervals, which say nothing of how much "
            "seeds differ (the JSON has each seed's)"
        )
    return f"{_named(seeds).capitalize()}; held-out probes; full precision → after NF4; {numbers}.{_elsewhere(found)}"


def _named(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _elsewhere(found: Document) -> str:
    """Say where models were trained and asked, if not on the processor, whose seconds then tell little."""
    devices = sorted({cell.edit.device for cell in found.cells if cell.edit is not None} - {"cpu"})
    if not devices:
        return ""
    return f" Trained and asked on {', '.join(devices)}: processor seconds are only what went beside it."


def legend(criteria: Criteria) -> str:
    """Return what the columns of every suite's tables mean, and what each axis asks for."""
    return "\n\n".join((_rule(criteria, ""), KEPT_NOTE, COSTS_NOTE, ATTACKS_NOTE)) + "\n"


def rule(found: Document) -> str:
    """Return what each axis asks for."""
    chance = found.base.get("chance")
    return _rule(found.criteria, "" if chance is None else f" ({chance.value:.3f})")


def _rule(criteria: Criteria, guessing: str) -> str:
    return (
        f"Axes: F, forgetting: accuracy on held-out wordings at most {criteria.above_chance:g} above chance{guessing} "
        f"in both precisions. R, retention: no row loses more than {criteria.loss:g}, perplexity rises at most "
        f"{criteria.rise:.0%}. Q, PTQ gap: at most 0, or its interval touches 0. E, erasure: CAD as `mansu-verify` "
        "judges it by default, against NF4 of the base. A dot is an axis missed; of several seeds, the number that "
        "meet it."
    )


def _table(caption: str, columns: Columns, rows: Sequence[Row], note: str | None) -> Table:
    return Table(caption, tuple(name for name, _ in columns), tuple(rows), note)


def _methods(found: Document, columns: Columns, measured: Measured) -> list[Row]:
    return [_method(_title(found, line, measured), line, columns) for line in found.lines]


def _of_some(found: Document, columns: Columns, measured: Measured) -> list[Row]:
    """Return the rows of what may have been measured with some seeds only, the base's too."""
    base = "base" + _of_these(found, filter(measured, found.base_cells))
    return [_base(base, found.base, columns), *_methods(found, columns, measured)]


def _kept(found: Document) -> Table:
    names = topics(found.cells)
    base = Row("base", base_kept(found.cells, names), None)
    rows = [Row(_title(found, line, _asked), kept(_cells_of(found, line), names), line) for line in found.lines]
    return Table("What is kept, row by row", names, (base, *rows), KEPT_NOTE)


def _seed_by_seed(found: Document) -> list[Row]:
    rows: list[Row] = []
    for each in found.by_seed:
        after = f", seed {each.seed}"
        rows += [_base("base" + after, each.base, AXES)]
        rows += [_method(line.title + after, line, AXES) for line in each.lines]
    return rows


def _title(found: Document, line: Line, measured: Measured) -> str:
    """Return a method's title, with the seeds it was measured with where they are not all."""
    return line.title + _of_these(found, filter(measured, _cells_of(found, line)))


def _of_these(found: Document, cells: Iterable[CellDocument]) -> str:
    mine, every = (sorted({cell.seed for cell in each}) for each in (cells, found.cells))
    return "" if mine in ([], every) else f", {_named(mine)}"


def _cells_of(found: Document, line: Line) -> list[CellDocument]:
    return [cell for cell in found.cells if cell.method == line.method]


def _edited(cell: CellDocument) -> bool:
    return cell.edit is not None


def _asked(cell: CellDocument) -> bool:
    return cell.axes is not None


def _attacked(cell: CellDocument) -> bool:
    return cell.robust is not None or cell.relearning is not None


def _told_apart(cell: CellDocument) -> bool:
    return cell.tofu is not None


def _base(title: str, numbers: Mapping[str, Over | None], columns: Columns) -> Row:
    return Row(title, tuple("" if name == "axes" else show(numbers) for name, show in columns), None)


def _method(title: str, line: Line, columns: Columns) -> Row:
    return Row(title, cells(line, columns), line)


def cells(line: Line, columns: Columns) -> tuple[str, ...]:
    """Return a method's cells under these columns."""
    return tuple(axes_of(line) if name == "axes" else show(line.numbers) for name, show in columns)


def axes_of(line: Line) -> str:
    """Return the axes met, a letter each: `FRQE` for all; with the number of seeds where there are several."""
    if not line.measured:
        return ""
    letters = {"forgetting": "F", "retention": "R", "PTQ gap": "Q", "erasure": "E"}
    shown = []
    for axis, letter in letters.items():
        count = line.met.get(axis)  # type: ignore[call-overload]  # the literal's values
        if line.measured == 1:
            shown.append("?" if count is None else letter if count else "·")
        else:
            shown.append(f"{letter}{'?' if count is None else count}")
    joined = ("" if line.measured == 1 else " ").join(shown)
    return joined if line.measured == 1 else f"{joined} of {line.measured}"


def pair(first: str, second: str, form: str = ".3f") -> Show:
    """Return full precision → NF4; a dash where neither was measured."""

    def show(numbers: Mapping[str, Over | None]) -> str:
        full, nf4 = numbers.get(first), numbers.get(second)
        return "—" if full is None and nf4 is None else f"{_plain(full, form)} → {_plain(nf4, form)}".strip()

    return show


def three(first: str, second: str, last: str, form: str = ".3f") -> Show:
    """Return three numbers in a row; a dash where none was measured."""

    def show(numbers: Mapping[str, Over | None]) -> str:
        found = [numbers.get(name) for name in (first, second, last)]
        return " → ".join(_plain(each, form) for each in found) if any(found) else "—"

    return show


def interval(name: str, form: str = "+.3f", scale: float = 1.0) -> Show:
    """Return a number with its interval."""

    def show(numbers: Mapping[str, Over | None]) -> str:
        found = numbers.get(name)
        if found is None:
            return "—"
        value, low, high = (f"{scale * each:{form}}" for each in (found.value, found.low, found.high))
        return f"{value} [{low}, {high}]"

    return show


def one(name: str, form: str, scale: float = 1.0, unit: str = "") -> Show:
    """Return a number alone."""

    def show(numbers: Mapping[str, Over | None]) -> str:
        found = numbers.get(name)
        return "—" if found is None else f"{scale * found.value:{form}}{unit}"

    return show


def _plain(found: Over | None, form: str) -> str:
    return "" if found is None else f"{found.value:{form}}"


AXES: tuple[tuple[str, Show], ...] = (
    ("axes", one("axes", "")),
    ("forget, held-out wordings", pair("forget", "forget_nf4")),
    ("held-out facts", pair("forget_facts", "forget_facts_nf4")),
    ("PTQ gap", interval("ptq_gap")),
    ("neighbours, worse", interval("neighbours")),
    ("other facts, worst", interval("other_facts")),
    ("other facts, all", interval("other_facts_together")),
    ("perplexity, worse", interval("perplexity", "+.1f", 100)),
    ("CAD", pair("cad", "cad_nf4")),
    ("late CAD", pair("late_cad", "late_cad_nf4")),
    ("retain CAD", one("retain_cad_nf4", ".3f")),
)
KEPT_NOTE = (
    "Row by row: held-out facts of each topic; the change of accuracy from the base in the same precision, of the base "
    "its accuracy; full precision → after NF4, of several seeds the mean."
)
COSTS: tuple[tuple[str, Show], ...] = (
    ("changed", one("share_changed", ".3f", 100, " %")),
    ("of these, cross", one("share_crossing", ".1f", 100, " %")),
    ("bin width / median update", one("bin_width_over_update", ".1f")),
    ("edit, CPU s", one("edit_cpu_seconds", ".0f")),
    ("with the search, CPU s", one("search_cpu_seconds", ".0f")),
    ("peak, GiB", one("peak_bytes", ".1f", 2**-30)),
)
COSTS_NOTE = (
    "Neighbours, other facts and perplexity (in percent): the change from the base in the same precision, the worst "
    "of the rows and of the two precisions; all other facts: of all rows as one, in the worse precision. Changed: "
    "share of the model's parameters; cross: of the changed ones, those whose NF4 code is another. Edit: processor "
    "seconds from prepared data to edited weights at the setting that was kept, of mansu with the search for the "
    "circuit; with the search: all that was tried, of the seed that was tuned. Peak: resident memory of the process."
)
TOFU: tuple[tuple[str, Show], ...] = (
    ("forget quality, p", one("forget_quality", ".3g")),
    ("KS distance", one("ks_statistic", ".3f")),
    ("model utility", one("utility", ".3f")),
    ("utility of the reference", one("reference_utility", ".3f")),
)
TOFU_NOTE = (
    "TOFU's metrics, in full precision. Forget quality: p-value of a Kolmogorov-Smirnov test between the truth ratios "
    "of the model and of the reference, which was never taught the authors to be forgotten; above .05 the two cannot "
    "be told apart. Model utility: harmonic mean of nine scores on kept authors, real authors and the world "
    "(docs/suites.md)."
)
ATTACKS: tuple[tuple[str, Show], ...] = (
    ("paraphrases", one("paraphrases", ".3f")),
    ("other languages", one("languages", ".3f")),
    ("multiple choice", one("choices", ".3f")),
    ("open answer", one("open", ".3f")),
    ("few-shot", one("few_shot", ".3f")),
    ("relearning half: 0 → 10 → 100 steps", three("relearned_0", "relearned_10", "relearned_100")),
    ("other text: 0 → 100 steps", pair("relearned_text_0", "relearned_text_100")),
)
ATTACKS_NOTE = (
    "Accuracy on the facts that were trained to be forgotten, the better of full precision and NF4: asked in other "
    "words, in the languages that the base understands, by lettered choices (guessing gives .25), in free text, and "
    "after four answered examples of other forgotten facts. Relearning: accuracy on half B while half A is taught "
    "again, and on both while unrelated text is (docs/robust.md)."
)
