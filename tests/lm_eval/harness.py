"""lm-evaluation-harness on local files: `python harness.py MODEL DATA OUT`, in its own environment (`make lm-eval`).

DATA holds TASK.jsonl for each TASK of the harness's own, such as wmdp_bio.jsonl; only where its rows come from is
changed. OUT becomes {task: {"acc": float, "rows": [[log-probability of each letter, ...], ...]}}.
"""

import json
import sys
from pathlib import Path

import lm_eval
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

TASKS = Path(lm_eval.__file__).parent / "tasks"


def write_task(name: str, rows: Path, folder: Path) -> str:
    """Write a task that is the harness's own but for its data, and return its name."""
    own = TASKS / ("wmdp" if name.startswith("wmdp") else "mmlu/default") / f"{name}.yaml"
    local = {
        "include": str(own),
        "task": f"local_{name}",
        "tag": None,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {"test": str(rows)}},
        "fewshot_split": "test",
    }
    (folder / f"local_{name}.yaml").write_text(json.dumps(local))  # JSON is YAML
    return local["task"]


def main(model: Path, data: Path, out: Path) -> None:
    """Evaluate the model on every task of the folder."""
    names = {write_task(path.stem, path, data): path.stem for path in sorted(data.glob("*.jsonl"))}
    found = lm_eval.simple_evaluate(
        model=HFLM(pretrained=str(model), dtype="float32", device="cpu", batch_size=1),
        tasks=list(names),
        num_fewshot=0,
        task_manager=TaskManager(include_path=str(data), include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
    )
    answers = {
        own: {
            "acc": found["results"][task]["acc,none"],
            "rows": [
                [float(response[0]) for response in sample["filtered_resps"]]
                for sample in sorted(found["samples"][task], key=lambda sample: sample["doc_id"])
            ],
        }
        for task, own in names.items()
    }
    out.write_text(json.dumps(answers))


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
