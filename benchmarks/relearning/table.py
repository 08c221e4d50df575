"""The study's results as files: a markdown table, JSON, and the curves as SVG."""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.relearning.correlation import Agreement, agreement
from benchmarks.relearning.measuring import Measured, models_of

BASE, GOLD = "base", "gold (never saw it)"

Column = tuple[str, Callable[[Measured], float]]
COLUMNS: tuple[Column, ...] = (
    ("forget", lambda one: one.forget),
    ("forget NF4", lambda one: one.forget_nf4),
    ("margin", lambda one: one.margin),
    ("retain", lambda one: one.retain),
    ("retain NF4", lambda one: one.retain_nf4),
    ("CAD", lambda one: one.circuits.cad),
    ("late CAD", lambda one: one.circuits.cad_late),
    ("ρ", lambda one: one.circuits.rho),
    ("mass", lambda one: one.circuits.mass),
    ("retain CAD", lambda one: one.circuits.cad_retain),
)
RELEARNED: tuple[Column, ...] = (
    ("A at the start", lambda one: one.relearned["half A"][0].accuracy_a),
    ("area A", lambda one: one.area("a")),
    ("B at the start", lambda one: one.relearned["half A"][0].accuracy_b),
    ("area B", lambda one: one.area("b")),
    ("best B", lambda one: max(p.accuracy_b for p in one.relearned["half A"])),
    ("area A, other text", lambda one: one.area("a", "other text")),
    ("area B, other text", lambda one: one.area("b", "other text")),
)
PREDICTORS: tuple[Column, ...] = (
    ("CAD", lambda one: one.circuits.cad),
    ("late CAD", lambda one: one.circuits.cad_late),
    ("mass", lambda one: one.circuits.mass),
    ("late ρ", lambda one: one.circuits.rho_late),
    ("forget accuracy", lambda one: one.forget),
    ("margin", lambda one: one.margin),
    ("log-probability", lambda one: one.log_probability),
)
"""What CAD is asked of; the last three are its rivals, which need no circuits."""
OUTCOMES: tuple[Column, ...] = (
    ("what returns on B", lambda one: one.area("b")),
    ("how fast A returns", lambda one: one.area("a")),
)


def agreements(found: Sequence[Measured]) -> list[Agreement]:
    """Correlate every predictor with every outcome over the models at equal forget accuracy: without the base."""
    compared = [one for one in found if one.model != BASE]
    return [agreement(compared, predictor, outcome) for outcome in OUTCOMES for predictor in PREDICTORS]


def markdown(found: Sequence[Measured]) -> str:
    """Return three tables: the models, relearning, correlations. Cells are means over seeds ± standard deviation."""
    parts = [_models(found, COLUMNS), _models(found, RELEARNED, _half_steps), _correlations(agreements(found))]
    return "\n\n".join(parts) + "\n"


def _models(
    found: Sequence[Measured],
    columns: Sequence[Column],
    last: Callable[[Sequence[Measured]], tuple[str, str]] | None = None,
) -> str:
    heads = ["model", *(name for name, _ in columns), *([last(found)[0]] if last else [])]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for name in models_of(found):
        of_model = [one for one in found if one.model == name]
        cells = [name, *(spread([number(one) for one in of_model]) for _, number in columns)]
        lines.append(_line([*cells, last(of_model)[1]] if last else cells))
    return "\n".join(lines)


def _half_steps(found: Sequence[Measured]) -> tuple[str, str]:
    """Return the column of steps to half, by seed; the base's accuracy is nearly 1, so half of it is taken as 0.5."""
    reached = [one.steps_to(0.5, "b") for one in found]
    return "steps to B = 0.5, by seed", ", ".join("never" if steps is None else str(steps) for steps in reached)


def spread(values: Sequence[float]) -> str:
    """Return mean ± standard deviation over seeds (of one seed, its value)."""
    if len(values) < 2:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def _correlations(rows: Sequence[Agreement]) -> str:
    heads = (
        "outcome",
        "predictor",
        "within a seed",
        "bootstrap over seeds",
        "p, methods",
        "pooled",
        "same method",
        "p",
    )
    lines = [_line(heads), _line(["---"] * len(heads))]
    for row in rows:
        between = "" if row.low is None or row.high is None else f"{row.low:+.2f} to {row.high:+.2f}"
        numbers = (f"{row.within:+.2f}", between, f"{row.p_methods:.3f}", f"{row.pooled:+.2f}")
        same = ("", "") if row.same_method is None else (f"{row.same_method:+.2f}", f"{row.p_seeds:.3f}")
        lines.append(_line((row.outcome, row.predictor, *numbers, *same)))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def write(found: Sequence[Measured], folder: Path, settings: dict[str, object]) -> None:
    """Write table.md, results.json and curves.svg to `folder`."""
    results = {
        "settings": settings,
        "models": [one.model_dump(mode="json") for one in found],
        "correlations": [asdict(row) for row in agreements(found)],
    }
    replace(folder / "table.md", markdown(found))
    replace(folder / "results.json", json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    draw_curves(found, folder / "curves.svg")


def replace(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def draw_curves(found: Sequence[Measured], path: Path) -> None:
    """Draw accuracy on A and on held-out B against steps of training on A: means over seeds, and their range for B."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    marks = "osv^D*Px<>h"
    for number, name in enumerate(models_of(found)):
        curves = [one.relearned["half A"] for one in found if one.model == name]
        steps = [point.steps for point in curves[0]]
        places = range(len(steps))
        for axes, half in ((left, "a"), (right, "b")):
            values = [[getattr(curve[i], f"accuracy_{half}") for curve in curves] for i in places]
            middle = [statistics.mean(of_step) for of_step in values]
            axes.plot(places, middle, marker=marks[number % len(marks)], markersize=4, color=f"C{number}", label=name)
            if half == "b":
                low, high = [min(of_step) for of_step in values], [max(of_step) for of_step in values]
                axes.fill_between(places, low, high, alpha=0.12, linewidth=0, color=f"C{number}")
        for axes in (left, right):
            axes.set_xticks(list(places), [str(step) for step in steps])
    left.set(title="A: what is taught again", xlabel="steps of training on A", ylabel="accuracy", ylim=(-0.02, 1.02))
    right.set(title="B: never shown again", xlabel="steps of training on A")
    right.legend(fontsize=7, loc="upper right", bbox_to_anchor=(1, 0.94))  # below the base, above the others
    partial = path.with_name(path.name + ".part")
    with mpl.rc_context({"svg.hashsalt": "relearning", "svg.fonttype": "none"}):
        figure.savefig(partial, format="svg", metadata={"Date": None})
    partial.replace(path)
