"""Sealing: the edited model, the ledger, the probes, the model's signature and the signed manifest."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from torch import Tensor

import mansu
from mansu.base import Base
from mansu.config import Config
from mansu.request import Request
from mansu.seal.succession import FIRST, Succession
from mansu.solve.solver import Edit
from mansu.staging import LEDGER, MANIFEST, MODEL, PROBES, SIGNATURE
from verify.artefact import LedgerEntry, oms, overwrite, read_weights, walk, write_atomic
from verify.artefact import seal as seal_statement
from verify.artefact.ledger import write as write_ledger
from verify.artefact.signing import Signer
from verify.artefact.torch_tensors import as_torch
from verify.behaviour.loading import Language, load
from verify.behaviour.probes import Probes, dump
from verify.contract.manifest import (
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    CircuitClaim,
    Claim,
    Digest,
    Engine,
    Mask,
    Method,
    Predicate,
    Statement,
    Subject,
    TensorMask,
)
from verify.contract.manifest import Base as BaseClaim
from verify.contract.manifest import Request as RequestClaim
from verify.contract.schema import FileDigest


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the manifest says beyond the bytes: the request, the configuration and the circuit.

    `policy_sha256` is the digest of the policy that the certificate commits to being judged by; `succession` says
    which certificate it supersedes.
    """

    request: Request
    config: Config
    method: str
    circuit: CircuitClaim
    policy_sha256: str | None = None
    succession: Succession = FIRST


def write_model(folder: Path, base: Base, indices: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Write the base's files byte for byte, with these layers' values (flat indices, new values) overwritten."""
    for name, data in base.others.items():
        _write(folder / name, data)
    for name, file in base.weights.files.items():
        edited = bytearray(file.data)
        for layer, places in indices.items():
            if f"{layer}.weight" in file.tensors:
                overwrite(edited, file, f"{layer}.weight", places, values[layer].to(base.stored))
        _write(folder / name, edited)


def seal(
    folder: Path,
    base: Base,
    edit: Edit,
    probes: Probes,
    evidence: Evidence,
    signer: Signer,
    measure: Callable[[Language], tuple[Claim, ...]],
) -> Statement:
    """Write a certificate into `folder`: model, ledger, probes, the model's OMS signature, manifest.

    The signature is no subject of the manifest: both sign the same files, each for its own readers. `measure` is called
    on the model as loaded again from the written files, and returns the claims.
    """
    write_model(folder / MODEL, base, edit.indices, edit.values)
    entries = {
        f"{layer}.weight": LedgerEntry(indices, edit.base[layer].to(base.stored))
        for layer, indices in edit.indices.items()
    }
    ledger = write_ledger(entries)
    _write(folder / LEDGER, ledger)
    for name, data in dump(probes).items():
        _write(folder / PROBES / name, data)
    claims = measure(reload(folder / MODEL, base))
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in walk(folder)}
    statement = Statement(
        _type=STATEMENT_TYPE,
        predicateType=PREDICATE_TYPE,
        subject=tuple(Subject(name=name, digest=Digest(sha256=digest)) for name, digest in digests.items()),
        predicate=_predicate(base, edit, hashlib.sha256(ledger).hexdigest(), evidence, claims),
    )
    model = {name.removeprefix(f"{MODEL}/"): each for name, each in digests.items() if name.startswith(f"{MODEL}/")}
    _write(folder / SIGNATURE, oms.sign(MODEL, model, signer))
    _write(folder / MANIFEST, seal_statement(statement, signer.key, signer.chain))
    return statement


def reload(folder: Path, base: Base) -> Language:
    """Load the written model anew, so that claims are about the files and not about memory."""
    weights = read_weights(folder)
    tensors = {name: as_torch(file, name) for file in weights.files.values() for name in file.tensors}
    return load(base.others, tensors)


def _predicate(base: Base, edit: Edit, ledger: str, evidence: Evidence, claims: tuple[Claim, ...]) -> Predicate:
    views = base.weights.tensors()
    counts = {f"{layer}.weight": int(index.numel()) for layer, index in sorted(edit.indices.items())}
    request = evidence.request
    return Predicate(
        engine=Engine(name="mansu", version=mansu.__version__),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        sequence=evidence.succession.sequence,
        previous_sha256=evidence.succession.previous_sha256,
        policy_sha256=evidence.policy_sha256,
        request=RequestClaim(
            forget_sha256=request.forget_sha256,
            retain_sha256=request.retain_sha256,
            forget_lines=request.forget_lines,
            retain_lines=request.retain_lines,
        ),
        base=BaseClaim(files=tuple(FileDigest(name=name, sha256=sha) for name, sha in base.digests().items())),
        method=Method(name=evidence.method, settings=evidence.config.settings()),
        mask=Mask(
            tensors=tuple(TensorMask(tensor=t, masked=n, total=views[t].count) for t, n in counts.items()),
            masked=sum(counts.values()),
            parameters=sum(view.count for view in views.values()),
            ledger_sha256=ledger,
        ),
        profiles=evidence.config.profiles,
        circuit=evidence.circuit,
        claims=claims,
    )


def _write(path: Path, data: bytes | bytearray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, data)
