"""Fuzz the verifier's readers with atheris: `python tests/fuzz/run.py [TARGET...] --runs 1000000 --out fuzz-run`.

The targets run one after another, each in a process of its own, which ends at an exception that no reader may raise,
at an input that takes longer than --timeout seconds, and above --memory MiB. Each writes OUT/TARGET.log; an input that
ends it is left in OUT/TARGET.found/. Exit 0: no find.
"""

import argparse
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]
LONGEST = 8192


def fuzz(target: str, arguments: list[str]) -> None:
    """Run libFuzzer in this process; it never returns."""
    import atheris

    with atheris.instrument_imports(include=["verify", "rfc8785", "json"], enable_loader_override=False):
        import corpus
        import targets

    corpus.read(target)
    run = targets.TARGETS[target]

    def one(data: bytes) -> None:
        run(data)

    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


def one_after_another(names: list[str], out: Path, *, runs: int, seconds: int, timeout: int, memory: int) -> int:
    """Fuzz each target; return the number of targets with a find."""
    finds = 0
    out.mkdir(parents=True, exist_ok=True)
    for target in names:
        work, found = out / f"{target}.corpus", out / f"{target}.found"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        found.mkdir(exist_ok=True)
        options = [f"-runs={runs}", f"-timeout={timeout}", f"-rss_limit_mb={memory}", f"-max_len={LONGEST}"]
        options += [f"-dict={HERE / 'words.dict'}", f"-artifact_prefix={found}/", "-print_final_stats=1", "-seed=1"]
        options += [f"-max_total_time={seconds}"] if seconds else []
        line = [sys.executable, __file__, "--inside", target, *options, str(work), str(HERE / "corpus" / target)]
        started = time.monotonic()
        with (out / f"{target}.log").open("w") as log:
            code = subprocess.run(line, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
        print(summary(target, (out / f"{target}.log").read_text(), time.monotonic() - started, code), flush=True)
        finds += code != 0
    return finds


def summary(target: str, log: str, seconds: float, code: int) -> str:
    """Return one line of figures from libFuzzer's own log."""
    stats = dict(re.findall(r"^stat::(\w+):\s+(\d+)", log, re.MULTILINE))
    runs, memory = int(stats.get("number_of_executed_units", 0)), stats.get("peak_rss_mb", "?")
    coverage = (re.findall(r"cov: (\d+)", log) or ["?"])[-1]
    slowest = stats.get("slowest_unit_time_sec", "?")
    answer = "no find" if code == 0 else f"FIND, exit {code}"
    speed = f"{runs / max(seconds, 1e-9):,.0f}/s"
    return f"{target:14} {runs:>9,} runs  {speed:>9}  peak {memory} MiB  slowest {slowest} s  cov {coverage}  {answer}"


def main() -> None:
    if sys.argv[1:2] == ["--inside"]:
        fuzz(sys.argv[2], sys.argv[3:])
        return
    from targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=list(TARGETS), metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=0, help="stop each target after so long; 0: never")
    parser.add_argument("--timeout", type=int, default=1, help="longest that one input may take, in seconds")
    parser.add_argument("--memory", type=int, default=512, help="MiB")
    parser.add_argument("--out", type=Path, default=Path("fuzz-run"))
    given = parser.parse_args()
    finds = one_after_another(
        given.targets, given.out, runs=given.runs, seconds=given.seconds, timeout=given.timeout, memory=given.memory
    )
    sys.exit(min(finds, 1))


if __name__ == "__main__":
    main()
