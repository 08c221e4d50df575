"""The deployed file (MV7xx): what bitsandbytes quantized and saved is exactly the NF4 of the certified model.

The folder is found by its tensors (`quant_state.bitsandbytes__…`). It is no part of the certificate and nobody signed
it: all that is said of it follows from the certified model, which the other checks examine as they do without it.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from verify.artefact import open_regular, shown
from verify.artefact.bnb import State
from verify.checks.catalog import decided, passed, refused
from verify.checks.deployed_folder import Folder, Target, read
from verify.checks.evidence import Evidence, abbreviated
from verify.checks.permanence import casts_of, named
from verify.contract.manifest import Profile
from verify.contract.result import CheckResult, Deployed
from verify.contract.schema import FileDigest
from verify.errors import ArtefactError

if TYPE_CHECKING:
    from verify.checks.deployed_config import Settings
    from verify.checks.deployed_tensors import Differences, Scheme

Progress = Callable[[int, int], None]
"""Called with the bytes read so far, and of how many."""

_NAMED = 100
"""Differing tensors that a result names."""
_AGAIN = "do not deploy the file; quantize the certified model again and save it with save_pretrained"
_COPY = "copy these files from the certified model's folder, or remove them"
_CASTS = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


def examine(
    target: Target, evidence: Evidence, *, progress: Progress
) -> tuple[tuple[CheckResult, ...], Deployed | None]:
    """Run the checks of a deployed file against the certified model's evidence; what cannot be read ends them."""
    found: list[CheckResult] = []
    try:
        deployed = _examine(target, evidence, found, progress)
    except ArtefactError as error:
        return (*found, refused(error)), None
    return tuple(found), deployed


def _examine(target: Target, evidence: Evidence, found: list[CheckResult], progress: Progress) -> Deployed:
    from verify.checks import deployed_config, deployed_tensors  # noqa: PLC0415  (torch takes a second to load)

    with _reissued("MV701"):
        folder = read(target, evidence)
    with _reissued("MV702"):
        settings = deployed_config.read_config(folder.others, evidence)
    found.append(passed("MV702", "the certified model's configuration, and no code", evidence.architecture.name))
    states = folder.parsed()
    found.append(passed("MV704", "one strict reading each", f"{len(states)} states"))
    profile = _profile(states, settings, evidence)
    scheme = deployed_tensors.scheme(states, profile.skip, settings.dtype, evidence)
    found.append(_claimed(profile, states, scheme, evidence))
    wanted = deployed_tensors.wanted(scheme, _shapes(scheme, folder, evidence))
    odd = _misfits(scheme, states, wanted, folder, evidence)
    found.append(_structure(odd, wanted))
    with _reissued("MV701"):
        differences, digests = _compare(folder, evidence, scheme, wanted, progress)
    found.append(passed("MV701", "regular files in one strict reading", f"{len(digests)} files of weights"))
    found += _compared(differences, scheme)
    found.append(_beside(*deployed_config.other_files(folder.others, evidence.others)))
    others = {name: hashlib.sha256(data).hexdigest() for name, data in folder.others.items()}
    wrong = sorted({*differences.tensors(), *odd})
    return Deployed(
        profile=named(profile),
        dtype=_CASTS[settings.dtype],
        compute_dtype=settings.compute_dtype,
        quantized=len(scheme.states),
        unquantized=len(wanted.keys() & scheme.dtypes.keys()),
        differing=tuple(wrong[:_NAMED]),
        differing_total=len(wrong),
        files=tuple(FileDigest(name=name, sha256=sha) for name, sha in sorted({**digests, **others}.items())),
    )


@contextmanager
def _reissued(check_id: str) -> Iterator[None]:
    """Turn what a reader of certificates refuses into the deployed file's own check, which names the folder meant."""
    try:
        yield
    except ArtefactError as error:
        if not error.id.startswith("MV1"):
            raise
        message = f"the deployed folder: {error.message}"
        raise ArtefactError(
            check_id, message, expected=error.expected, found=error.found, remedy=error.remedy
        ) from error


