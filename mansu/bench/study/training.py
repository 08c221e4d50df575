"""What every method of one suite and seed is given: the base, the split request as tokens, and the circuit."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mansu.base import Base, open_base, open_language, working_copy
from mansu.baselines import BaselineData, baseline_data, regions_of
from mansu.config import Config
from mansu.cost import Cost, metered
from mansu.data.prepare import Data, prepare
from mansu.progress import Steps
from mansu.request import Request, read_request, require_held_out, require_tokens
from mansu.unlearn import find_circuit
from verify.behaviour.loading import Language
from verify.behaviour.modules import nf4_linears
from verify.circuits import FaithfulCircuit


@dataclass(frozen=True, slots=True)
class Opened:
    """The base model and the request of one seed."""

    suite: str
    base: Base
    language: Language
    request: Request
    config: Config

    @property
    def seed(self) -> int:
        """The seed of the split and of everything random in a method."""
        return self.config.seed

    @property
    def parameters(self) -> int:
        """How many parameters the model's files hold."""
        return sum(view.count for view in self.base.weights.tensors().values())

    def weights(self) -> dict[str, Tensor]:
        """Return the base's weights that NF4 quantizes, by layer name, in the stored dtype, on the CPU."""
        linears = nf4_linears(self.language.model)
        return {name: layer.weight.detach().to("cpu", self.base.stored) for name, layer in linears.items()}


@dataclass(frozen=True, slots=True)
class Training:
    """The data to edit with. `circuit` is that of the forget set, and `circuit_cost` what it took to find."""

    opened: Opened
    data: Data
    baseline: BaselineData
    circuit: FaithfulCircuit
    circuit_cost: Cost

    def fresh(self) -> Any:
        """Return a new float32 copy of the base."""
        return working_copy(self.opened.language, self.opened.base.stored).float()


def open_suite(suite: str, base: Path, forget: Path, retain: Path, config: Config, device: torch.device) -> Opened:
    """Read the base, onto a device, and the suite's sets, split by the configuration's seed.

    Raises `UsageError`: ME201 to ME204, ME213 and ME214 for the sets, ME210 for the model.
    """
    request = read_request(forget, retain, seed=config.seed)
    opened = open_base(base)
    language, _ = open_language(opened, device)
    require_tokens(language.tokenizer, request)
    require_held_out(request)
    return Opened(suite, opened, language, request, config)


def training(opened: Opened, *, steps: Steps) -> Training:
    """Prepare the data as `mansu unlearn` does, split off what baselines are tuned on, and find the circuit.

    Raises `UsageError` ME211 when the model does not know the forget set, ME280 when a set is too small to split.
    """
    data = prepare(opened.language, opened.base, opened.request, opened.config, steps=steps)
    circuit, cost = metered(lambda: find_circuit(opened.language, data, opened.config, steps=steps))
    regions = regions_of(opened.language.model, circuit.circuit)
    baseline = baseline_data(data, opened.base.stored, seed=opened.seed, regions=regions)
    return Training(opened, data, baseline, circuit, cost)
