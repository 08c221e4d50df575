"""Verification material of a Sigstore bundle v0.3: a key's hint, or a chain of certificates. Neither is trusted.

One certificate alone stands in `certificate`, several in `x509CertificateChain`, as the bundle's specification has it.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from verify.artefact.envelope import MALFORMED, decoded_base64, require_fields, require_string, shown
from verify.errors import ArtefactError


@dataclass(frozen=True)
class Material:
    """What a bundle says of its signer: either `hint`, which key it was, or `chain`, DER certificates, leaf first."""

    hint: str | None = None
    chain: tuple[bytes, ...] = ()


def write_material(hint: str, chain: Sequence[bytes] = (), *, always_chain: bool = False) -> dict[str, object]:
    """Return the JSON object that names the signer by its certificates, or where there are none by its key's `hint`.

    `always_chain` writes one certificate as a chain too: OMS tools read nothing else. `tlogEntries` is there, although
    empty: the Python models of sigstore read no material without it.
    """
    certificates = [{"rawBytes": base64.b64encode(der).decode()} for der in chain]
    signer: dict[str, object]
    if not certificates:
        signer = {"publicKey": {"hint": hint}}
    elif len(certificates) == 1 and not always_chain:
        signer = {"certificate": certificates[0]}
    else:
        signer = {"x509CertificateChain": {"certificates": certificates}}
    return {**signer, "tlogEntries": []}


def read_material(value: object, *, name: str) -> Material:
    """Return well-formed material; ArtefactError MV102 for anything but one of the three forms.

    Transparency log entries and timestamps are refused: they would need another party's keys and none is trusted here.
    """
    if not isinstance(value, dict):
        raise ArtefactError(MALFORMED, f"{name}: verificationMaterial", expected="an object", found=shown(value))
    entries = value.get("tlogEntries", [])
    if entries != []:
        raise ArtefactError(MALFORMED, f"{name}: tlogEntries", expected="none", found=shown(entries))
    forms = ("publicKey", "certificate", "x509CertificateChain")
    form = next((form for form in forms if form in value), forms[0])
    material = require_fields(value, (form,), optional=("tlogEntries",), name=f"{name}: verificationMaterial")
    if form == "publicKey":
        public_key = require_fields(material[form], ("hint",), name=f"{name}: publicKey")
        return Material(hint=require_string(public_key["hint"], name=f"{name}: hint"))
    if form == "certificate":
        return Material(chain=_certificates([material[form]], name=name))
    chain = require_fields(material[form], ("certificates",), name=f"{name}: {form}")
    return Material(chain=_certificates(chain["certificates"], name=name))


def _certificates(value: object, *, name: str) -> tuple[bytes, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise ArtefactError(MALFORMED, f"{name}: certificates", expected="a list of at least one", found=shown(value))
    entries = [require_fields(entry, ("rawBytes",), name=f"{name}: certificate") for entry in value]
    return tuple(decoded_base64(entry["rawBytes"], name=f"{name}: rawBytes") for entry in entries)
