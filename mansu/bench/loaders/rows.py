"""Rows of a public benchmark, from a local folder or from the hub, checked against a strict schema.

A local folder is laid out as the benchmark's own repository is: CONFIG/SPLIT.EXT, CONFIG/SPLIT-00000-of-00001.parquet,
CONFIG.EXT, CONFIG_SPLIT.EXT or CONFIG-SPLIT.EXT, with .jsonl, .json (one array, or one object a line) or .parquet.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from pydantic import ValidationError

from mansu.bench.extras import extra
from verify.contract.schema import Schema
from verify.errors import UsageError

_EXTENSIONS = (".jsonl", ".json", ".parquet")


@dataclass(frozen=True, slots=True)
class Hub:
    """A data set on the hub by name; read with the package `datasets`, from its cache or over the network."""

    name: str


Source: TypeAlias = Path | Hub
"""Where a benchmark's rows are: a local folder, or the hub."""

_Row = TypeVar("_Row", bound=Schema)


def read_rows(kind: type[_Row], source: Source, *, config: str, split: str) -> tuple[_Row, ...]:
    """Read one split of one configuration, every row checked.

    Raises `UsageError` ME321 (no such file, or no rows), ME322 (a row that does not fit; names file and line), ME323
    (parquet without pyarrow, the hub without datasets), ME324 (the hub does not give the data).
    """
    if isinstance(source, Hub):
        where, numbered = f"{source.name}, {config}, {split}", _hub_rows(source, config, split)
    else:
        path = find(source, config=config, split=split)
        where, numbered = str(path), _file_rows(path)
    rows = tuple(_row(kind, value, f"{where}, {place}") for place, value in numbered)
    if not rows:
        raise UsageError(
            "a benchmark's file has no rows",
            expected="at least one row",
            found=where,
            remedy="give the folder of the whole benchmark",
            error_id="ME321",
        )
    return rows


def find(folder: Path, *, config: str, split: str) -> Path:
    """Return the file of a split in a local folder; raises `UsageError` ME321 when there is none."""
    stems = (f"{config}/{split}", config, f"{config}_{split}", f"{config}-{split}")
    for stem in stems:
        for extension in _EXTENSIONS:
            if (folder / f"{stem}{extension}").is_file():
                return folder / f"{stem}{extension}"
    parts = sorted((folder / config).glob(f"{split}-*-of-*.parquet"))
    if len(parts) == 1:
        return parts[0]
    names = ", ".join(sorted(path.name for path in folder.iterdir())[:20]) if folder.is_dir() else "no such folder"
    raise UsageError(
        "a benchmark's file is not there",
        expected=f"{' or '.join(stems)}, with {', '.join(_EXTENSIONS)}, in {folder}",
        found=f"{len(parts)} parts of {config}/{split}" if parts else names or "an empty folder",
        remedy="put the benchmark's files there under these names; docs/suites.md lists them",
        error_id="ME321",
    )


def _row(kind: type[_Row], value: Any, place: str) -> _Row:
    try:
        # by way of JSON: strict validation takes a list for a tuple only there
        return kind.model_validate_json(json.dumps(value))
    except (TypeError, ValueError) as error:
        raise _malformed(place, _first(error), kind) from error


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'row'}: {first['msg']}"
    return str(error)


def _malformed(place: str, found: str, kind: type[Schema] | None = None) -> UsageError:
    columns = f"an object with {', '.join(kind.model_fields)}" if kind else "JSON in UTF-8"
    return UsageError(
        f"{place}: a row does not fit the benchmark's schema",
        expected=columns,
        found=found,
        remedy="correct the file, or take it from the benchmark again; docs/suites.md has the schemas",
        error_id="ME322",
    )


def _file_rows(path: Path) -> Iterator[tuple[str, Any]]:
    if path.suffix == ".parquet":
        return _parquet_rows(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _malformed(str(path), str(error)) from error
    # files named .json hold one array, or, in TOFU's case, one object a line
    return _array_rows(path, text) if text.lstrip().startswith("[") else _line_rows(path, text)


def _line_rows(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except ValueError as error:
                raise _malformed(f"{path}, line {number}", f"not JSON: {error}") from error


def _array_rows(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    """Yield the elements of an array, each with the line on which it starts."""
    decoder = json.JSONDecoder()
    position = _skip(text, text.index("[") + 1)
    while text[position : position + 1] != "]":
        number = text.count("\n", 0, position) + 1
        try:
            value, position = decoder.raw_decode(text, position)
        except ValueError as error:
            raise _malformed(f"{path}, line {number}", f"not JSON: {error}") from error
        yield f"line {number}", value
        position = _skip(text, position)
        if text[position : position + 1] == ",":
            position = _skip(text, position + 1)
        elif text[position : position + 1] != "]":
            number = text.count("\n", 0, position) + 1
            raise _malformed(f"{path}, line {number}", "neither ',' nor ']' after a row")


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    parquet = extra("pyarrow.parquet", "pyarrow", "reading parquet files")
    try:
        rows = parquet.read_table(path).to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise _malformed(str(path), str(error)) from error
    return _numbered(rows)


def _hub_rows(source: Hub, config: str, split: str) -> Iterator[tuple[str, Any]]:
    datasets = extra("datasets", "datasets", "reading from the hub")
    try:
        rows = datasets.load_dataset(source.name, config, split=split)
    except Exception as error:  # whatever the hub, the network or a loading script raises
        raise UsageError(
            "the hub does not give the data set",
            expected=f"{source.name} with the configuration {config} and the split {split}",
            found=f"{type(error).__name__}: {error}",
            remedy="download the files once, and give their folder instead",
            error_id="ME324",
        ) from error
    return _numbered(rows)


def _numbered(rows: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    return ((f"row {number}", row) for number, row in enumerate(rows, 1))
