"""Integrity (MV1xx): these bytes, signed by that key, are that base with exactly the declared values changed."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from verify.artefact import (
    Layout,
    LedgerStream,
    ModelFiles,
    OpenFile,
    fingerprint,
    plan_weights,
    read_layout,
    read_regular,
    read_unverified,
    shown,
)
from verify.artefact.anchors import Anchors
from verify.artefact.envelope import MAX_BYTES
from verify.artefact.tensors import MAX_HEADER
from verify.behaviour.inert import refuse_code
from verify.behaviour.tokenizing import refuse_unbounded
from verify.checks.architecture import Architecture, architecture, require_fit
from verify.checks.catalog import decided, passed, refused
from verify.checks.evidence import LARGEST_COMPARED, LEDGER, MODEL, PROBES, Evidence, Files, Place, abbreviated, read
from verify.checks.examiners import Scan
from verify.checks.lineage import MISDECLARED, base_files, base_rebuilt, declared_mask
from verify.checks.permanence import plan
from verify.checks.scan import scan
from verify.checks.signatures import base_signature, manifest_signature, model_signature
from verify.checks.tradeoff import curve_profile
from verify.contract.manifest import Statement
from verify.contract.policy import Policy
from verify.contract.result import CheckResult, Trust
from verify.contract.schema import FileDigest
from verify.errors import ArtefactError

Progress = Callable[[int, int], None]
"""Called with the bytes of weights read so far, and of how many."""

_LARGEST_ENTRY = 16
"""Bytes of one masked value in a ledger, at most: an index of 8 and a base value of 8."""
_STORED = ("BF16", "F16", "F32")
_REPLACED = "do not use these files: they are not what was signed; obtain the certificate again from its producer"


@dataclass(frozen=True, eq=False)
class Integrity:
    """What could be established. `evidence` is None when a part is missing or cannot be parsed."""

    checks: tuple[CheckResult, ...]
    trust: Trust
    files: tuple[FileDigest, ...]
    manifest_sha256: str | None
    statement: Statement | None
    evidence: Evidence | None


def examine(
    model: Path,
    manifest: Path,
    anchors: Anchors,
    policy: Policy,
    *,
    progress: Progress,
) -> Integrity:
    """Run every check of integrity; a part that cannot be parsed ends the examination with its own check.

    Raises UsageError for paths that do not exist.
    """
    place = Place.of(model, manifest)
    found = _Findings(Trust(key_fingerprint=None, signature="not checked", base_digest="not established"))
    files: Files | None = None
    try:
        statement = _open_manifest(manifest, anchors, found)
        files = read(place, statement)
        found.evidence = _parse(model, statement, files, policy, found, progress)
        _judge(found.evidence, files, anchors, found)
    except ArtefactError as error:
        found.checks.append(refused(error))
        if files is not None and not found.files:
            _compare_only(files, found)
    return Integrity(
        tuple(found.checks), found.trust, found.files, found.manifest_sha256, found.statement, found.evidence
    )


def _compare_only(files: Files, found: "_Findings") -> None:
    """Say which files are not as signed, although they cannot be examined."""
    try:
        digests = {**files.sha256(), **dict(files.hash_large())}
        if digests.keys() >= files.large:
            _compare(files, digests, found)
    except ArtefactError as error:
        found.checks.append(refused(error))


def _compare(files: Files, digests: Mapping[str, str], found: "_Findings") -> None:
    found.files = tuple(FileDigest(name=name, sha256=digest) for name, digest in sorted(digests.items()))
    found.checks.append(passed("MV101", "regular files, read once", f"{len(digests) + 1} files"))
    found.checks.append(subjects(files, digests))


@dataclass(eq=False)
class _Findings:
    """What was found until now; an error ends the examination and keeps it."""

    trust: Trust
    checks: list[CheckResult] = field(default_factory=list)
    files: tuple[FileDigest, ...] = ()
    manifest_sha256: str | None = None
    statement: Statement | None = None
    evidence: Evidence | None = None


def _open_manifest(path: Path, anchors: Anchors, found: _Findings) -> Statement:
    data = read_regular(path.name, root=path.parent, limit=MAX_BYTES)
    found.manifest_sha256 = hashlib.sha256(data).hexdigest()
    trusted = anchors.trusted
    if trusted:
        first = fingerprint(trusted.keys[0]) if trusted.keys else None
        found.trust = found.trust.model_copy(update={"key_fingerprint": first, "signature": "invalid"})
    statement = read_unverified(data, certificates=trusted.certificates is not None)
    require_unambiguous(statement)
    found.statement = statement
    found.checks.append(passed("MV102", "one strict reading", "one strict reading"))
    found.checks.append(passed("MV104", statement.predicateType, statement.predicateType))
    check, opened = manifest_signature(data, trusted)
    found.checks.append(check)
    if opened is not None:
        signer = {"key_fingerprint": opened.key_fingerprint, "identity": opened.identity, "signature": "valid"}
        found.trust = found.trust.model_copy(update=signer)
    return statement


def _parse(
    model: Path, statement: Statement, files: Files, policy: Policy, found: "_Findings", progress: Progress
) -> Evidence:
    """Parse every part, and pass once over the weights; nothing that is hashed later differs from what is used here."""
    folder = files.below(MODEL)
    names = {name.removeprefix(MODEL) for name in (*files.data, *files.large) if name.startswith(MODEL)}
    weight_plan = plan_weights(names, folder.__getitem__)
    if not model.is_dir() and model.name not in {*weight_plan.files, weight_plan.index}:
        expected, given = ", ".join(weight_plan.files), shown(model.name)
        message = "the file given is not one that a loader takes"
        raise ArtefactError("MV111", message, expected=expected, found=given)
    if LEDGER not in files.large:
        raise ArtefactError("MV120", "there is no ledger", expected=f"{LEDGER}, listed in the manifest", found="none")
    with ExitStack() as stack:
        opened = {name: files.open(MODEL + name, stack) for name in weight_plan.files}
        layouts = {name: read_layout(file.read, file.size, name=name) for name, file in opened.items()}
        weights = weight_plan.matched(layouts)
        found.checks.append(passed("MV111", "one set of weight files", ", ".join(weights.files)))
        ledger_file = files.open(LEDGER, stack)
        require_ledger_size(ledger_file, sum(view.count for view in weights.tensors().values()))
        require_worth(ledger_file.size + sum(layout.size for layout in weights.files.values()), found.trust)
        ledger = LedgerStream(ledger_file)
        found.checks.append(passed("MV110", "one exact reading each", f"{len(weights.files) + 1} files"))
        stored = stored_dtype(weights)
        refuse_code(folder)
        refuse_unbounded(folder)
        shapes = {name: view.shape for name, view in weights.tensors().items()}
        profiles = statement.predicate.profiles
        structure = architecture(folder, (profile.skip for profile in profiles), tensors=len(shapes))
        require_fit(structure, shapes)
        scanned = _scan(opened, weights, ledger, structure, statement, policy, progress)
    require_one_read_out(structure, scanned)
    found.checks.append(passed("MV106", "a causal language model in safetensors, without code", structure.name))
    found.checks.append(passed("MV120", "sorted indices with base values", f"{ledger.masked:,} values"))
    found.checks.append(passed("MV121", "every entry in one weight tensor", f"{len(ledger.columns)} tensors"))
    return Evidence(
        statement=statement,
        place=files.place,
        weights=weights,
        ledger=ledger.columns,
        ledger_sha256=ledger.sha256,
        others=folder,
        probes=files.below(PROBES),
        architecture=structure,
        stored=stored,
        scan=scanned,
    )


def _scan(
    opened: Mapping[str, OpenFile],
    weights: ModelFiles[Layout],
    ledger: LedgerStream,
    structure: Architecture,
    statement: Statement,
    policy: Policy,
    progress: Progress,
) -> Scan:
    total, done = sum(layout.size for layout in weights.files.values()), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    profiles = statement.predicate.profiles
    curve = curve_profile(profiles, stored_dtype(weights), policy)
    work = plan(structure, profiles, margin=policy.margin, curve=curve)
    return scan([(opened[name], weights.files[name]) for name in weights.files], ledger, work, progress=advance)


def _judge(evidence: Evidence, files: Files, anchors: Anchors, found: "_Findings") -> None:
    """Compare what was read with what is signed, declared and pinned."""
    large = {MODEL + name: digest for name, digest in evidence.scan.sha256.items()} | {LEDGER: evidence.ledger_sha256}
    digests = {**files.sha256(), **large}
    _compare(files, digests, found)
    others = {name: digests[MODEL + name] for name in evidence.others}
    base = evidence.statement.predicate.base
    rebuilt = evidence.scan.base_sha256
    model = {name.removeprefix(MODEL): digest for name, digest in digests.items() if name.startswith(MODEL)}
    found.checks.append(model_signature(files.place.folder, model, anchors.trusted))
    try:
        vendors = None if anchors.base_signature is None else base_signature(anchors.base_signature)
        check, trusted = base_rebuilt(base, rebuilt, others, anchors.base_digests, vendors)
    except ArtefactError as error:
        check, trusted = refused(error), "not established"
    found.trust = found.trust.model_copy(update={"base_digest": trusted})
    mask = declared_mask(evidence.statement.predicate.mask, evidence)
    found.checks += [check, base_files(base, rebuilt, others), mask]


def require_unambiguous(statement: Statement) -> None:
    """Raise ArtefactError MV102 when the manifest states one thing twice: a reader could be shown either."""
    predicate = statement.predicate
    lists: tuple[tuple[str, list[str]], ...] = (
        ("a claim", [f"{c.axis}, {c.row}, {c.precision}" for c in predicate.claims]),
        ("a profile", [profile.model_dump_json() for profile in predicate.profiles]),
        ("a base file", [file.name for file in predicate.base.files]),
        ("a masked tensor", [entry.tensor for entry in predicate.mask.tensors]),
    )
    for what, names in lists:
        twice = sorted(name for name, times in Counter(names).items() if times > 1)
        if twice:
            message = f"the manifest states {what} twice"
            raise ArtefactError("MV102", message, expected="each once", found=abbreviated(twice), remedy=MISDECLARED)


def subjects(files: Files, digests: Mapping[str, str]) -> CheckResult:
    """MV105: every file is a subject with its digest, none is missing, none is extra."""
    missing = sorted(files.listed.keys() - files.found)
    extra = sorted(files.found - files.listed.keys())
    changed = sorted(name for name, digest in digests.items() if digest != files.listed[name])
    parts = (("changed", changed), ("missing", missing), ("not in the manifest", extra))
    wrong = "; ".join(f"{what}: {abbreviated(names)}" for what, names in parts if names)
    found = wrong or f"{len(files.listed)} files, every digest as signed"
    expected = f"the {len(files.listed)} files of the manifest, with their digests, and no other"
    return decided("MV105", expected, found, _REPLACED, holds=not wrong)


def require_ledger_size(ledger: OpenFile, parameters: int) -> None:
    """Raise ArtefactError MV121 for a ledger larger than one of all `parameters`, before it is read to its end."""
    largest = 8 + MAX_HEADER + _LARGEST_ENTRY * parameters
    if ledger.size > largest:
        message = "the ledger is larger than one of every parameter"
        expected = f"at most {largest:,} bytes"
        raise ArtefactError("MV121", message, expected=expected, found=f"{ledger.size:,} bytes")


def require_worth(size: int, trust: Trust) -> None:
    """Raise ArtefactError MV103 for so many bytes that a stranger signed: to read files of holes could take days."""
    if trust.signature == "invalid" and size > LARGEST_COMPARED:
        expected = f"a trusted signature, or at most {LARGEST_COMPARED:,} bytes to compare"
        raise ArtefactError("MV103", "refused anyway, and too large to be read", expected=expected, found=f"{size:,}")


def require_one_read_out(structure: Architecture, scanned: Scan) -> None:
    """Raise ArtefactError MV106 where the output head is tied to the embedding and stored with other values.

    Loaders disagree on which of the two then counts.
    """
    if len(set(scanned.tensor_sha256.values())) > 1:
        expected = f"one set of values for {structure.tied}"
        raise ArtefactError("MV106", "the output head is tied to the embedding but differs", expected=expected)


def stored_dtype(weights: ModelFiles[Layout]) -> str:
    """Return the one dtype of all weights; ArtefactError MV106 unless it is bfloat16, float16 or float32."""
    kinds = {view.dtype: name for name, view in sorted(weights.tensors().items(), reverse=True)}
    if len(kinds) != 1 or not kinds.keys() <= set(_STORED):
        expected = "one of " + ", ".join(_STORED)
        first = (
            f"{kind} in {shown(kinds[kind])} of {shown(weights.holder(kinds[kind]).name)}" for kind in sorted(kinds)
        )
        raise ArtefactError("MV106", "the weights have no single dtype", expected=expected, found=", ".join(first))
    return next(iter(kinds))
