"""The demo from end to end: base model and sets, then the commands that a user would give, each a process of its own.

Apart from the files, engine and verifier share nothing, and neither keeps memory while the other runs.
"""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from mansu.config import read_config
from mansu.demo.base_model import ORIGIN, write_base
from mansu.demo.sets import write_sets
from mansu.demo.spread import spread
from mansu.progress import Steps
from verify.artefact import write_key_pair
from verify.contract.result import Result


def run_demo(out: Path, config: Path | None, *, compare: bool, seeds: int, steps: Steps) -> int:
    """Run the demo in `out` and return the verifier's exit code, of several the largest.

    `base/` and `keys/` are kept from an earlier run; `certified/` is made anew. With more `seeds` than one the request
    is repeated with the seeds that follow, under `seeds/`; each certificate is verified, and the spread is printed.
    An unlearning that ends with an error ends the demo with the same exit code.
    """
    settings = read_config(config)
    out.mkdir(parents=True, exist_ok=True)
    base, keys, certified = out / "base", out / "keys", out / "certified"
    with steps.step("Writing the base model", 1) as advance:
        write_base(base)
        advance(1)
    steps.say(f"base: {ORIGIN}")
    forget, retain = write_sets(out / "sets")
    if not (keys / "private.pem").exists():
        write_key_pair(keys)
    folders = {settings.seed: certified}
    folders |= {seed: out / "seeds" / str(seed) for seed in range(settings.seed + 1, settings.seed + seeds)}
    codes, results = [], {}
    for seed, folder in folders.items():
        shutil.rmtree(folder, ignore_errors=True)
        code = _unlearn(base, (forget, retain), keys / "private.pem", folder, config, seed)
        if not (folder / "m.json").exists():  # a target not met is for the verifier to say, an error is not
            return code
        codes.append(_verify(folder, keys / "public.pem"))
        result = folder / "report" / "result.json"
        if result.exists():
            results[f"seed {seed}"] = Result.model_validate_json(result.read_bytes())
    if len(results) > 1:
        print(spread(results))
    if compare:
        from mansu.demo.compare import compare_methods  # noqa: PLC0415  (torch, which this process else does without)

        print(compare_methods(base, forget, retain, certified, settings, steps=steps))
    return max(codes)


def _unlearn(base: Path, sets: tuple[Path, Path], key: Path, folder: Path, config: Path | None, seed: int) -> int:
    forget, retain = sets
    command = [
        *("unlearn", "--model", str(base), "--forget", str(forget), "--retain", str(retain), "--key", str(key)),
        *("--out", str(folder), "--seed", str(seed), *(("--config", str(config)) if config else ())),
    ]
    return _run("mansu.cli", command)


def _verify(certified: Path, key: Path) -> int:
    report = certified / "report" / "report.html"
    report.parent.mkdir(exist_ok=True)
    command = [
        *(str(certified / "model" / "model.safetensors"), "--manifest", str(certified / "m.json")),
        *("--key", str(key), "--report", f"html={report}", "--report", f"json={report.with_name('result.json')}"),
    ]
    code = _run("verify.cli", command)
    print(f"repeat: {shlex.join(['mansu-verify', *command])}\nreport: {report}", flush=True)
    return code


def _run(module: str, arguments: list[str]) -> int:
    return subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode  # noqa: S603
