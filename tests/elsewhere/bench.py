"""Run the benchmark's loop and an unlearning on the device "elsewhere" and on the CPU; print what came of it, as JSON.

A process of its own: a device that torch once knows, it knows for good.
"""

import json
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import certificates as c
import requests_tiny as r
import tiny_unlearning as t
import torch
from rich.console import Console
from test_bench_study import QUICK, facts

from elsewhere.device import NAME, Present, register
from mansu.bench.study.document import AxesRecord, EditRecord, ErasureRecord, RelearningRecord, RobustRecord
from mansu.bench.study.judging import deciding
from mansu.bench.study.run import Job, cells_of, run
from mansu.progress import Steps
from mansu.unlearn import unlearn
from verify.artefact import write_key_pair
from verify.artefact.signing import load_signer

FINISHED = QUICK.model_copy(update={"context_share": 0.3, "polish_rounds": 1, "swap_rounds": 1, "minimal_trials": 2})


def main(folder: Path, methods: tuple[str, ...]) -> None:
    """Print, by device and method, how much was changed and what was answered."""
    register()  # before the first backward pass, which counts the devices
    base = c.save_base(t.trained_model(layers=4), folder / "base")
    sets = r.write(folder / "forget.jsonl", facts()), r.write(folder / "retain.jsonl", r.retain_lines())
    found = {}
    places: tuple[tuple[str, AbstractContextManager[object]], ...] = (("cpu", nullcontext()), (NAME, Present()))
    for name, present in places:
        with present:
            job = Job("tiny", base, *sets, FINISHED, (0,), methods, folder / name, True, True, torch.device(name))
            run(job, steps=Steps(Console(quiet=True)))
            made = _unlearned(job, folder / f"{name}-certificate")
        found[name] = [*(_summary(job, method) for method in methods), made]
    print(json.dumps(found))


def _unlearned(job: Job, folder: Path) -> dict[str, object]:
    folder.mkdir()
    signer = load_signer(write_key_pair(folder)[0])
    quiet = Steps(Console(quiet=True))
    made = unlearn(job.base, job.forget, job.retain, signer, folder / "out", QUICK, steps=quiet, device=job.device)
    accuracies = [made.forget_accuracy, made.forget_accuracy_nf4]
    return {"device": str(job.device), "changed": made.changed, "crossing": made.changed, "forget": accuracies}


def _summary(job: Job, method: str) -> dict[str, object]:
    (cell,) = (cell for cell in cells_of(job) if cell.method == method)
    edit, axes, erasure = (
        cell.read("edit", EditRecord),
        cell.read("axes", AxesRecord),
        cell.read("erasure", ErasureRecord),
    )
    robust, relearning = cell.read("robust", RobustRecord), cell.read("relearning", RelearningRecord)
    assert edit
    assert axes
    assert erasure
    assert robust
    assert relearning
    return {
        "device": edit.device,
        "changed": edit.changed,
        "crossing": edit.crossing,
        "forget": [row.edited.value for row in deciding(axes.rows, "forgetting")],
        "cad": [row.cad.value for row in erasure.rows],
        "robust": [row.correct.value for row in robust.full],
        "relearned": [point.estimate.value for point in relearning.points],
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), tuple(sys.argv[2:]))
