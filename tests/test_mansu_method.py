"""What the manifest says was done, switch by switch."""

import pytest

from mansu.bench.ablations import ABLATIONS, ablated
from mansu.config import Config
from mansu.seal.method import described

USUAL = "circuit-restricted masked training with progressive snapping to NF4 levels"
SAID = {
    "saliency only": "contrast-masked training with progressive snapping to NF4 levels",
    "gradient saliency": "gradient-masked training with progressive snapping to NF4 levels",
    "random mask": "randomly masked training with progressive snapping to NF4 levels",
    "circuit in all layers": USUAL,  # the layers are in the settings, here as there
    "no circuit, same layers": "layer-restricted contrast-masked training with progressive snapping to NF4 levels",
    "no null space": "circuit-restricted masked training without null space, with progressive snapping to NF4 levels",
    "no Fisher": "circuit-restricted masked training without Fisher, with progressive snapping to NF4 levels",
    "no retention after NF4": (
        "circuit-restricted masked training without retention after NF4, with progressive snapping to NF4 levels"
    ),
    "no divergence among answers": USUAL,  # a weight of zero is in the settings
    "no pull on shared shifts": USUAL,
    "no floor": "circuit-restricted masked training without a floor, rounded to the stored dtype",
    "floor without freezing absmax": f"{USUAL}, absmax holders included",
    "floor in the paper's form": "circuit-restricted masked training with updates scaled up to a bin width at its end",
    "snap at once": "circuit-restricted masked training with one snap to NF4 levels at its end",
}


def test_the_method_itself() -> None:
    assert described(Config()) == USUAL


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_says_what_it_did(name: str) -> None:
    assert described(ablated(name)) == SAID[name]


def test_one_portion_is_one_snap_and_switches_add_up() -> None:
    config = Config(snaps=(1.0,), null_space=False, fisher=False)
    assert described(config) == (
        "circuit-restricted masked training without null space and Fisher, with one snap to NF4 levels at its end"
    )


def test_the_finish_is_named_step_by_step_and_only_where_it_is_taken() -> None:
    config = Config(error_compensation=True, polish_rounds=1, minimal_trials=5)
    assert described(config) == f"{USUAL}, with error compensation, a polish, the smallest change"
    assert described(config.model_copy(update={"floor": "none"})) == SAID["no floor"]
