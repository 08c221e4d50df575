"""The ablations: for each part of the method what to change in the configuration, so that nothing else differs.

One switch a row. Batches, the number of training steps, their rates and the rule for lengthening it are those of the
configuration that is ablated.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mansu.config import Config
from verify.errors import UsageError

ABLATIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "saliency only": {"mask": "contrast"},
        "gradient saliency": {"mask": "gradient"},
        "random mask": {"mask": "random"},
        "circuit in all layers": {"entry_share": 0.0, "read_out_share": 0.0},
        "no circuit, same layers": {"mask": "layers"},
        "no null space": {"null_space": False},
        "no Fisher": {"fisher": False},
        "no retention after NF4": {"retain_after_nf4": False},
        "no divergence among answers": {"answer_divergence_weight": 0.0},
        "no pull on shared shifts": {"answer_shift_weight": 0.0},
        "no floor": {"floor": "none"},
        "floor without freezing absmax": {"floor": "unfrozen"},
        "floor in the paper's form": {"floor": "bin_width"},
        "snap at once": {"progressive": False},
    }
)
"""What each ablation changes in a `Config`, by the name of its row. "saliency only" leaves out the circuit and the
choice of layers at once; the two rows after "random mask" leave out one of them each."""


def ablated(name: str, config: Config | None = None) -> Config:
    """Return the configuration (the defaults, where none is given) with one ablation's changes.

    Raises `UsageError` ME330 for a name that `ABLATIONS` does not have.
    """
    if name not in ABLATIONS:
        raise UsageError(
            "there is no such ablation",
            expected=", ".join(ABLATIONS),
            found=repr(name),
            remedy="give one of these names",
            error_id="ME330",
        )
    return (config or Config()).model_copy(update=dict(ABLATIONS[name]))
