"""The steps of the solver's finish, each alone and all together: each unlearns one request and is verified.

    mansu demo && python benchmarks/finish.py --demo demo-run --out finish-run

Results that are already in `--out` are read, not made again. What misses its target is verified like any other.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from mansu.demo.spread import side_by_side
from verify.contract.result import Result

_OFF = {"error_compensation": "false", "swap_rounds": "0", "polish_rounds": "0", "minimal_trials": "0"}
_ON = {"error_compensation": "true", "swap_rounds": "1", "polish_rounds": "2", "minimal_trials": "5"}
STEPS = {
    "none": _OFF,
    "compensation": {**_OFF, "error_compensation": "true"},
    "swaps": {**_OFF, "swap_rounds": "1"},
    "polish": {**_OFF, "polish_rounds": "2"},
    "minimal": {**_OFF, "minimal_trials": "5"},
    "all": _ON,
}


def main() -> None:
    """Make what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--demo", type=Path, required=True, help="what `mansu demo` wrote: base, sets and keys")
    parser.add_argument("--out", type=Path, required=True, help="one folder for each choice of steps")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=tuple(STEPS))
    parser.add_argument("--seed", default="0")
    chosen = parser.parse_args()
    results = {name: _result(chosen.demo, chosen.out / name, name, chosen.seed) for name in chosen.steps}
    print(side_by_side(results, title="The finish, step by step, as verified, on held-out probes"))


def _result(demo: Path, folder: Path, name: str, seed: str) -> Result:
    report = folder / "result.json"
    if not report.exists():
        _make(demo, folder, name, seed, report)
    return Result.model_validate_json(report.read_bytes())


def _make(demo: Path, folder: Path, name: str, seed: str, report: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config, certified = folder / "config.toml", folder / "certified"
    config.write_text("".join(f"{key} = {value}\n" for key, value in STEPS[name].items()))
    if not (certified / "m.json").exists():
        sets = ("--forget", demo / "sets" / "forget.jsonl", "--retain", demo / "sets" / "retain.jsonl")
        keys = ("--key", demo / "keys" / "private.pem")
        model = ("--model", demo / "base", "--out", certified, "--config", config, "--seed", seed)
        _run("mansu.cli", "unlearn", *model, *sets, *keys, "--frontier", folder / "frontier.json")
    keys = ("--key", demo / "keys" / "public.pem")
    sealed = ("--manifest", certified / "m.json")
    _run("verify.cli", certified / "model" / "model.safetensors", *sealed, *keys, "--report", f"json={report}")


def _run(module: str, *arguments: object) -> None:
    """Run a command; 1 says that a target was not met or a check failed, which the table shows."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    code = subprocess.run(command, check=False).returncode
    if code not in {0, 1}:
        raise SystemExit(f"{' '.join(command)} ended with exit code {code}")


if __name__ == "__main__":
    main()
