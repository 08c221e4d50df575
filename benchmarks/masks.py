"""The circuit's mask against masks without it, at equal size: each unlearns the demo's request and is verified.

    mansu demo && python benchmarks/masks.py --demo demo-run --out masks-run

Results that are already in `--out` are read, not made again. A mask that misses its target is verified like any other.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import get_args

from mansu.config import MaskChoice
from mansu.demo.spread import side_by_side
from verify.contract.result import Result


def main() -> None:
    """Make what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--demo", type=Path, required=True, help="what `mansu demo` wrote: base, sets and keys")
    parser.add_argument("--out", type=Path, required=True, help="one folder for each mask")
    parser.add_argument("--masks", nargs="+", choices=get_args(MaskChoice), default=get_args(MaskChoice))
    chosen = parser.parse_args()
    results = {mask: _result(chosen.demo, chosen.out / mask, mask) for mask in chosen.masks}
    print(side_by_side(results, title="Masks of equal size, as verified, on held-out probes"))


def _result(demo: Path, folder: Path, mask: str) -> Result:
    report = folder / "result.json"
    if not report.exists():
        _make(demo, folder, mask, report)
    return Result.model_validate_json(report.read_bytes())


def _make(demo: Path, folder: Path, mask: str, report: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config, certified = folder / "config.toml", folder / "certified"
    config.write_text(f'mask = "{mask}"\n')
    if not (certified / "m.json").exists():
        sets = ("--forget", demo / "sets" / "forget.jsonl", "--retain", demo / "sets" / "retain.jsonl")
        keys = ("--key", demo / "keys" / "private.pem")
        _run("mansu.cli", "unlearn", "--model", demo / "base", *sets, *keys, "--out", certified, "--config", config)
    keys = ("--key", demo / "keys" / "public.pem")
    model = certified / "model" / "model.safetensors"
    _run("verify.cli", model, "--manifest", certified / "m.json", *keys, "--report", f"json={report}")


def _run(module: str, *arguments: object) -> None:
    """Run a command; 1 says that a target was not met or a check failed, which the table shows."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    code = subprocess.run(command, check=False).returncode
    if code not in {0, 1}:
        raise SystemExit(f"{' '.join(command)} ended with exit code {code}")


if __name__ == "__main__":
    main()
