"""Where does NF4 bring knowledge back, and where not? A map over model size, method, learning rate and steps.

    python -m benchmarks.recovery --out recovery-run                       # small Llamas, trained here, 0.2 M to 12 M
    python -m benchmarks.recovery --out recovery-run --model BASE          # a model that knows the capitals, alone

Every point is one run of GradDiff or NPO from the base: forget accuracy in full precision and after NF4 on wordings
that were not trained on, what is retained, the bin width over the median update, and the lead of the answer's logit
over its best alternative (the margin by which the answer is lost). Points that are in `--out` are not run again.
"""

import argparse
import copy
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from rich.console import Console

from benchmarks.relearning.data import Shape, make_tokenizer, make_world
from benchmarks.relearning.methods import given, make_task, prompts_of
from benchmarks.relearning.training import Recipe, train
from mansu.base import device_named
from mansu.baselines import METHODS, BaselineData, Budget, baseline_data
from mansu.baselines.weights import bin_width_over_update, edited_weights
from mansu.bench.study.figure import finished, markers, style
from mansu.bench.study.training import open_suite
from mansu.bench.suites import write_suite
from mansu.config import Config
from mansu.data.examples import Prompts, answer_accuracy, last_logits, tokenize_facts
from mansu.data.prepare import prepare
from mansu.data.probes import all_pools
from mansu.progress import Steps
from verify.artefact import write_atomic
from verify.behaviour.modules import nf4_linears
from verify.nf4 import dequantize, quantize

SIZES = {
    "0.2M": Recipe(layers=4, width=64, inner=128, heads=4),
    "1M": Recipe(layers=4, width=128, inner=384, heads=4),
    "4M": Recipe(layers=6, width=256, inner=640, heads=4, steps=300, learning_rate=2e-3),
    "12M": Recipe(layers=8, width=384, inner=1024, heads=6, steps=250, learning_rate=1e-3),
}
RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
STEPS = (5, 20, 80)
NAMES = ("graddiff", "npo")
_ASKED = 200
FORGOT = 0.1
"""Accuracy lost in full precision from which a run counts as one that forgot."""


@dataclass(frozen=True, slots=True)
class Point:
    """One run; accuracies on held-out wordings, `lead` in logits (negative: the answer is lost), its mean over them."""

    model: str
    parameters: int
    method: str
    rate: float
    steps: int
    base: float
    base_nf4: float
    forget: float
    forget_nf4: float
    retain: float
    base_retain: float
    lead: float
    bin_width_over_update: float


@dataclass(frozen=True, slots=True)
class Ground:
    """A base with its data; `held_out` are the forget prompts that are measured."""

    name: str
    base: Any
    data: BaselineData
    held_out: Prompts


def small(name: str, recipe: Recipe, seed: int) -> Ground:
    """Train a small Llama on a made-up world, and prepare to make it forget one part."""
    world = make_world(seed, Shape())
    tokenizer = make_tokenizer(world)
    base = train(world, tokenizer, recipe, seed, with_forget=True).to(torch.bfloat16).float()
    task = make_task(world, tokenizer, base, target=0.0, seed=seed)
    held_out = prompts_of(world, tokenizer, tuple(fact for fact in world.forget if fact not in given(world.forget)))
    kept = prompts_of(world, tokenizer, world.retain_measured)
    data = BaselineData(task.forget, held_out, task.retained, kept.subset(range(0, len(kept), 4)), torch.bfloat16)
    return Ground(name, base, data, held_out)