def _profile(states: Mapping[str, State], settings: "Settings", evidence: Evidence) -> Profile:
    """Return the claimed profile that the deployed file is in; ArtefactError MV703 where it is in none."""
    profiles = evidence.statement.predicate.profiles
    expected = "a profile of the manifest: " + "; ".join(map(named, profiles[:8]))
    kinds = {(state.quant_type, state.block_size, state.offset is not None) for state in states.values()}
    foreign = next((weight for weight, state in states.items() if state.quant_type != "nf4"), None)
    if foreign is not None:
        found = f"{states[foreign].quant_type} in {shown(foreign)}"
        raise ArtefactError("MV703", "the deployed file is not NF4", expected="nf4", found=found, remedy=_AGAIN)
    if len(kinds) != 1:
        found = "; ".join(f"{kind}, blocks of {size}, nested {nested}" for kind, size, nested in sorted(kinds))
        message = "the deployed file is not quantized in one way"
        raise ArtefactError("MV703", message, expected=expected, found=found or "nothing quantized", remedy=_AGAIN)
    (_, size, nested) = next(iter(kinds))
    casts = casts_of(evidence.stored, settings.dtype)
    for profile in profiles:
        same = (profile.block_size, profile.double_quant, profile.skip) == (size, nested, settings.skip)
        if same and profile.cast in casts and settings.double_quant == nested:
            return profile
    scales = "8-bit" if nested else "float32"
    if settings.double_quant != nested:
        scales += ", of which quantization_config says the opposite"
    skip = "" if settings.skip is None else f", not in {shown(settings.skip)}"
    found = f"NF4, blocks of {size}, scales in {scales}, weights as {_CASTS[settings.dtype]}{skip}"
    message = "no profile of the certificate is the deployed one"
    remedy = "quantize in a profile that the certificate claims, or ask its producer for one that claims this"
    raise ArtefactError("MV703", message, expected=expected, found=found, remedy=remedy)


def _claimed(profile: Profile, states: Mapping[str, State], scheme: "Scheme", evidence: Evidence) -> CheckResult:
    """MV703: the profile is claimed, and every weight was cast as it says before it was quantized."""
    odd = [name for name, state in states.items() if state.dtype != scheme.dtypes.get(name, state.dtype)]
    if odd:
        text = f"{abbreviated(odd)}: quantized from {states[odd[0]].dtype}, where {scheme.dtypes[odd[0]]} is loaded"
        return decided("MV703", named(profile), text, _AGAIN, holds=False)
    claims = len(evidence.statement.predicate.profiles)
    return passed("MV703", f"one of the {claims} profiles of the manifest", named(profile))


def _shapes(scheme: "Scheme", folder: Folder, evidence: Evidence) -> dict[str, tuple[int, ...]]:
    """Return the certified tensors by the names that the deployed file should have, with their stored shapes.

    Of a tied pair a file may hold either name or both; it should hold one.
    """
    shapes = {name: view.shape for name, view in evidence.weights.tensors().items()}
    if scheme.tied is not None:
        shape = next(shapes[name] for name in scheme.tied if name in shapes)
        there = [name for name in scheme.tied if name in folder.weights.tensors()] or [scheme.tied[0]]
        shapes = {name: known for name, known in shapes.items() if name not in scheme.tied}
        shapes |= dict.fromkeys(there, shape)
    return shapes


Wanted = Mapping[str, tuple[str, tuple[int, ...]]]
"""Tensor → dtype and shape."""


