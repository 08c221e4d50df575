"""Does a model with high CAD relearn more slowly than one with low CAD, at equal forget accuracy?

    python -m benchmarks.relearning --out relearning-run [--seeds 0 1 2 3 4]

For each seed: a made-up world, a small Llama that knows it, the gold control trained without the forget set, and one
model by each method, all trained to the same forget accuracy; each is measured and taught half of the forget set again.
A finished seed is kept in `--out` and not run again. Writes table.md, results.json and curves.svg there.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from rich.console import Console

from benchmarks.relearning import methods
from benchmarks.relearning.data import Shape, make_tokenizer, make_world
from benchmarks.relearning.measuring import Attack, Measured, make_yardstick, measure
from benchmarks.relearning.table import BASE, GOLD, replace, write
from benchmarks.relearning.training import Recipe, train
from mansu.data.examples import answer_accuracy
from mansu.progress import Steps
from verify.contract.policy import Policy

KNOWN = 0.95
_MEASURED = TypeAdapter(tuple[Measured, ...])


@dataclass(frozen=True, slots=True)
class Study:
    """Everything that decides the result, but the seeds. `engine`: settings of the engine's configuration."""

    shape: Shape = field(default_factory=Shape)
    recipe: Recipe = field(default_factory=Recipe)
    attack: Attack = field(default_factory=Attack)
    target: float = 0.08
    known: float = KNOWN
    engine: dict[str, Any] = field(default_factory=dict)


def run_seed(study: Study, seed: int, say: Callable[[str], None]) -> tuple[Measured, ...]:
    """Run one seed; raises RuntimeError where the base does not know the facts: then there is nothing to study."""
    world = make_world(seed, study.shape)
    tokenizer = make_tokenizer(world)
    base = train(world, tokenizer, study.recipe, seed, with_forget=True)
    every = methods.prompts_of(world, tokenizer, (*world.forget, *world.retain))
    known = answer_accuracy(base, every)
    say(f"the base knows {known:.3f}")
    if known < study.known:
        raise RuntimeError(f"the base knows {known:.3f} of its facts, less than {study.known}: the study would be void")
    task = methods.make_task(world, tokenizer, base, target=study.target, seed=seed)
    late = study.recipe.layers - round(Policy().late_layers * study.recipe.layers)
    yardstick = make_yardstick(world, tokenizer, base, late_from=late, seed=seed)
    found = []
    for name, model, effort in _models(study, task):
        one = measure(name, model, effort, yardstick, study.attack)
        say(
            f"{name}: {effort}; forget {one.forget:.3f} (NF4 {one.forget_nf4:.3f}), retain {one.retain:.3f}, "
            f"CAD {one.circuits.cad:.3f}, late {one.circuits.cad_late:.3f}; "
            f"area A {one.area('a'):.3f}, B {one.area('b'):.3f}"
        )
        found.append(one)
    return tuple(found)


def _models(study: Study, task: methods.Task) -> Iterator[tuple[str, Any, int]]:
    """Yield name, model and effort of every compared model."""
    yield BASE, task.base, 0
    yield GOLD, train(task.world, task.tokenizer, study.recipe, task.seed, with_forget=False), 0
    with tempfile.TemporaryDirectory() as folder:
        steps = Steps(Console(quiet=True))
        yield "mansu", *methods.engine(task, Path(folder), study.engine, steps=steps)
    for name, title in (("graddiff", "GradDiff"), ("npo", "NPO"), ("gradient ascent", "gradient ascent")):
        yield title, *methods.baseline(name, task)
    for place in ("early layers", "middle MLP", "last MLP", "read-out"):
        yield f"{place} only", *methods.suppress(place, task)


def main() -> None:
    """Run the seeds that are not there yet, and write the tables of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    study = Study()
    for seed in options.seeds:
        path = options.out / f"seed-{seed}.json"
        if path.exists():
            continue
        start = time.process_time()
        found = run_seed(study, seed, lambda line, seed=seed: print(f"seed {seed}: {line}", flush=True))
        replace(path, json.dumps(_MEASURED.dump_python(found, mode="json"), indent=1, allow_nan=False) + "\n")
        print(f"seed {seed}: {time.process_time() - start:.0f} s of CPU", flush=True)
    every = [
        one
        for seed in options.seeds
        for one in _MEASURED.validate_json((options.out / f"seed-{seed}.json").read_bytes(), strict=False)
    ]
    write(every, options.out, asdict(study) | {"seeds": options.seeds})
    print((options.out / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
