"""The demo from end to end: base model, sets, keys, unlearning, and the verifier as a process of its own."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from mansu.config import Config
from mansu.demo.base_model import ORIGIN, write_base
from mansu.demo.compare import compare_methods
from mansu.demo.sets import write_sets
from mansu.demo.spread import spread
from mansu.progress import Steps
from mansu.unlearn import unlearn
from verify.artefact import load_private, write_key_pair
from verify.contract.result import Result


def run_demo(out: Path, config: Config, *, compare: bool, seeds: int, steps: Steps) -> int:
    """Run the demo in `out` and return the verifier's exit code, of several the largest.

    `base/` and `keys/` are kept from an earlier run; `certified/` is made anew. With more `seeds` than one the request
    is repeated with the seeds that follow, under `seeds/`; each certificate is verified, and the spread is printed.
    """
    out.mkdir(parents=True, exist_ok=True)
    base, keys, certified = out / "base", out / "keys", out / "certified"
    with steps.step("Writing the base model", 1) as advance:
        write_base(base)
        advance(1)
    steps.say(f"base: {ORIGIN}")
    forget, retain = write_sets(out / "sets")
    if not (keys / "private.pem").exists():
        write_key_pair(keys)
    folders = {config.seed: certified}
    folders |= {seed: out / "seeds" / str(seed) for seed in range(config.seed + 1, config.seed + seeds)}
    codes, results = [], {}
    for seed, folder in folders.items():
        shutil.rmtree(folder, ignore_errors=True)
        settings = config.model_copy(update={"seed": seed})
        outcome = unlearn(base, forget, retain, load_private(keys / "private.pem"), folder, settings, steps=steps)
        steps.say(outcome.summary())
        codes.append(_verify(folder, keys / "public.pem"))
        result = folder / "report" / "result.json"
        if result.exists():
            results[f"seed {seed}"] = Result.model_validate_json(result.read_bytes())
    if len(results) > 1:
        print(spread(results))
    if compare:
        print(compare_methods(base, forget, retain, certified, config, steps=steps))
    return max(codes)


def _verify(certified: Path, key: Path) -> int:
    """Run `mansu-verify` as its own process: it shares nothing with the engine but the files."""
    report = certified / "report" / "report.html"
    report.parent.mkdir(exist_ok=True)
    command = [
        *(str(certified / "model" / "model.safetensors"), "--manifest", str(certified / "m.json")),
        *("--key", str(key), "--report", f"html={report}", "--report", f"json={report.with_name('result.json')}"),
    ]
    code = subprocess.run([sys.executable, "-m", "verify.cli", *command], check=False).returncode  # noqa: S603
    print(f"repeat: {shlex.join(['mansu-verify', *command])}\nreport: {report}", flush=True)
    return code
