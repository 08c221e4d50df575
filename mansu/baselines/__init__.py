"""What one could use instead of mansu: each as its paper has it, on the same data, tuned alike, exported alike.

docs/baselines.md lists the methods, their objectives, and where they differ from their papers.
"""

from collections.abc import Mapping
from types import MappingProxyType

from mansu.baselines.ascent import CircuitAscent, DivergenceAscent, GradDiff, GradientAscent
from mansu.baselines.dampening import SSD
from mansu.baselines.data import BaselineData, Budget, baseline_data, regions_of
from mansu.baselines.export import export
from mansu.baselines.low_rank import LoRA
from mansu.baselines.margin import QuailStyle
from mansu.baselines.method import Method, Sweep
from mansu.baselines.preference import NPO, SimNPO
from mansu.baselines.rounding import DurableUnStyle
from mansu.baselines.saliency import SURE
from mansu.baselines.steering import RMU
from mansu.baselines.tuning import Attempt, Baseline, run, run_at

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        method.name: method
        for method in (
            GradientAscent(),
            CircuitAscent(),
            GradDiff(),
            DivergenceAscent(),
            NPO(),
            SimNPO(),
            RMU(),
            SURE(),
            QuailStyle(),
            DurableUnStyle(),
            SSD(),
            LoRA(),
        )
    }
)
"""Every method with its default hyper-parameters, by name."""

__all__ = [
    "METHODS",
    "NPO",
    "RMU",
    "SSD",
    "SURE",
    "Attempt",
    "Baseline",
    "BaselineData",
    "Budget",
    "CircuitAscent",
    "DivergenceAscent",
    "DurableUnStyle",
    "GradDiff",
    "GradientAscent",
    "LoRA",
    "Method",
    "QuailStyle",
    "SimNPO",
    "Sweep",
    "baseline_data",
    "export",
    "regions_of",
    "run",
    "run_at",
]
