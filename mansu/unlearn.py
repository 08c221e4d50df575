"""One call: request, data, circuit, the edit (`circuit_edit`: what is retained, the mask, the solver), and the seal."""

from dataclasses import dataclass
from pathlib import Path

import torch

from mansu.base import CPU, open_base, open_language, working_copy
from mansu.circuit.search import attributed, smallest, split_pairs
from mansu.circuit_edit import edit_circuit
from mansu.config import Config
from mansu.data.prepare import Data, prepare
from mansu.data.probes import held_out_probes, training_pairs
from mansu.progress import Steps
from mansu.request import read_request, require_held_out, require_tokens
from mansu.seal.claims import forget_accuracy, measure_claims
from mansu.seal.method import described
from mansu.seal.sealing import Evidence, seal
from mansu.seal.succession import superseding
from mansu.solve.frontier import Frontier
from mansu.staging import refuse_existing, staging
from verify.artefact.signing import Signer
from verify.behaviour.loading import Language
from verify.circuits import FaithfulCircuit
from verify.contract.manifest import CircuitClaim


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an unlearning run came to; accuracies are on held-out wordings (where there are none, facts), as claimed.

    `frontier` holds the trials of the solver, on validation wordings.
    """

    out: Path
    changed: int
    parameters: int
    forget_accuracy: float
    forget_accuracy_nf4: float
    target: float
    frontier: Frontier | None = None

    @property
    def target_met(self) -> bool:
        """Whether the forget target is met in full precision and after NF4."""
        return max(self.forget_accuracy, self.forget_accuracy_nf4) <= self.target

    def summary(self) -> str:
        """Say in a few lines what was reached, and clearly where the target was not."""
        met = "met" if self.target_met else "NOT MET: the model still knows too much"
        return (
            f"forget accuracy on held-out wordings: {self.forget_accuracy:.3f} in full precision, "
            f"{self.forget_accuracy_nf4:.3f} after NF4\n"
            f"target {self.target:.3f} {met}\n"
            f"changed {self.changed:,} of {self.parameters:,} parameters ({self.changed / self.parameters:.4%})\n"
            f"certificate: {self.out}"
        )


def unlearn(
    base_folder: Path,
    forget: Path,
    retain: Path,
    signer: Signer,
    out: Path,
    config: Config,
    *,
    steps: Steps,
    policy_sha256: str | None = None,
    supersedes: Path | None = None,
    frontier: bool = False,
    device: torch.device = CPU,
) -> Outcome:
    """Run the whole pipeline and write the certificate to `out`.

    `policy_sha256` commits the certificate to the policy it is to be judged by (`Policy.sha256`). `supersedes` is the
    manifest of the certificate before it.
    With `frontier` every trial is measured whole, and more are made to trace it. On another `device` than the CPU the
    circuit is found and the edit trained there; what is claimed is measured on the CPU, as the verifier measures it.
    Raises `UsageError`: ME201 to ME204 and ME212 to ME214 for the sets, ME210 for the model's folder, ME211 when the
    model does not know the forget set, ME220 when `out` cannot be written, ME221 when the manifest to supersede cannot
    be read. Nothing is left behind on any error.
    """
    refuse_existing(out)
    succession = superseding(supersedes)
    request = read_request(forget, retain, seed=config.seed)
    base = open_base(base_folder)
    language, _ = open_language(base, device)
    require_tokens(language.tokenizer, request)
    require_held_out(request)
    data = prepare(language, base, request, config, steps=steps)
    circuit = find_circuit(language, data, config, steps=steps)
    with staging(out) as folder:
        model = working_copy(language, base.stored)
        edit = edit_circuit(model, base, data, circuit, config, steps=steps, frontier=frontier)
        del model
        probes = held_out_probes(
            request,
            language.tokenizer,
            forget_pairs=config.forget_pairs,
            retain_pairs=config.retain_pairs,
            seed=config.seed,
        )
        evidence = Evidence(request, config, described(config), _claim(circuit), policy_sha256, succession)
        statement = seal(
            folder,
            base,
            edit,
            probes,
            evidence,
            signer,
            lambda edited: measure_claims(language.to(CPU), edited, base.stored, probes, steps=steps),
        )
    parameters = sum(view.count for view in base.weights.tensors().values())
    claims = statement.predicate.claims
    accuracy, accuracy_nf4 = forget_accuracy(claims, "full"), forget_accuracy(claims, "nf4")
    points = Frontier(parameters=parameters, limit=config.forget_target / 2, points=edit.frontier)
    return Outcome(out, edit.size, parameters, accuracy, accuracy_nf4, config.forget_target, points)


def find_circuit(language: Language, data: Data, config: Config, *, steps: Steps) -> FaithfulCircuit:
    """Attribute the forget set to edges, and search the smallest circuit faithful on other pairs of it."""
    wanted = config.attribution_pairs + config.circuit_pairs
    pairs = training_pairs(data.request.forget.train, data.pools, language.tokenizer, count=wanted, seed=config.seed)
    first, rest = split_pairs(pairs, config.attribution_pairs, config.circuit_pairs)
    scores = attributed(language.model, first, steps=steps)
    return smallest(language.model, scores, rest, config.circuit_faithfulness, steps=steps)


def _claim(circuit: FaithfulCircuit) -> CircuitClaim:
    return CircuitClaim(
        edges=circuit.circuit.size,
        edges_total=int(circuit.circuit.graph.real.sum()),
        faithfulness=circuit.faithfulness,
        target=circuit.target,
        reached=circuit.reached,
    )
