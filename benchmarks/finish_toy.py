"""The finish on a toy Llama of 0.8 M parameters: each step from one and the same snapped state, held out and not.

    python benchmarks/finish_toy.py --seeds 0 1 2

The toy learns the capitals and colours of 40 invented countries, and forgets the capitals; its mask is 5 % of it. Two
minutes a seed on one core, the toy's training included.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import certificates as c
import requests_tiny as r

from mansu import circuit_edit, unlearn
from mansu.base import open_base, open_language, working_copy
from mansu.config import Config
from mansu.data.examples import answer_accuracy, last_log_probabilities, tokenize_facts
from mansu.data.prepare import prepare
from mansu.progress import Steps
from mansu.request import read_request
from mansu.solve.finish import finishing
from mansu.solve.finish.finishing import Finish, exchange, minimal
from mansu.solve.frontier import Measurement, Trials
from mansu.solve.masked import Masked
from mansu.solve.objective import divergence
from mansu.solve.stopping import accuracy_after_nf4

MASK_SHARE = 0.05
# rounds of swaps, rounds of polish, trials of minimality
VARIANTS = {
    "none": (0, 0, 0),
    "swaps": (1, 0, 0),
    "polish": (0, 2, 0),
    "minimal": (0, 0, 5),
    "all": (1, 2, 5),
}
Held = Callable[[], str]


def main() -> None:
    """Train the toy, solve for each seed with and without compensation, and print each variant's numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        c.save_base(trained(), folder / "base")
        r.write(folder / "forget.jsonl", r.forget_lines())
        r.write(folder / "retain.jsonl", r.retain_lines())
        for seed in seeds:
            for compensated in (False, True):
                print(f"seed {seed}, {'with' if compensated else 'without'} compensation", flush=True)
                study(folder, seed, compensated=compensated)


def trained() -> LlamaForCausalLM:
    """Return a toy that knows the facts in all wordings."""
    torch.manual_seed(1)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(c.tokenizer()),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            tie_word_embeddings=True,
        )
    )
    facts = [line for line in (*r.forget_lines(), *r.retain_lines()) if "prompt" in line]
    ids = [c.tokenizer()(text)["input_ids"] for text in (*(f"{f['prompt']} {f['answer']}" for f in facts), *c.prose())]
    batches = [torch.tensor([x for x in ids if len(x) == n]) for n in sorted({len(x) for x in ids})]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1)
    for _ in range(180):
        optimizer.zero_grad()
        sum(model(input_ids=batch, labels=batch).loss for batch in batches).backward()
        optimizer.step()
    return cast("LlamaForCausalLM", model.eval())


def study(folder: Path, seed: int, *, compensated: bool) -> None:
    """Solve once, and take every variant of the finish from where the snaps end."""
    config = Config(
        seed=seed,
        attribution_pairs=12,
        circuit_pairs=8,
        sampled_texts=24,
        text_length=10,
        fisher_batches=8,
        entry_share=0.0,
        error_compensation=compensated,
        swap_rounds=1,
    )
    steps = Steps(Console(quiet=True))
    request = read_request(folder / "forget.jsonl", folder / "retain.jsonl", seed=seed)
    base = open_base(folder / "base")
    language, _ = open_language(base)
    data = prepare(language, base, request, config, steps=steps)
    circuit = unlearn.find_circuit(language, data, config, steps=steps)
    model = working_copy(language, base.stored)
    held = held_out(model, language.tokenizer, data)

    def from_here(masked: Masked, trials: Trials, found: Measurement, how: Finish, *, budget: float) -> Measurement:
        start = masked.state()
        for name, (swaps, polish, least) in VARIANTS.items():
            variant = replace(how, swap_rounds=swaps, polish_rounds=polish, minimal_trials=least, say=_unheard)
            after = exchange(masked, trials, found, variant, budget=budget)
            if least:
                minimal(masked, trials, found, after, variant)
            print(f"  {name:8} {masked.changed:6,} changed  {_measured(trials)}  {held()}", flush=True)
            masked.restore(start)
        return found

    choose = circuit_edit.select
    circuit_edit.select = lambda *given, size, parameters, **named: choose(  # noqa: ARG005  (the share is another here)
        *given, size=int(MASK_SHARE * parameters), parameters=parameters, **named
    )
    finishing.exchange = from_here
    circuit_edit.edit_circuit(model, base, data, circuit, config, steps=steps)
    circuit_edit.select = choose


def held_out(model: Any, tokenizer: Any, data: Any) -> Held:
    """Return how to measure the model on what neither trains nor stops it."""
    split = data.request
    sets = (split.forget.held_out_wordings, split.forget.held_out_facts, split.retain.held_out_facts)
    wordings, facts, kept = (tokenize_facts(tokenizer, chosen, data.pools) for chosen in sets)
    reference = last_log_probabilities(model, kept).float()

    def measure() -> str:
        nats = float(divergence(reference, last_log_probabilities(model, kept).float()).mean())
        forget = (f"{answer_accuracy(model, x):.3f}/{accuracy_after_nf4(model, x):.3f}" for x in (wordings, facts))
        return f"held out: wordings {next(forget)} facts {next(forget)} retain {nats:.3f} nats"

    return measure


def _measured(trials: Trials) -> str:
    rule, model = trials.stopping, trials.model
    forget = f"{rule.accuracy(model):.3f}/{rule.accuracy_nf4(model):.3f}"
    return f"validation: {forget} retain {rule.retained(model):.4f} nats"


def _unheard(_: str) -> None:
    """Say nothing."""


if __name__ == "__main__":
    main()
