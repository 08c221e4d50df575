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
from verify.artefact import write_key_pair
from verify.artefact.signing import load_signer


def run_demo(out: Path, config: Config, *, compare: bool, seeds: int, steps: Steps) -> int:
    """Run the demo in `out` and return the verifier's exit code.

    `base/` and `keys/` are kept from an earlier run; `certified/` is made anew. With more `seeds` than one the request
    is repeated with the seeds that follow, under `seeds/`, and the spread is printed.
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
    shutil.rmtree(certified, ignore_errors=True)
    outcome = unlearn(base, forget, retain, load_signer(keys / "private.pem"), certified, config, steps=steps)
    steps.say(outcome.summary())
    code = _verify(certified, keys / "public.pem")
    if seeds > 1:
        certificates = {f"seed {config.seed}": certified}
        for seed in range(config.seed + 1, config.seed + seeds):
            folder = out / "seeds" / str(seed)
            shutil.rmtree(folder, ignore_errors=True)
            other = config.model_copy(update={"seed": seed})
            unlearn(base, forget, retain, load_signer(keys / "private.pem"), folder, other, steps=steps)
            certificates[f"seed {seed}"] = folder
        print(spread(certificates))
    if compare:
        print(compare_methods(base, forget, retain, certified, config, steps=steps))
    return code


def _verify(certified: Path, key: Path) -> int:
    """Run `mansu-verify` as its own process: it shares nothing with the engine but the files."""
    report = certified / "report" / "report.html"
    report.parent.mkdir(exist_ok=True)
    command = [
        *(str(certified / "model" / "model.safetensors"), "--manifest", str(certified / "m.json")),
        *("--key", str(key), "--report", f"html={report}"),
    ]
    code = subprocess.run([sys.executable, "-m", "verify.cli", *command], check=False).returncode  # noqa: S603
    print(f"repeat: {shlex.join(['mansu-verify', *command])}\nreport: {report}", flush=True)
    return code