def real(folder: Path, suite: str, device: torch.device, steps: Steps) -> Ground:
    """Prepare a suite of real knowledge on a model of one's own, on a device."""
    with tempfile.TemporaryDirectory() as sets:
        opened = open_suite(suite, folder, *write_suite(suite, Path(sets)), Config(), device)
    prepared = prepare(opened.language, opened.base, opened.request, opened.config, steps=steps)
    pool_of = all_pools(opened.request)
    facts = opened.request.forget.held_out_wordings[:: max(1, len(opened.request.forget.held_out_wordings) // _ASKED)]
    held_out = tokenize_facts(opened.language.tokenizer, facts, pool_of)
    data = baseline_data(prepared, opened.base.stored, seed=opened.seed)
    return Ground(folder.name, opened.language.model, data, held_out)


def point(ground: Ground, method: str, rate: float, steps: int) -> Point:
    """Edit once and measure; accuracies of a model that broke are those of its numbers, whatever they are."""
    model = copy.deepcopy(ground.base)
    before = edited_weights(model, ground.data.stored)
    METHODS[method].edit(model, ground.data, rate, Budget(steps=steps), 0)
    after = edited_weights(model, ground.data.stored)
    full = _with(ground.base, {name: weight.float() for name, weight in after.items()})
    nf4 = _with(ground.base, {name: _deployed(weight) for name, weight in after.items()})
    base_nf4 = _with(ground.base, {name: _deployed(weight) for name, weight in before.items()})
    return Point(
        model=ground.name,
        parameters=sum(parameter.numel() for parameter in ground.base.parameters()),
        method=method,
        rate=rate,
        steps=steps,
        base=answer_accuracy(ground.base, ground.held_out),
        base_nf4=answer_accuracy(base_nf4, ground.held_out),
        forget=answer_accuracy(full, ground.held_out),
        forget_nf4=answer_accuracy(nf4, ground.held_out),
        retain=answer_accuracy(full, ground.data.retain_validation),
        base_retain=answer_accuracy(ground.base, ground.data.retain_validation),
        lead=_lead(full, ground.held_out),
        bin_width_over_update=bin_width_over_update(before, after),
    )


def _deployed(weight: torch.Tensor) -> torch.Tensor:
    return dequantize(quantize(weight), weight.dtype).float()


def _with(base: Any, weights: dict[str, torch.Tensor]) -> Any:
    model = copy.deepcopy(base)
    for name, layer in nf4_linears(model).items():
        layer.weight.data.copy_(weights[name])
    return model


@torch.no_grad()
def _lead(model: Any, prompts: Prompts) -> float:
    """Return the mean of the answer's logit minus the greatest of its alternatives'."""
    logits = last_logits(model, prompts, range(len(prompts)))
    leads = [
        row[answer] - row[[token for token in pool if token != answer]].max()
        for row, answer, pool in zip(logits, prompts.answers, prompts.pools, strict=True)
    ]
    return float(torch.stack(leads).mean())


def points(grounds: Iterator[Callable[[], Ground]], out: Path, say: Callable[[str], None]) -> list[Point]:
    """Run every point that is not there yet, and return all; each is written as soon as it is known."""
    path = out / "points.json"
    known = [Point(**each) for each in json.loads(path.read_text())] if path.exists() else []
    for make in grounds:
        ground = make()
        for method in NAMES:
            for rate in RATES:
                for steps in STEPS:
                    if any((p.model, p.method, p.rate, p.steps) == (ground.name, method, rate, steps) for p in known):
                        continue
                    try:
                        found = point(ground, method, rate, steps)
                    except FloatingPointError:
                        say(f"{ground.name} {method} {rate:g} {steps}: broke the model")
                        continue
                    known.append(found)
                    write_atomic(path, json.dumps([asdict(each) for each in known], indent=1).encode())
                    say(f"{ground.name} {method} {rate:g} {steps}: {found.forget:.3f} → {found.forget_nf4:.3f}")
    return known


def table(found: list[Point]) -> str:
    """Return all points as Markdown, those where NF4 brings most back first within each model."""
    lines = [
        "| model | method | rate | steps | forget → NF4 | gap | retain | lead | bin width / median update |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {p.model} | {p.method} | {p.rate:g} | {p.steps} | {p.forget:.3f} → {p.forget_nf4:.3f} | "
        f"{p.forget_nf4 - p.forget:+.3f} | {p.retain:.3f} ({p.base_retain:.3f}) | {p.lead:+.2f} | "
        f"{p.bin_width_over_update:.0f} |"
        for p in sorted(found, key=lambda p: (p.parameters, p.forget - p.forget_nf4))
    ]
    return "\n".join(lines) + "\n"


def drawing(found: list[Point]) -> str:
    """Return the map as SVG: the PTQ gap of every run that forgot something, by the bin width over its update."""
    forgot = [point for point in found if point.base - point.forget >= FORGOT]
    names = list(dict.fromkeys(point.model for point in sorted(forgot, key=lambda point: point.parameters)))
    told = "; ".join(
        f"{p.model}, {p.method} {p.rate:g}, {p.steps} steps: {p.bin_width_over_update:.0f} bins, "
        f"{p.forget_nf4 - p.forget:+.3f}"
        for p in forgot
    )
    with style():
        drawn = Figure(figsize=(7.0, 3.6), layout="constrained")
        panel = drawn.subplots()
        for marker, name in zip(markers(len(names)), names, strict=True):
            mine = [point for point in forgot if point.model == name]
            widths = [point.bin_width_over_update for point in mine]
            gaps = [point.forget_nf4 - point.forget for point in mine]
            at = {"marker": marker, "linestyle": "none", "color": "black", "markerfacecolor": "none"}
            panel.plot(widths, gaps, label=f"{name} ({len(mine)})", **at)
        panel.axhline(0, color="0.6", linewidth=0.8, linestyle="--")
        panel.set_xscale("log")
        panel.set_xlabel("NF4 bin width / median update")
        panel.set_ylabel("accuracy that NF4 brings back")
        panel.legend(frameon=False)
        return finished(drawn, "Where NF4 brings knowledge back", told)


def main() -> None:
    """Run what is missing, and write points.json, table.md and map.svg."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", action="append", choices=SIZES, help="by default all, and none beside --model")
    parser.add_argument("--model", type=Path, help="a model of one's own, on the suite")
    parser.add_argument("--device", default="cpu", help="of that model, such as cuda")
    parser.add_argument("--suite", default="capitals")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    console = Console(stderr=True)
    chosen.out.mkdir(parents=True, exist_ok=True)

    def grounds() -> Iterator[Callable[[], Ground]]:
        for name in chosen.size or (SIZES if chosen.model is None else ()):
            yield lambda name=name: small(name, SIZES[name], chosen.seed)
        if chosen.model is not None:
            yield lambda: real(chosen.model, chosen.suite, device_named(chosen.device), Steps(console))

    found = points(grounds(), chosen.out, lambda text: console.print(text, highlight=False))
    text = table(found)
    write_atomic(chosen.out / "table.md", text.encode())
    write_atomic(chosen.out / "map.svg", drawing(found).encode())
    print(text, end="")


if __name__ == "__main__":
    main()
