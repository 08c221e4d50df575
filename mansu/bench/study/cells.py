"""A cell on disk: where its documents and its model are, written whole or not at all, read when they are there."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from verify.artefact import write_atomic
from verify.contract.schema import Schema
from verify.errors import UsageError

MEASURED = ("axes", "erasure", "robust", "relearning", "tofu")
"""The stages that measure an edit."""

_S = TypeVar("_S", bound=Schema)


@dataclass(frozen=True, slots=True)
class Cell:
    """One method on one suite with one seed, in a folder of its own."""

    root: Path
    suite: str
    seed: int
    method: str

    @property
    def folder(self) -> Path:
        """The cell's folder."""
        return self.root / self.suite / f"seed-{self.seed}" / self.method

    @property
    def model(self) -> Path:
        """The exported model's folder."""
        return self.folder / "model"

    def path(self, stage: str) -> Path:
        """Return the path of a stage's document."""
        return self.folder / f"{stage}.json"

    def read(self, stage: str, schema: type[_S]) -> _S | None:
        """Return a stage's document, or None where there is none; raises `UsageError` ME381 for another version's."""
        path = self.path(stage)
        if not path.exists():
            return None
        try:
            return schema.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise UsageError(
                "a document of the benchmark is not what this version writes",
                expected=f"a {stage}.json of this version of mansu",
                found=f"{error.errors()[0]['msg']} ({path})",
                remedy="remove the file, and it is made again",
                error_id="ME381",
            ) from error

    def forget_measured(self) -> None:
        """Remove what was measured of an earlier edit: beside a new one it would be another model's."""
        for stage in MEASURED:
            self.path(stage).unlink(missing_ok=True)

    def write(self, stage: str, document: Schema) -> None:
        """Write a stage's document."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path(stage), document.model_dump_json(indent=2).encode() + b"\n")
