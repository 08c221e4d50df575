"""The base model's folder: read once, checked, and opened for work."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from verify.artefact.files import read_regular, walk
from verify.artefact.tensors import TensorFile
from verify.artefact.torch_tensors import as_torch
from verify.artefact.weights import ModelFiles, read_weights
from verify.behaviour.loading import Language, empty_model, fill, load
from verify.checks.architecture import architecture, require_fit
from verify.circuits import describe
from verify.circuits.families import Family
from verify.errors import ArtefactError, UsageError

CPU = torch.device("cpu")
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


@dataclass(frozen=True, slots=True)
class Base:
    """A base model on disk: its folder, weight files as parsed, all other files by name, and its stored dtype."""

    folder: Path
    weights: ModelFiles[TensorFile]
    others: dict[str, bytes]
    stored: torch.dtype

    def digests(self) -> dict[str, str]:
        """Return the sha256 of every file by name."""
        found = {name: file.sha256 for name, file in self.weights.files.items()}
        found |= {name: hashlib.sha256(data).hexdigest() for name, data in self.others.items()}
        return dict(sorted(found.items()))

    def digest(self) -> str:
        """Return one sha256 of all files."""
        return hashlib.sha256("".join(self.digests().values()).encode()).hexdigest()

    def language(self, device: torch.device = CPU) -> Language:
        """Build the model in float32, on a device."""
        tensors = {name: as_torch(file, name) for file in self.weights.files.values() for name in file.tensors}
        return load(self.others, tensors).to(device)


def open_base(folder: Path) -> Base:
    """Read and check a base model's folder.

    Raises `UsageError` ME210 (no folder, no safetensors, a pickle checkpoint, unreadable or mixed weights).
    """
    if not folder.is_dir():
        raise _refused("the base model's folder does not exist", str(folder))
    names = walk(folder)
    if not any(name.endswith(".safetensors") for name in names):
        pickles = [name for name in names if name.endswith(_PICKLES)]
        if pickles:
            raise _refused("the checkpoint is a pickle, which can run code when it is loaded", pickles[0])
        raise _refused("the folder holds no safetensors file", f"{len(names)} files in {folder}")
    try:
        weights = read_weights(folder)
        others = {name: read_regular(name, root=folder) for name in names if name not in weights.files}
    except ArtefactError as error:
        raise _refused(error.message, error.found or str(folder)) from error
    dtypes = {view.dtype for file in weights.files.values() for view in file.tensors.values()}
    stored = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
    if len(dtypes) != 1 or not dtypes <= stored.keys():
        raise _refused("weights must have one dtype: BF16, F16 or F32", ", ".join(sorted(dtypes)))
    return Base(folder, weights, others, stored[dtypes.pop()])


def open_language(base: Base, device: torch.device = CPU) -> tuple[Language, Family]:
    """Build the model on a device and describe its family; raises `UsageError` for an unsupported architecture.

    GPT-2's Conv1D layers are refused: NF4 cuts them into blocks of the transposed matrix, and the solver does not.
    """
    try:
        language = base.language(device)
    except ArtefactError as error:
        raise _refused(error.message, error.found) from error
    family = describe(language.model)
    if family.turned:
        raise UsageError(
            f"{family.architecture} stores its weights transposed (Conv1D), which this engine does not edit",
            expected="a model of torch Linear layers",
            found=family.architecture,
            remedy="its circuits can be attributed (verify.circuits); to unlearn, take a model of another family",
            error_id="ME210",
        )
    return language, family


def device_named(name: str) -> torch.device:
    """Return the device of that name, such as "cuda"; raises `UsageError` ME390 where no values can be put on it."""
    try:
        found = torch.zeros(1, device=name)
        float(found)  # a meta tensor has no value
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise UsageError(
            "this device cannot be used",
            expected='"cpu", or a device that this installation of torch knows and finds, such as "cuda"',
            found=f"{name!r}: {str(error).splitlines()[0]}",
            remedy="leave --device out, or install torch for that device; nothing was written",
            error_id="ME390",
        ) from error
    return found.device


def quantized_weights(base: Base) -> dict[str, torch.Tensor]:
    """Return the weights that NF4 quantizes, by tensor name, as the matrices that are cut into blocks.

    They are in the stored dtype, and share memory with the files where they are stored that way round.

    Raises `UsageError` ME210 where the configuration does not fit the tensors, or nothing would be quantized.
    """
    shapes = {name: view.shape for name, view in base.weights.tensors().items()}
    try:
        structure = architecture(base.others, (None,), tensors=len(shapes))
        require_fit(structure, shapes)
    except ArtefactError as error:
        raise _refused(error.message, error.found) from error
    weights = {
        entry.name: (weight.T.contiguous() if entry.transposed else weight)
        for entry in structure.quantized[None]
        for weight in (as_torch(base.weights.holder(entry.name), entry.name),)
    }
    if not weights:
        raise _refused("NF4 would quantize nothing in this model", f"no linear layers in {base.folder}")
    return weights


def working_copy(language: Language, stored: torch.dtype) -> Any:
    """Return a trainable copy on the same device: in `working_dtype` on the CPU, in float32 elsewhere.

    Elsewhere matrix products may round their factors (`mansu.precision`), and the weights need not.
    """
    model = empty_model(language.model.config)
    fill(model, language.model.state_dict())
    return model.to(working_dtype(stored) if language.device.type == "cpu" else torch.float32)


def working_dtype(stored: torch.dtype) -> torch.dtype:
    """Return bfloat16 for bfloat16 weights on a processor with matrix units for it, else float32."""
    # private, but the only question that tells matrix units from emulation
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    native = supported is not None and supported()
    return stored if stored == torch.bfloat16 and native else torch.float32


def _refused(what: str, found: str) -> UsageError:
    return UsageError(
        what,
        expected="config.json, a tokenizer, and weights in safetensors (one file, or shards and an index)",
        found=found,
        remedy="convert the checkpoint with `save_pretrained(folder, safe_serialization=True)` and give that folder",
        error_id="ME210",
    )
