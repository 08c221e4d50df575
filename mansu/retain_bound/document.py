"""What `mansu bound` finds, as versioned JSON: every constant of the bounds, and the measured change below them."""

from typing import Literal

from verify.contract.schema import Schema, Sha256

Which = Literal["prompts", "texts"]


class BlockGain(Schema):
    """One edited decoder layer l.

    `leak` is √mean ‖ΔW X‖² over sequences, at the base's inputs; `gain` what the logits make of it:
    √mean Var(z⁽ˡ⁾ − z⁽ˡ⁻¹⁾) = gain · leak.
    """

    block: int
    leak: float
    gain: float


class SetBound(Schema):
    """One set of sequences: after `prompts` (their last position) or at every position of `texts`. Nats.

    `measured` is the mean KL(base ‖ edited), `worst` the largest. `by_logits`, `by_fisher` and `by_layers` are the
    bounds on the mean of Theorems 1, 2 and 3; `each_fisher` and `each_layers` the means of the last two's bounds at
    each position, which no constants sum up. `half_fisher` ½ΔᵀFΔ with the full Fisher, `remainder` ρ, `growth_fisher`
    and `growth_layers` the φ̄ of Theorems 2 and 3, `rise` the largest b. `exceeded` counts the bounds that a measured
    value exceeds, of three at each position and five on the mean: a theorem allows none.
    """

    which: Which
    held_out: bool
    sequences: int
    positions: int
    measured: float
    worst: float
    by_logits: float
    by_fisher: float
    by_layers: float
    each_fisher: float
    each_layers: float
    half_fisher: float
    remainder: float
    growth_fisher: float
    growth_layers: float
    rise: float
    blocks: tuple[BlockGain, ...]
    exceeded: int


class BlockLeak(Schema):
    """R1 on one edited decoder layer, over the tokens that the constants are taken from: squares per token.

    `leak` = Σ tr(ΔW M ΔWᵀ) = E‖ΔW x‖²; `bound` = Σ λ_max‖ΔW V‖² + λ_⊥‖ΔW P‖², its split along the removed directions V
    and the null space P; `kept_weight` the share of ‖ΔW‖² that lies in P, `kept_leak` the share of the leak.
    `isotropic` is what the leak would be if ΔW lay anyhow to the activations: Σ ‖ΔW‖² tr M / in.
    """

    block: int
    leak: float
    bound: float
    kept_weight: float
    kept_leak: float
    isotropic: float


class Diagonal(Schema):
    """½ Σ FᵢᵢΔᵢ² of one set, with its standard error over draws, and the coherence κ = ΔᵀFΔ / Σ FᵢᵢΔᵢ²."""

    which: Which
    half_diagonal: float
    standard_error: float
    coherence: float


class Transfer(Schema):
    """Prompts that no constant was taken from.

    `factor` f: with probability at least `level`, KL at a new prompt exchangeable with the held-out ones is at most
    f · ½(a + ρ)², a² = ΔᵀFΔ at that prompt (of the base alone), ρ from the known prompts; null where `calibrated` are
    too few. `covered` of `tested` other held-out prompts lie below. `layers_predicted` is Theorem 3's bound with
    the gains and φ̄ of the known prompts and the leaks of the held-out ones: no theorem, but a prediction.
    """

    level: float
    factor: float | None
    calibrated: int
    tested: int
    covered: int | None
    layers_predicted: float


class RetainBound(Schema):
    """The whole of it.

    `moved`: changed values; `engine_cost`: ½ Σ F̂Δ² with the engine's own estimate of the Fisher; `ceiling`: what no
    edit below the final norm can exceed; `exceeded`: the sum over the sets.
    """

    schema_: Literal["urn:mansu:retain-bound/v1"] = "urn:mansu:retain-bound/v1"
    engine: str
    model: str
    edited: str
    retain_sha256: Sha256
    split: Literal["the engine's", "halves"]
    seed: int
    moved: int
    layers: int
    sets: tuple[SetBound, ...]
    leaks: tuple[BlockLeak, ...]
    diagonals: tuple[Diagonal, ...]
    engine_cost: float
    transfer: Transfer
    ceiling: float
    exceeded: int
