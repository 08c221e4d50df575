"""Forgotten facts asked in other ways, and what fine-tuning brings back.

    python -m benchmarks.robust MODEL [--base BASE] [--suite NAME] [--sample 60] [--seed 0] [--nf4]
    python -m benchmarks.robust MODEL --suite NAME --relearn facts|text

Prints a JSON line for each row or checkpoint. --base: the model that MODEL was made from, which tells the languages
that are asked in; left out where MODEL is a base itself. --nf4: MODEL as NF4 deploys it. --wordings: each new wording
and each language on its own instead, which is how they were chosen. The tables in docs/robust.md come from here.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mansu.bench.robust import relearn, robust_rows, spoken_languages
from mansu.bench.robust.asking import asking
from mansu.bench.robust.cloze import Probes, ask, distinct_facts, source, subject
from mansu.bench.robust.languages import languages
from mansu.bench.robust.translations import LANGUAGES
from mansu.bench.suites import SUITES, write_suite
from mansu.demo.sets import filled
from mansu.request import Request, read_request
from verify.behaviour.loading import Language, nf4_copy


def read_suite(suite: str, seed: int) -> Request:
    with tempfile.TemporaryDirectory() as folder:
        return read_request(*write_suite(suite, Path(folder)), seed=seed)


def load(folder: Path) -> Language:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)
    return Language(model, AutoTokenizer.from_pretrained(folder))


def by_wording(language: Language, request: Request, suite: str, most: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield the accuracy of each new wording on the same facts, and of each language."""
    asked = source(request, seed=seed, most=most)
    facts = asked.sample(distinct_facts(asked.facts), "trial")
    for wording in asking(suite).paraphrases:
        prompted = tuple(replace(f, prompt=next(filled((wording,), subject(f)))) for f in facts)
        probes = Probes("paraphrases", wording, prompted, tuple(map(asked.pool, facts)))
        yield ask(language, probes).row().model_dump(mode="json", exclude={"dropped", "mass"})
    for tongue in LANGUAGES:
        yield (
            ask(language, languages(asked, suite, (tongue,), language.tokenizer))
            .row()
            .model_dump(mode="json", exclude={"dropped", "mass"})
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--suite", choices=SUITES, action="append")
    parser.add_argument("--sample", type=int, default=100, help="most probes of a row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nf4", action="store_true")
    parser.add_argument("--wordings", action="store_true")
    parser.add_argument("--relearn", choices=("facts", "text"))
    options = parser.parse_args()
    language = load(options.model)
    base = language if options.base is None else load(options.base)
    if options.nf4:
        language = nf4_copy(language, torch.bfloat16)
    for suite in options.suite or SUITES:
        start = time.process_time()
        request = read_suite(suite, options.seed)
        if options.wordings:
            found = list(by_wording(language, request, suite, options.sample, options.seed))
        elif options.relearn:
            points = relearn(language, request, kind=options.relearn, seed=options.seed)
            found = [point.model_dump(mode="json") for point in points]
        else:
            tongues = spoken_languages(base, request, suite, seed=options.seed)
            rows = robust_rows(language, request, suite=suite, tongues=tongues, seed=options.seed, most=options.sample)
            found = [row.model_dump(mode="json") for row in rows]
        for one in found:
            print(json.dumps({"suite": suite, **one}, ensure_ascii=False), flush=True)
        print(json.dumps({"suite": suite, "cpu_seconds": round(time.process_time() - start, 1)}), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
