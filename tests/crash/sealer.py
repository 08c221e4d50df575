"""Seals a tiny certificate with the engine's own code, again and again, and stops it each time at another moment.

`python sealer.py BASE KEY WORK MODE...` forks a process for each attempt, which writes to WORK/MODE/N/out, and prints
one JSON object a line: the attempt's mode and name, how it ended, and what was left. Modes: `kill` (SIGKILL at every
file operation), `chance` (SIGKILL at a random time), `interrupt` (SIGINT at every fourth operation), `error` (every
third operation fails), `limit` (files of limited size), `disk` (file systems of limited size; in a mount namespace of
root's own), and last `trace` (the file operations of one whole run, in order: this process is watched from then on).
"""

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.insert(0, str(Path(__file__).parent.parent))

import certificates as c
import torch

from mansu.base import open_base
from mansu.config import Config
from mansu.request import Request, Split
from mansu.seal.sealing import Evidence, seal
from mansu.solve.solver import Edit
from mansu.staging import staging
from verify.artefact.signing import load_signer
from verify.contract.manifest import CircuitClaim, Profile
from verify.errors import MansuError

torch.set_num_threads(1)

WRITING = ("open", "mkdir", "fsync", "replace", "rename", "fchmod", "chmod")
CLEANING = ("unlink", "rmdir")
Moment = Callable[[str, tuple[Any, ...]], None]
"""Called before each file operation, and in the middle of each writing, with its name and arguments."""


def sealing(base_folder: Path, key: Path) -> Callable[[Path], None]:
    """Return a function that seals a certificate as `mansu unlearn` does once its edit is solved."""
    base = open_base(base_folder)
    edits = {name.removesuffix(".weight"): edit for name, edit in c.valid_edits(base_folder).items()}
    weights = c.linear_weights(base_folder)
    edit = Edit(
        indices={name: indices for name, (indices, _) in edits.items()},
        base={name: weights[f"{name}.weight"].reshape(-1)[i].float() for name, (i, _) in edits.items()},
        values={name: values.float() for name, (_, values) in edits.items()},
        fisher_cost=0.0,
        least_move=0.0,
        least_move_first=0.0,
    )
    nothing = Split((), (), (), ())
    request = Request(nothing, nothing, (), (), c.ZERO, c.ZERO, 1, 1)
    circuit = CircuitClaim(edges=1, edges_total=2, faithfulness=0.9, target=0.85, reached=True)
    evidence = Evidence(request, Config(profiles=(Profile(), Profile(double_quant=True))), "crash test", circuit)
    probes, signer = c.probes(), load_signer(key)

    def run(out: Path) -> None:
        with staging(out) as folder:
            seal(folder, base, edit, probes, evidence, signer, lambda _: ())

    return run


