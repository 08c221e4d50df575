"""What a base model knows of each suite: accuracy by row, chance, and the size of the row.

`python -m benchmarks.suites MODEL [--suite NAME] [--sample 60]`; every row of held-out probes, or a sample of each. The
table in docs/suites.md comes from here.
"""

import argparse
import json
import random
import tempfile
from collections import defaultdict
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mansu.bench.suites import SUITES, write_suite
from mansu.data.examples import answer_accuracy, tokenize_facts
from mansu.data.probes import all_pools
from mansu.request import Fact, read_request


def rows_of(suite: str, seed: int) -> tuple[dict[str, list[Fact]], dict]:
    """Return the held-out probes by row, and the pool of each."""
    with tempfile.TemporaryDirectory() as folder:
        request = read_request(*write_suite(suite, Path(folder)), seed=seed)
    rows: dict[str, list[Fact]] = defaultdict(list)
    rows[f"{suite}, held-out wordings"] += request.forget.held_out_wordings
    rows[f"{suite}, held-out facts"] += request.forget.held_out_facts
    for fact in request.retain.held_out_facts:
        rows[f"{fact.group} (kept)"].append(fact)
    return rows, all_pools(request)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--suite", choices=SUITES, action="append")
    parser.add_argument("--sample", type=int, help="most probes of a row, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    for suite in arguments.suite or SUITES:
        rows, pool_of = rows_of(suite, arguments.seed)
        for row, facts in rows.items():
            chosen = facts
            if arguments.sample is not None and len(facts) > arguments.sample:
                chosen = random.Random(arguments.seed).sample(facts, arguments.sample)
            prompts = tokenize_facts(tokenizer, chosen, pool_of)
            chance = sum(1 / len(pool) for pool in prompts.pools) / len(prompts)
            found = {
                "suite": suite,
                "row": row,
                "facts": len({fact.fact for fact in facts}),
                "probes": len(facts),
                "measured": len(chosen),
                "accuracy": round(answer_accuracy(model, prompts), 3),
                "chance": round(chance, 3),
            }
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