def _misfits(
    scheme: "Scheme", states: Mapping[str, State], wanted: Wanted, folder: Folder, evidence: Evidence
) -> dict[str, str]:
    """Return which tensors are not in the form they should have, and what is wrong with each."""
    views = folder.weights.tensors()
    state_tensors = {tensor for tensor, _ in folder.states.values()}
    odd = dict.fromkeys(views.keys() - wanted.keys() - state_tensors, "extra")
    for name, (dtype, shape) in wanted.items():
        view = views.get(name)
        if view is None:
            odd[name] = "missing"
        elif (view.dtype, view.shape) != (dtype, shape):
            odd[name] = f"{view.dtype} {list(view.shape)}, wanted {dtype} {list(shape)}"
    for name, state in states.items():
        right = scheme.states.get(name)
        if right is None:
            odd[name] = "quantized, which the profile does not do"
        elif right.shape != state.shape:
            odd[name] = f"its state says {list(state.shape)}, wanted {list(right.shape)}"
    quantized = {entry.name for entry in evidence.architecture.quantized[scheme.skip]}
    odd |= {name: "left unquantized" for name in quantized - states.keys() if name in views}
    return odd


def _structure(odd: Mapping[str, str], wanted: Wanted) -> CheckResult:
    """MV705: the tensors are those that the profile makes of the certified model."""
    parts = [f"{shown(name)}: {odd[name]}" for name in sorted(odd)]
    text = "; ".join(parts[:3]) + (f"; and {len(parts) - 3} more" if len(parts) > 3 else "")
    expected = "every tensor of the certified model, quantized or not as the profile says, and no other"
    return decided("MV705", expected, text or f"{len(wanted)} tensors and the states", _AGAIN, holds=not odd)


def _compare(
    folder: Folder, evidence: Evidence, scheme: "Scheme", wanted: Wanted, progress: Progress
) -> "tuple[Differences, dict[str, str]]":
    """Hash the deployed files and compare; return what differs, and the files' digests."""
    from verify.checks.deployed_tensors import Digests, compare, digest  # noqa: PLC0415  (torch takes a second to load)

    files = [*folder.weights.files.values(), *evidence.weights.files.values()]
    total, done = sum(layout.size for layout in files), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    digests = Digests()
    for name, layout in folder.weights.files.items():
        with open_regular(name, root=folder.path) as file:
            digest(file, layout, digests, progress=advance)
    for tensor, data in folder.states.values():
        if digests.tensors[tensor] != hashlib.sha256(data).digest():
            raise ArtefactError("MV701", f"the deployed folder: {shown(tensor)} changed while it was read")
    for name, view in folder.weights.tensors().items():
        if (view.dtype, view.shape) != wanted.get(name, (view.dtype, view.shape)):
            digests.tensors.pop(name)
    return compare(evidence, folder.weights, folder.path, scheme, digests, progress=advance), digests.files


def _compared(differences: "Differences", scheme: "Scheme") -> Iterator[CheckResult]:
    """MV706 to MV708: codes, scales, and what is not quantized."""
    plain = len(differences.compared - scheme.states.keys())
    for check_id, what, count in (
        ("MV706", "the codes of the exact quantizer, bit for bit", f"{len(scheme.states)} weights"),
        ("MV707", "the scales of the exact quantizer, bit for bit", f"{len(scheme.states)} weights"),
        ("MV708", "the certified values after the cast, bit for bit", f"{plain} tensors"),
    ):
        wrong = list(differences.found[check_id].values())
        text = "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more tensors" if len(wrong) > 3 else "")
        yield decided(check_id, what, text or f"all of {count}", _AGAIN, holds=not wrong)


def _beside(odd: Sequence[str], absent: Sequence[str], count: int) -> CheckResult:
    """MV709: the files beside the weights are the certified ones; those left out are named."""
    expected = "every other file as in the certified model's folder"
    if odd:
        return decided("MV709", expected, f"not as certified: {abbreviated(list(odd))}", _COPY, holds=False)
    left_out = f"; not there: {abbreviated(list(absent))}" if absent else ""
    return passed("MV709", expected, f"{count} files{left_out}")
