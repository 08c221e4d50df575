"""mansu and its ablations side by side: each unlearns one request, is verified, and is audited against its base.

    mansu demo && python benchmarks/ablations.py --base demo-run/base --sets demo-run/sets --keys demo-run/keys \
        --out ablations-run --ablations "no null space" "no floor"

A certificate that is refused for its weights alone is not run by `mansu-verify`; `mansu-audit` runs them all, on the
certificates' own held-out probes. What is already in `--out` is read, not made again.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from mansu.bench.ablations import ABLATIONS
from mansu.config import read_config
from verify.contract.audit import Audit
from verify.contract.result import Result

MANSU = "mansu"


def main() -> None:
    """Make what is missing, and print the table in markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--base", type=Path, required=True, help="the base model's folder")
    parser.add_argument("--sets", type=Path, required=True, help="folder of forget.jsonl and retain.jsonl")
    parser.add_argument("--keys", type=Path, required=True, help="folder of private.pem and public.pem")
    parser.add_argument("--out", type=Path, required=True, help="one folder for each row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--config", type=Path, help="TOML of settings that every row has")
    parser.add_argument("--ablations", nargs="+", choices=tuple(ABLATIONS), default=tuple(ABLATIONS), metavar="NAME")
    chosen = parser.parse_args()
    common = read_config(chosen.config).model_dump(mode="json", exclude_unset=True)
    columns = {}
    for name in (MANSU, *chosen.ablations):
        folder = chosen.out / "".join(letter if letter.isalnum() else "-" for letter in name)
        _make(chosen.base, chosen.sets, chosen.keys, folder, common | {"seed": chosen.seed, **ABLATIONS.get(name, {})})
        columns[name] = dict(_numbers(folder))
    print(_table(columns))


def toml(changes: Mapping[str, object]) -> str:
    """Return a configuration as TOML; numbers, words and truth values are written as in JSON."""
    return "".join(f"{field} = {json.dumps(value)}\n" for field, value in changes.items())


def _make(base: Path, sets: Path, keys: Path, folder: Path, changes: Mapping[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config, certified = folder / "config.toml", folder / "certified"
    config.write_text(toml(changes))
    if not (certified / "m.json").exists():
        request = ("--forget", sets / "forget.jsonl", "--retain", sets / "retain.jsonl", "--config", config)
        _run("mansu.cli", "unlearn", "--model", base, *request, "--key", keys / "private.pem", "--out", certified)
    if not (folder / "result.json").exists():
        model, trust = certified / "model" / "model.safetensors", ("--key", keys / "public.pem")
        report = ("--report", f"json={folder / 'result.json'}")
        _run("verify.cli", model, "--manifest", certified / "m.json", *trust, *report)
    if not (folder / "audit.json").exists():
        output = ("--format", "json", "-o", folder / "audit.json")
        _run("verify.cli.auditing", base, certified / "model", "--probes", certified / "probes", *output)


def _run(module: str, *arguments: object) -> None:
    """Run a command; 1 and 3 say that something failed or could not be decided, which the table shows."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    code = subprocess.run(command, check=False).returncode
    if code not in {0, 1, 3}:
        raise SystemExit(f"{' '.join(command)} ended with exit code {code}")


def _numbers(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the cells of one column by their row's name: full precision / after NF4."""
    result = Result.model_validate_json((folder / "result.json").read_bytes())
    audit = Audit.model_validate_json((folder / "audit.json").read_bytes())
    failed = [check.id for check in result.checks if check.status == "fail"]
    yield "verdict", result.verdict
    yield "refused by", " ".join(failed) or "none"
    for row in audit.behaviour:
        if row.axis == "forgetting":
            yield row.row, f"{row.edited.value:.3f} / {row.edited_nf4.value:.3f}"
            yield f"PTQ gap: {row.row}", f"{row.gap.value:+.3f}"
        else:
            form = "+.3f" if row.unit == "accuracy" else "+.1%"
            yield f"{row.row}, difference", f"{row.difference.value:{form}} / {row.difference_nf4.value:{form}}"
    for cad in audit.erasure.rows if audit.erasure else ():
        if cad.role in {"edited", "retain"}:
            late = "" if cad.from_layer is None else f", layers of the base from {cad.from_layer}"
            yield f"CAD: {cad.role}, {cad.precision}{late}", f"{cad.cad.value:.3f}"
    yield "parameters changed", f"{audit.total.changed_share:.3%}"
    changed = audit.total.quantized_changed
    yield "of them with another code", f"{audit.total.nf4.crossed / changed:.1%}" if changed else "-"
    yield "codes changed that nobody declared", f"{audit.total.nf4.collateral:,}"


def _table(columns: dict[str, dict[str, str]]) -> str:
    rows = dict.fromkeys(row for column in columns.values() for row in column)
    lines = [("", *columns), ("---",) * (1 + len(columns))]
    lines += [(row, *(column.get(row, "-") for column in columns.values())) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