class HalvedWrites:
    """A file that is written in two halves, with a moment between them."""

    def __init__(self, stream: Any, moment: Moment) -> None:
        self._stream, self._moment = stream, moment

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def write(self, data: Any) -> None:
        view = memoryview(data)
        self._moment("write", ())
        self._stream.write(view[: len(view) // 2])
        self._stream.flush()
        self._moment("write", ())
        self._stream.write(view[len(view) // 2 :])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def watch(moment: Moment) -> None:
    """Have `moment` called before every file operation of this process, from now on."""

    def watched(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            moment(name, arguments)
            return real(*arguments, **options)

        return call

    for name in (*WRITING, *CLEANING):
        setattr(os, name, watched(name))
    fdopen = os.fdopen
    os.fdopen = lambda *arguments, **options: HalvedWrites(fdopen(*arguments, **options), moment)


def at(number: int, act: Callable[[str], None]) -> Moment:
    """Return a moment that acts when it is called for the `number`-th time."""
    count = 0

    def moment(name: str, _: tuple[Any, ...]) -> None:
        nonlocal count
        count += 1
        if count == number:
            act(name)

    return moment


def kill(_: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt(_: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    os.kill(os.getpid(), signal.SIGINT)


def fail(name: str) -> None:
    if name not in CLEANING:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def attempt(run: Callable[[Path], None], out: Path, prepare: Callable[[], None], *, kill_after: float = 0.0) -> str:
    """Seal in a process of its own; return "done", "refused", "interrupted", "killed", or what went wrong."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            prepare()
            run(out)
            code = 0
        except MansuError:
            code = 2
        except KeyboardInterrupt:
            code = 130
        finally:
            os._exit(code)
    if kill_after:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "killed" if os.WTERMSIG(status) == signal.SIGKILL else f"signal {os.WTERMSIG(status)}"
    code = os.waitstatus_to_exitcode(status)
    return {0: "done", 2: "refused", 130: "interrupted"}.get(code, f"exit {code}")


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def everywhere(
    run: Callable[[Path], None], work: Path, act: Callable[[str], None], step: int = 1
) -> Iterator[tuple[str, str]]:
    """Act at the first file operation, and at every `step`-th from there, until a run has no more of them."""
    for number in range(1, 1000, step):
        folder = work / f"{number:03}"
        folder.mkdir()
        reached = folder / "reached"

        def noted(name: str, reached: Path = reached) -> None:
            reached.touch()
            act(name)

        ended = attempt(run, folder / "out", lambda number=number, noted=noted: watch(at(number, noted)))
        if not reached.exists():
            yield folder.name, ended
            return
        reached.unlink()
        yield folder.name, ended


def by_chance(run: Callable[[Path], None], work: Path) -> Iterator[tuple[str, str]]:
    (work / "whole").mkdir()
    started = time.monotonic()
    yield "whole", attempt(run, work / "whole" / "out", lambda: None)
    whole = time.monotonic() - started
    chance = random.Random(0)
    for number in range(20):
        folder = work / f"{number:03}"
        folder.mkdir()
        yield folder.name, attempt(run, folder / "out", lambda: None, kill_after=chance.uniform(0.001, whole))


def limited(run: Callable[[Path], None], work: Path) -> Iterator[tuple[str, str]]:
    for size in (1, 100, 500, 1000, 3000, 10_000, 100_000, 162_000, 1_000_000):
        folder = work / f"{size:07}"
        folder.mkdir()
        # soft only: what cannot be written is an error, as a full disk is
        yield (
            folder.name,
            attempt(run, folder / "out", lambda size=size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, -1))),
        )


def small_disks(run: Callable[[Path], None], work: Path) -> Iterator[tuple[str, str]]:
    for kilobytes in (4, 12, 40, 120, 160, 168, 180, 192, 1024):
        folder = work / f"{kilobytes:04}"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder)], check=True)
        yield folder.name, attempt(run, folder / "out", lambda: None)


def trace(run: Callable[[Path], None], work: Path) -> list[list[str]]:
    """Return name and path of every file operation of one run; descriptors are named by what they are open on."""
    done: list[list[str]] = []

    def moment(name: str, arguments: tuple[Any, ...]) -> None:
        where = [
            str(Path(f"/proc/self/fd/{argument}").readlink()) if isinstance(argument, int) else str(argument)
            for argument in arguments[: 2 if name in {"replace", "rename"} else 1]
        ]
        done.append([name, *where])

    watch(moment)
    run(work / "out")
    return done


ATTEMPTS: dict[str, Callable[[Callable[[Path], None], Path], Iterator[tuple[str, str]]]] = {
    "kill": lambda run, work: everywhere(run, work, kill),
    "interrupt": lambda run, work: everywhere(run, work, interrupt, 4),
    "error": lambda run, work: everywhere(run, work, fail, 3),
    "chance": by_chance,
    "limit": limited,
    "disk": small_disks,
}


def main() -> None:
    base, key, work = map(Path, sys.argv[1:4])
    run = sealing(base, key)
    for mode in sys.argv[4:]:
        (work / mode).mkdir()
        if mode == "trace":
            print(json.dumps({"mode": mode, "done": trace(run, work / mode)}), flush=True)
            continue
        for name, ended in ATTEMPTS[mode](run, work / mode):
            folder = work / mode / name
            files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
            print(
                json.dumps({"mode": mode, "name": name, "ended": ended, "left": left(folder), "files": files}),
                flush=True,
            )


if __name__ == "__main__":
    main()
