"""The base of the suite `authors`: a model that was taught fictitious people, and one that never met some of them.

As in TOFU (arXiv 2401.06121): the first is what the methods make forget, the second, taught the others alone, is what a
model that never knew would be: the gold reference.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from mansu.base import Base, open_base
from mansu.bench.authors import Author, Authors, build_authors, examples, fine_tune, write_authors
from mansu.bench.completions import complete
from mansu.progress import Steps
from mansu.staging import staging
from verify.artefact import write_atomic
from verify.behaviour.loading import Language
from verify.contract.schema import Schema, Sha256
from verify.errors import UsageError

SUITE = "authors"
_INDEX = "model.safetensors.index.json"


class Course(Schema):
    """What is taught: to how many authors, of whom so many are to be forgotten, and how long at which rate.

    `seed` is that of the people and of the order of the lessons. TOFU takes five epochs too; its rate is for a model
    of 7 billion parameters, ours for one of a hundred million.
    """

    count: int = 100
    forgotten: int = 10
    epochs: int = 5
    rate: float = 1e-4
    seed: int = 0

    def authors(self) -> Authors:
        """Return the people."""
        return build_authors(count=self.count, forget=self.forgotten, seed=self.seed)


class TaughtRecord(Schema):
    """How a model was taught: `taught` are its authors, `loss` the mean cross-entropy of its last epoch.

    `source_sha256` is the digest of the model that it was before.
    """

    source_sha256: Sha256
    course: Course
    taught: int
    loss: float
    device: str


@dataclass(frozen=True, slots=True)
class Classroom:
    """Where a suite's two models and its sets lie."""

    folder: Path

    @property
    def base(self) -> Path:
        """The model that knows all authors."""
        return self.folder / "taught"

    @property
    def gold(self) -> Path:
        """The model that never met those to be forgotten."""
        return self.folder / "gold"


def teach(source: Path, room: Classroom, course: Course, device: torch.device, *, steps: Steps) -> None:
    """Write the sets, and teach both models; what is there already is left.

    Raises `UsageError` ME210 for the source model, ME200 or ME220 where nothing can be written, ME382 where what is
    there was taught otherwise.
    """
    authors, base = course.authors(), open_base(source)
    write_authors(room.folder / "sets", authors)
    for folder, people in ((room.base, authors.every), (room.gold, authors.retain)):
        if folder.exists():
            _require_taught(folder, base, course)
        else:
            _teach(base, folder, people, course, device, steps)


def _require_taught(folder: Path, base: Base, course: Course) -> None:
    made = TaughtRecord.model_validate_json(folder.with_suffix(".json").read_bytes())
    if (made.source_sha256, made.course) != (base.digest(), course):
        raise UsageError(
            "a model that is there was taught in another way",
            expected=f"{course} on base {base.digest()[:12]}",
            found=f"{made.course} on base {made.source_sha256[:12]} ({folder})",
            remedy="give another --out, or remove the folder, and it is taught again",
            error_id="ME382",
        )


def _teach(
    base: Base, folder: Path, people: tuple[Author, ...], course: Course, device: torch.device, steps: Steps
) -> None:
    language = base.language(device)
    lessons = complete(language.tokenizer, examples(people))
    with steps.step(f"Teaching {len(people)} authors", course.epochs) as advance:
        loss = fine_tune(
            language.model,
            lessons,
            epochs=course.epochs,
            rate=course.rate,
            seed=course.seed,
            progress=lambda _: advance(1),
        )
    record = TaughtRecord(source_sha256=base.digest(), course=course, taught=len(people), loss=loss, device=str(device))
    folder.parent.mkdir(parents=True, exist_ok=True)
    # before the folder, which tells that both are there
    write_atomic(folder.with_suffix(".json"), record.model_dump_json(indent=2).encode() + b"\n")
    write_tuned(folder, base, language)


def write_tuned(folder: Path, base: Base, language: Language) -> None:
    """Write a model all of whose weights were trained, with the base's other files; raises `UsageError` ME220."""
    state = language.model.state_dict()
    tensors = {name: state[name].to("cpu", base.stored).contiguous() for name in base.weights.tensors()}
    with staging(folder) as partial:
        for name, data in base.others.items():
            if name != _INDEX:  # it will be one file
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                (partial / name).write_bytes(data)
        save_file(tensors, partial / "model.safetensors", metadata={"format": "pt"})
