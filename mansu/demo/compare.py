"""The demo's comparison: the same axes for the base, the certified model, GradDiff and NPO."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from mansu.base import Base, open_base, open_language
from mansu.baselines import METHODS, baseline_data, export, run
from mansu.baselines.weights import bin_width_over_update
from mansu.config import Config
from mansu.data.prepare import prepare
from mansu.data.probes import held_out_probes
from mansu.progress import Steps
from mansu.request import read_request
from verify.behaviour.axes import measure
from verify.behaviour.loading import Language, nf4_copy, variant
from verify.behaviour.modules import nf4_linears
from verify.behaviour.probes import Probes, token_pairs
from verify.behaviour.statistics import perplexity
from verify.checks.study import reference_circuit
from verify.circuits import EdgeScores, Pair, attribute, compare
from verify.nf4 import quantize

COMPARED = ("graddiff", "npo")
"""Names of the baselines that the demo compares with; the others take as long again each."""


@dataclass(frozen=True, slots=True)
class Row:
    """One method's numbers: `measured` maps a row's name to (full precision, NF4)."""

    method: str
    measured: dict[str, tuple[float, float]]
    changed: float
    crossing: float
    bin_width_over_update: float


def compare_methods(
    base_folder: Path, forget: Path, retain: Path, certified: Path, config: Config, *, steps: Steps
) -> str:
    """Measure base, mansu, GradDiff and NPO on the certificate's held-out probes; return a table as text.

    The edited models of GradDiff and NPO are written to `baselines/` beside the certificate.
    """
    request = read_request(forget, retain, seed=config.seed)
    base = open_base(base_folder)
    language, _ = open_language(base)
    probes = held_out_probes(
        request, language.tokenizer, forget_pairs=config.forget_pairs, retain_pairs=0, seed=config.seed
    )
    data = baseline_data(prepare(language, base, request, config, steps=steps), base.stored, seed=config.seed)
    before = _weights(language, base.stored)
    reference = attribute(language.model, token_pairs(language.tokenizer, probes, "forget"))
    rows = []
    certified_language, _ = open_language(open_base(certified / "model"))
    for name, weights in (("base", before), ("mansu", _weights(certified_language, base.stored))):
        rows.append(_row(name, language, before, weights, base, probes, reference, steps))
    for name in COMPARED:
        method = METHODS[name]
        with steps.step(f"{method.title}: {method.sweep.what} sweep") as advance:
            found = run(method, data, lambda: _with(language, before).model, config.seed, progress=advance)
        export(certified.parent / "baselines" / name, base, found.weights)
        title = f"{method.title}, {found.strength:g}"
        rows.append(_row(title, language, before, found.weights, base, probes, reference, steps))
    return _render(rows)


def _row(
    name: str,
    language: Language,
    before: dict[str, Tensor],
    after: dict[str, Tensor],
    base: Base,
    probes: Probes,
    reference: EdgeScores,
    steps: Steps,
) -> Row:
    edited = _with(language, after)
    models = (edited, nf4_copy(edited, base.stored))
    with steps.step(f"Measuring {name}", 2 * (len(probes.choices) + len(probes.texts))) as advance:
        answers = [measure(model, probes, progress=advance) for model in models]
    measured: dict[str, tuple[float, float]] = {}
    for row in dict.fromkeys(choice.row for choice in probes.choices):
        chosen = torch.tensor([choice.row == row for choice in probes.choices])
        full, nf4 = (float(found.correct[chosen].float().mean()) for found in answers)
        measured[row] = (full, nf4)
    full, nf4 = (perplexity(found.nll, found.tokens).value for found in answers)
    measured["perplexity"] = (full, nf4)
    circuit = reference_circuit(reference)
    pairs: list[Pair] = token_pairs(language.tokenizer, probes, "forget")
    full, nf4 = (compare(reference, attribute(model.model, pairs), circuit).cad for model in models)
    measured["CAD"] = (full, nf4)
    moved = {layer: before[layer] != after[layer] for layer in before}
    count = sum(int(m.sum()) for m in moved.values())
    crossed = sum(
        int(((quantize(before[layer]).codes != quantize(after[layer]).codes) & m).sum()) for layer, m in moved.items()
    )
    parameters = sum(view.count for view in base.weights.tensors().values())
    share = crossed / count if count else float("nan")
    return Row(name, measured, count / parameters, share, bin_width_over_update(before, after))


def _weights(language: Language, stored: torch.dtype) -> dict[str, Tensor]:
    return {name: layer.weight.detach().to(stored) for name, layer in nf4_linears(language.model).items()}


def _with(language: Language, weights: dict[str, Tensor]) -> Language:
    """Return a float32 model with these linear weights and everything else of the base."""
    return variant(language, {f"{name}.weight": value.to(torch.float32, copy=True) for name, value in weights.items()})


def _render(rows: list[Row]) -> str:
    table = Table(title="Full precision → after NF4, on held-out probes")
    table.add_column("")
    for row in rows:
        table.add_column(row.method, justify="right")
    for name in rows[0].measured:
        table.add_row(name, *(f"{full:.3f} → {nf4:.3f}" for full, nf4 in (row.measured[name] for row in rows)))
    forgetting = next(iter(rows[0].measured))
    gaps = [row.measured[forgetting][1] - row.measured[forgetting][0] for row in rows]
    table.add_row(f"PTQ gap ({forgetting})", *(f"{gap:+.3f}" for gap in gaps))
    shown: list[tuple[str, Callable[[Row], str]]] = [
        ("parameters changed", lambda row: f"{row.changed:.3%}"),
        ("updates that cross a bin", lambda row: f"{row.crossing:.1%}"),
        ("bin width / median update", lambda row: f"{row.bin_width_over_update:.1f}"),
    ]
    for title, value in shown:
        table.add_row(title, *(value(row) for row in rows))
    console = Console(width=40 + 24 * len(rows), record=True, file=None, quiet=False, stderr=True)
    with console.capture() as captured:
        console.print(table)
    return captured.get()
