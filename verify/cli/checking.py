"""A certificate checked: the order is read whole before anything is removed, checked or written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from verify.cli.arguments import report_target, require_outside
from verify.cli.output import deliver, discard, in_colour, render
from verify.cli.progress import bars
from verify.cli.signing import Written, finish, prepare, sealed
from verify.errors import UsageError

if TYPE_CHECKING:
    from reports.text import Detail


@dataclass(frozen=True)
class Order:
    """What is to be checked, how far, and by what; paths as given."""

    model: Path | None
    manifest: Path | None
    level: Literal["static", "full"]
    keys: tuple[Path, ...]
    cert_roots: tuple[Path, ...]
    cert_identity: str | None
    base_digests: Mapping[str, str]
    base_signature: Path | None
    base_key: Path | None
    policy: Path | None
    probes: Path | None
    certified: Path | None = None


@dataclass(frozen=True)
class Delivery:
    """Where the answer goes: `form` to `output` or stdout, each of `reports` (FORM=PATH) beside it, signed or not."""

    form: str
    output: Path | None
    reports: tuple[str, ...]
    sign_with: Path | None
    detail: "Detail"


def check_certificate(order: Order, delivery: Delivery) -> int:
    """Check, write what was asked for, and return the result's exit code. Raises UsageError before anything is done."""
    if order.manifest is None:
        raise UsageError("no manifest given", remedy="add --manifest OUT/m.json")
    if order.model is None:
        raise UsageError("no model given", remedy="name the model folder or its model.safetensors")
    targets = [report_target(text, order.model, order.manifest) for text in delivery.reports]
    if delivery.output is not None:
        require_outside(delivery.output, order.model, order.manifest)
        targets.append((delivery.form, delivery.output))

    if order.certified is not None:
        for _, path in targets:
            require_outside(path, order.certified, order.manifest)
    _require_apart([path for _, path in targets], order)

    from verify.artefact.anchors import AnchorFiles  # noqa: PLC0415  (not needed for help)
    from verify.artefact.policy_file import read_policy  # noqa: PLC0415  (pydantic and cryptography are slow for help)
    from verify.check import DEFAULT_POLICY, check  # noqa: PLC0415  (numpy too)

    policy = DEFAULT_POLICY if order.policy is None else read_policy(order.policy)
    anchors = AnchorFiles(
        keys=order.keys,
        cert_roots=order.cert_roots,
        cert_identity=order.cert_identity,
        base_digests=order.base_digests,
        base_signature=order.base_signature,
        base_key=order.base_key,
    )
    if delivery.sign_with is not None:
        _require_certified(order.model, order.manifest, order.certified)
    signing = prepare(delivery.sign_with, targets, model=order.model, manifest=order.manifest, keys=order.keys)
    for _, path in targets:
        discard(path)
    with bars(shown=delivery.detail != "quiet") as progress:
        result = check(
            order.model,
            order.manifest,
            anchors=anchors,
            level=order.level,
            policy=policy,
            policy_path=order.policy,
            probes=order.probes,
            certified=order.certified,
            progress=progress,
        )
    written = []
    for form, path in targets:
        detail = delivery.detail if path == delivery.output else "normal"
        rendered = render(result, form, detail=detail, signed=partial(sealed, signing, result))
        written.append(Written(form, path, deliver(rendered, path)))
    finish(signing, result, written)
    if delivery.output is None:
        deliver(render(result, delivery.form, detail=delivery.detail, colour=in_colour(None)), None)
    return result.exit_code


def _require_certified(model: Path, manifest: Path, certified: Path | None) -> None:
    """Refuse to sign a report on a deployed file: the report's form names the files of a certificate, and no others."""
    from verify.checks.deployed_folder import locate  # noqa: PLC0415  (not needed for help)

    if locate(model, manifest, certified) is not None:
        remedy = "leave --sign-with out, or sign a report on the certified model itself"
        raise UsageError("--sign-with: a report on a deployed file cannot be signed yet", remedy=remedy)


def _require_apart(outputs: Sequence[Path], order: Order) -> None:
    """Refuse to write over what the check is to rest on: outputs are removed before anything is read."""
    named = (*order.keys, *order.cert_roots, order.base_signature, order.base_key, order.policy)
    inputs = {path.resolve() for path in named if path is not None}
    for path in outputs:
        place = path.resolve()
        if place in inputs or (order.probes is not None and place.parent == order.probes.resolve()):
            raise UsageError(f"{path} is among what you gave for the check", remedy="write it elsewhere")
