"""A baseline's edited weights as a model folder, so that other commands can read it as they read a certified model."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mansu.base import Base
from mansu.seal.sealing import write_model
from mansu.staging import staging
from verify.artefact import as_torch


def export(folder: Path, base: Base, weights: Mapping[str, Tensor]) -> None:
    """Write the base's files to `folder`, with these layers' weights (name → stored dtype) in place of its own.

    A folder that is there is replaced. Raises `UsageError` ME220 when it cannot be written.
    """
    indices, after = {}, {}
    for layer, weight in weights.items():
        stored = as_torch(base.weights.holder(f"{layer}.weight"), f"{layer}.weight").reshape(-1)
        edited = weight.detach().to(base.stored).reshape(-1)
        bits = {2: torch.int16, 4: torch.int32}[stored.element_size()]
        # by bits: a zero whose sign changed is a change too
        changed = (stored.view(bits) != edited.view(bits)).nonzero().reshape(-1)
        indices[layer], after[layer] = changed, edited[changed]
    shutil.rmtree(folder, ignore_errors=True)
    with staging(folder) as partial:
        write_model(partial, base, indices, after)
