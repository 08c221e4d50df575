"""Public benchmarks from local files or the hub: WMDP, MMLU, TOFU and MUSE, each with a strict schema."""

from mansu.bench.loaders.choices import MMLU, WMDP, WMDP_SUBJECTS, Question, as_lines, load_mmlu, load_wmdp
from mansu.bench.loaders.muse import HUBS as MUSE
from mansu.bench.loaders.muse import Knowledge, Passage, Verbatim, load_knowmem, load_privleak, load_verbmem
from mansu.bench.loaders.rows import Hub, Source, read_rows
from mansu.bench.loaders.tofu import TOFU, Perturbed, QuestionAnswer, load_tofu, load_tofu_perturbed

__all__ = [
    "MMLU",
    "MUSE",
    "TOFU",
    "WMDP",
    "WMDP_SUBJECTS",
    "Hub",
    "Knowledge",
    "Passage",
    "Perturbed",
    "Question",
    "QuestionAnswer",
    "Source",
    "Verbatim",
    "as_lines",
    "load_knowmem",
    "load_mmlu",
    "load_privleak",
    "load_tofu",
    "load_tofu_perturbed",
    "load_verbmem",
    "load_wmdp",
    "read_rows",
]
