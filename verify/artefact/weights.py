"""A model's weight files: which ones a loader takes, in memory or by their headers alone."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from verify.artefact.envelope import shown, strict_json
from verify.artefact.files import read_regular, relative_parts, walk
from verify.artefact.tensors import Layout, TensorFile, TensorView, parse
from verify.errors import ArtefactError

F = TypeVar("F", bound=Layout)

INDEX_CHECK = "MV111"
SINGLE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
INDEX_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True)
class ModelFiles(Generic[F]):
    """A model's weight files by name, in order of name; `index` is None for a single file."""

    files: dict[str, F]
    index: str | None

    def holder(self, tensor: str) -> F:
        """Return the file that holds `tensor`. Raises ArtefactError MV111 when none does."""
        for file in self.files.values():
            if tensor in file.tensors:
                return file
        raise ArtefactError(INDEX_CHECK, f"no weight file holds tensor {shown(tensor)}")

    def tensors(self) -> dict[str, TensorView]:
        """Return every tensor's view, by name; names are unique over all files."""
        return {name: view for file in self.files.values() for name, view in file.tensors.items()}


@dataclass(frozen=True)
class WeightPlan:
    """Which files a loader takes the weights from, and, with an index, which tensor it expects in which."""

    files: tuple[str, ...]
    index: str | None
    weight_map: Mapping[str, str] | None

    def matched(self, files: dict[str, F]) -> ModelFiles[F]:
        """Return the parsed files; ArtefactError MV111 unless every tensor lies in exactly the file listed."""
        if self.weight_map is not None and self.index is not None:
            _require_match(self.weight_map, files, self.index)
        return ModelFiles(files, self.index)


def plan_weights(names: Collection[str], read: Callable[[str], bytes], *, alone: bool = True) -> WeightPlan:
    """Decide which of a folder's files (relative names) hold the weights; `read` gives the index.

    Raises ArtefactError MV111: no weights, both forms at once, an index that is malformed or names an unsafe or missing
    file, or, where they must lie there `alone`, a safetensors file that no loader's index names.
    """
    present = [name for name in (SINGLE_NAME, INDEX_NAME) if name in names]
    if len(present) != 1:
        found = "both, and loaders disagree on which counts" if present else "neither"
        raise ArtefactError(INDEX_CHECK, "the model's weights", expected=f"{SINGLE_NAME} or {INDEX_NAME}", found=found)
    weight_map = None if present[0] == SINGLE_NAME else _weight_map(read(INDEX_NAME), INDEX_NAME)
    wanted = {SINGLE_NAME} if weight_map is None else set(weight_map.values())
    for missing in sorted(wanted - set(names)):
        raise ArtefactError(INDEX_CHECK, f"{INDEX_NAME} names a file that is missing", found=shown(missing))
    for stray in sorted(name for name in names if alone and name.endswith(".safetensors") and name not in wanted):
        message = "a weight file beside those that are loaded"
        raise ArtefactError(INDEX_CHECK, message, expected=", ".join(sorted(wanted)), found=shown(stray))
    return WeightPlan(tuple(sorted(wanted)), None if weight_map is None else INDEX_NAME, weight_map)


def parse_weights(buffers: Mapping[str, bytes]) -> ModelFiles[TensorFile]:
    """Parse the weights among a folder's files already in memory, so that what was hashed is what is used.

    `buffers` maps names relative to the folder to whole files. Raises ArtefactError MV110 for a file that is not strict
    safetensors, MV111 as `plan_weights` does.
    """
    plan = plan_weights(buffers.keys(), buffers.__getitem__)
    return plan.matched({name: parse(buffers[name], name=name) for name in plan.files})


def read_weights(folder: Path) -> ModelFiles[TensorFile]:
    """Read a model folder's weights into memory.

    Raises UsageError when the folder cannot be listed, ArtefactError MV101 (not a regular file), MV110 or MV111.
    """
    plan = plan_weights(walk(folder), lambda name: read_regular(name, root=folder, limit=INDEX_LIMIT))
    return plan.matched({name: parse(read_regular(name, root=folder), name=name) for name in plan.files})


def _weight_map(data: bytes, name: str) -> dict[str, str]:
    """Return {tensor: file name} from an index file whose every name is safe."""
    index = strict_json(data, check_id=INDEX_CHECK, name=shown(name), max_bytes=INDEX_LIMIT)
    if not isinstance(index, dict) or not {"weight_map"} <= index.keys() <= {"metadata", "weight_map"}:
        raise ArtefactError(INDEX_CHECK, f"{shown(name)}: fields", expected="metadata and weight_map")
    weight_map = index["weight_map"]
    if not isinstance(weight_map, dict) or not weight_map:
        raise ArtefactError(INDEX_CHECK, f"{shown(name)}: weight_map", expected="an object that is not empty")
    for shard in weight_map.values():
        if not isinstance(shard, str) or not shard.endswith(".safetensors"):
            raise ArtefactError(INDEX_CHECK, f"{shown(name)}: file", expected="*.safetensors", found=shown(shard))
        relative_parts(shard, check_id=INDEX_CHECK)
    return weight_map


def _require_match(weight_map: Mapping[str, str], files: Mapping[str, Layout], name: str) -> None:
    """Refuse unless every tensor lies in exactly the file that the index names."""
    found: dict[str, str] = {}
    for shard, file in files.items():
        for tensor in file.tensors:
            if tensor in found:
                where = f"in {shown(found[tensor])} and {shown(shard)}"
                raise _mismatch(name, tensor, "is in two files", weight_map.get(tensor), where)
            found[tensor] = shard
    for tensor in sorted(weight_map.keys() | found.keys()):
        if weight_map.get(tensor) != found.get(tensor):
            if tensor not in found:
                reason = "is listed but missing"
            else:
                reason = "is not listed" if tensor not in weight_map else "is in another file than listed"
            raise _mismatch(name, tensor, reason, weight_map.get(tensor), shown(found.get(tensor)))


def _mismatch(name: str, tensor: str, reason: str, listed: str | None, found: str) -> ArtefactError:
    message = f"{shown(name)}: tensor {shown(tensor)} {reason}"
    return ArtefactError(INDEX_CHECK, message, expected=f"as listed: {shown(listed)}", found=found)
