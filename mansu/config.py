"""The configuration of an unlearning run: every hyper-parameter, with the defaults the demo uses."""

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator

from verify.contract.manifest import DEFAULT_PROFILES, Profile
from verify.contract.schema import Schema
from verify.errors import UsageError

MaskChoice = Literal["circuit", "layers", "contrast", "gradient", "random"]
"""How the mask is chosen: by contrast within the circuit; or, to compare with, by contrast in the circuit's layers or
everywhere, by the forget gradient alone or at random among all that can be edited."""

FloorChoice = Literal["levels", "none", "unfrozen", "bin_width"]
"""What makes an update large enough for NF4: see `mansu.floor.fixing`."""


class Config(Schema):
    """Hyper-parameters. A TOML file sets any of them; an unknown name is refused.

    The descriptions are what docs/config.md shows, which `python docs/generate.py` writes.
    """

    seed: int = Field(
        default=0,
        ge=0,
        description="decides what is held out, the batches, and all else that is random in the method",
    )
    # circuit
    attribution_pairs: int = Field(
        default=60, ge=4, description="contrast pairs of the forget set from which the edges are scored (EAP-IG)"
    )
    circuit_pairs: int = Field(
        default=30, ge=4, description="other pairs of it, on which the smallest faithful circuit is searched"
    )
    circuit_faithfulness: float = Field(
        default=0.85, gt=0, le=1, description="share of the metric that the circuit alone must keep on those pairs"
    )
    # mask; the other choices are there to compare with
    mask: MaskChoice = Field(
        default="circuit",
        description="where the mask is taken from: `circuit` by contrast within the circuit; to compare with, "
        "`layers` by contrast in the same layers, `contrast` everywhere, `gradient` by the forget gradient alone, "
        "`random`",
    )
    mask_share: float = Field(
        default=0.0045,
        gt=0,
        le=0.005,
        description="share of all parameters that training may move; most of them return to the base",
    )
    entry_share: float = Field(
        default=0.2, ge=0, lt=1, description="share of the layers, from the first on, that the mask leaves out"
    )
    read_out_share: float = Field(
        default=0.25, ge=0, lt=1, description="share of the layers, up to the last, that the mask leaves out"
    )
    # retain
    null_space: bool = Field(
        default=True,
        description="false, to compare with: forgetting is not projected, in the mask's saliency and in training",
    )
    null_space_energy: float = Field(
        default=0.9,
        gt=0,
        lt=1,
        description="share of the energy of the retain activations that forgetting is projected away from",
    )
    fisher: bool = Field(
        default=True,
        description="false, to compare with: the Fisher is estimated (so that batches are the same) and used nowhere, "
        "neither in the mask's saliency nor as a budget",
    )
    fisher_batches: int = Field(
        default=24, ge=1, description="batches from which the diagonal Fisher of the retain loss is estimated"
    )
    fisher_budget: float = Field(
        default=1.0, gt=0, description="greatest ½ Σ F Δ² of the edit: the estimated rise of the retain loss, in nats"
    )
    sampled_texts: int = Field(
        default=100, ge=1, description="texts sampled from the base itself, on which it must stay as it is"
    )
    text_length: int = Field(default=40, ge=8, description="tokens of each such text, and of each cut of your prose")
    # solve
    steps: int = Field(default=28, ge=1, description="training steps before the first snap")
    steps_between: int = Field(default=7, ge=1, description="training steps between two snaps")
    extensions: int = Field(
        default=4,
        ge=0,
        description="at most how often training before the first snap is lengthened by `steps_between`, on the half of "
        "the prompts whose answers lead most: it is while a snap of all on trial leaves validation accuracy above half "
        "of `forget_target`, or (where `answer_level` < 0) answers above the mean of their alternatives",
    )
    learning_rate: float = Field(
        default=3e-3, gt=0, description="of Adam on the masked parameters, until the first snap"
    )
    rate_after_snap: float = Field(
        default=0.6, gt=0, le=1, description="share of the learning rate after the first snap"
    )
    rate_decay: float = Field(
        default=0.6, gt=0, le=1, description="share of the rate that each further snap leaves; 1: it stays"
    )
    training_products: Literal["bfloat16", "float32"] = Field(
        default="bfloat16", description="type of the matrix products in training; what is measured never uses it"
    )
    snaps: tuple[float, ...] = Field(
        default=(0.6, 0.6, 0.6, 0.6, 1.0),
        description="at each snap, the share of the free parameters that is fixed, to an NF4 level or to the base: "
        "each above 0 and at most 1, and the last 1, so that none is left between two levels",
    )
    progressive: bool = Field(
        default=True,
        description="false, to compare with: training by the same rules, and everything is snapped at once, at its end",
    )
    floor: FloorChoice = Field(
        default="levels",
        description="how updates get large enough for NF4: `levels` by snapping, no absmax holder moves; to compare "
        "with, `unfrozen` by snapping, and absmax holders may move; `bin_width` by scaling up to a bin width after "
        "training; `none` not at all",
    )
    # the exact finish: docs/solver.md
    error_compensation: bool = Field(
        default=False,
        description="at each snap, the free parameters of a row make up for what fixing the others did to its retain "
        "outputs",
    )
    swap_rounds: int = Field(
        default=0,
        ge=0,
        description="rounds of swaps once all is snapped: changed parameters that hardly matter return to the base, "
        "and as many masked ones that matter more leave it",
    )
    polish_rounds: int = Field(
        default=0,
        ge=0,
        description="rounds of moves between valid values once all is snapped, kept only where a fixed measurement "
        "improves",
    )
    minimal_trials: int = Field(
        default=0,
        ge=0,
        description="trials to find how many of the changed parameters can return to the base while the edit forgets "
        "and retains as well",
    )
    # the objective
    context_share: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="share of the forget prompts in training that stand after one to four answered examples of other "
        "facts of the forget set",
    )
    answer_level: float = Field(
        default=-2.0,
        le=0,
        ge=-8,
        description="how far from the mean of its alternatives' logits training pulls an answer's: below 0, for "
        "prompts that were not trained on end nearer 0; training is lengthened while those of validation are above 0",
    )
    prompt_divergence_weight: float = Field(
        default=3.0,
        ge=0,
        description="weight, against the forget term, of the divergence from the base on retain prompts",
    )
    answer_divergence_weight: float = Field(
        default=3.0,
        ge=0,
        description="the same among the answers that a retain prompt is asked among, by themselves: a model may put "
        "little on all of them",
    )
    text_divergence_weight: float = Field(
        default=3.0, ge=0, description="the same on texts: the sampled ones and your prose"
    )
    answer_shift_weight: float = Field(
        default=0.5,
        ge=0,
        description="weight of what the right answers of one pool have gained or lost together, in log-odds: a "
        "divergence hardly counts that, and it turns answers that were nearly tied",
    )
    retain_after_nf4: bool = Field(
        default=True,
        description="half of what is retained in training is retained after NF4, against the base after NF4; false, to "
        "compare with: all of it in full precision",
    )
    # deployments to survive, all at once
    profiles: tuple[Profile, ...] = Field(
        default=DEFAULT_PROFILES,
        min_length=1,
        description="NF4 deployments that every changed parameter must survive; tables of `block_size`, "
        "`double_quant`, `cast`, `skip`",
    )
    # targets and evidence
    forget_target: float = Field(
        default=0.08,
        ge=0,
        le=1,
        description="accuracy on the forget set to reach; half of it is enough to snap (`extensions`)",
    )
    forget_known: float = Field(
        default=0.25, ge=0, le=1, description="accuracy that the base must have on the forget set; below it, ME211"
    )
    forget_pairs: int = Field(
        default=60, ge=2, description="forget pairs held out for CAD; the default policy wants 40 at least (MV405)"
    )
    retain_pairs: int = Field(default=40, ge=2, description="retain pairs held out for CAD")

    @field_validator("snaps")
    @classmethod
    def _fix_all_in_the_end(cls, snaps: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < share <= 1 for share in snaps) or snaps[-1:] != (1.0,):
            raise ValueError("each share must be above 0 and at most 1, and the last one 1")
        return snaps

    def skips(self) -> tuple[tuple[str, ...] | None, ...]:
        """Return the distinct skip lists of the profiles."""
        return tuple(dict.fromkeys(profile.skip for profile in self.profiles))

    def settings(self) -> dict[str, str]:
        """Return every setting as a string, for the manifest (which holds the profiles themselves)."""
        return {name: str(value) for name, value in self.model_dump(exclude={"profiles"}).items()}


def read_config(path: Path | None) -> Config:
    """Read a TOML configuration, or return the defaults; raises `UsageError` ME205 for a bad file."""
    if path is None:
        return Config()
    try:
        return Config.model_validate(tomllib.loads(path.read_text(encoding="utf-8")), strict=False)
    except OSError as error:
        raise _refused(path, error.strerror or "unreadable") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _refused(path, f"not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise _refused(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _refused(path: Path, found: str) -> UsageError:
    return UsageError(
        "the configuration cannot be used",
        expected=f"a TOML file that sets any of: {', '.join(Config.model_fields)}",
        found=f"{found} ({path})",
        remedy="correct the file, or leave --config out for the defaults",
        error_id="ME205",
    )
