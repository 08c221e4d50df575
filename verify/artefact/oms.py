"""OpenSSF Model Signing (OMS v1.0): a bundle over a model's folder, as the `model_signing` tool writes and reads it.

An in-toto statement lists every file with its digest; its one subject has as digest the hash of all these digests in
their order. That root binds no names: whoever compares it alone accepts renamed files. Here every name and digest is
compared, and nothing else counts. What the format lets a bundle leave out is narrow: git's own files, and itself.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

import rfc8785
from pydantic import ConfigDict, Field, ValidationError

from verify.artefact.bundle import pack, unpack
from verify.artefact.envelope import MALFORMED, WRONG_TYPE, shown, strict_json
from verify.artefact.files import relative_parts
from verify.artefact.keys import oms_hint
from verify.artefact.material import write_material
from verify.artefact.signing import Signer, Trusted
from verify.contract.manifest import PAYLOAD_TYPE, STATEMENT_TYPE, Subject
from verify.contract.schema import Schema, Sha256
from verify.errors import ArtefactError

PREDICATE_TYPE = "https://model_signing/signature/v1.0"
GIT_PATHS = (".git", ".gitattributes", ".github", ".gitignore")
"""What the `model_signing` tool leaves out unless told otherwise: no loader reads any of it."""
_NAME = "model signature"


class _Serialization(Schema):
    method: str
    hash_type: str
    allow_symlinks: bool
    ignore_paths: tuple[str, ...] = ()
    shard_size: int | None = None


class _Resource(Schema):
    name: str
    algorithm: Literal["sha256"]
    digest: Sha256


class _Predicate(Schema):
    model_config = ConfigDict(extra="ignore")  # OMS v1.0: verifiers ignore other fields of the predicate

    serialization: _Serialization
    resources: tuple[_Resource, ...] = Field(min_length=1)


class _Statement(Schema):
    type_: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    predicateType: Literal["https://model_signing/signature/v1.0"]  # noqa: N815  (in-toto's spelling)
    subject: Annotated[tuple[Subject, ...], Field(min_length=1, max_length=1)]
    predicate: _Predicate


@dataclass(frozen=True)
class SignedFolder:
    """What a verified bundle says: the digest of each file by its name, the paths left out, and who signed."""

    files: Mapping[str, str]
    ignored: tuple[str, ...]
    key_fingerprint: str
    bundle_sha256: str

    def difference(self, actual: Mapping[str, str]) -> str:
        """Compare with the digests of a folder's files; return what differs in words, "" if nothing does.

        A file that is not named is accepted only if the bundle leaves it out and it is one of git's, or the bundle.
        """
        missing = sorted(self.files.keys() - actual.keys())
        changed = sorted(name for name in self.files.keys() & actual.keys() if self.files[name] != actual[name])
        extra = sorted(name for name in actual.keys() - self.files.keys() if not self._left_out(name, actual[name]))
        parts = (("other content", changed), ("missing", missing), ("not signed", extra))
        return "; ".join(f"{what}: {_some(names)}" for what, names in parts if names)

    def _left_out(self, name: str, digest: str) -> bool:
        if name not in self.ignored and PurePosixPath(name).parts[0] not in self.ignored:
            return False
        return PurePosixPath(name).parts[0] in GIT_PATHS or digest == self.bundle_sha256


def sign(name: str, digests: Mapping[str, str], signer: Signer) -> bytes:
    """Return an OMS bundle over a folder called `name` whose files, by name, have these digests.

    Git's own files are left out, as the tool would. Raises UsageError unless the key is P-256.
    """
    names = sorted((n for n in digests if PurePosixPath(n).parts[0] not in GIT_PATHS), key=PurePosixPath)
    statement: dict[str, Any] = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": _root([digests[n] for n in names])}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": list(GIT_PATHS),
            },
            "resources": [{"name": n, "algorithm": "sha256", "digest": digests[n]} for n in names],
        },
    }
    material = write_material(oms_hint(signer.key.public_key()), signer.chain, always_chain=True)
    return pack(rfc8785.dumps(statement), PAYLOAD_TYPE, signer.key, material)


def read(data: bytes, trusted: Trusted, *, check_id: str, at: datetime | None = None) -> SignedFolder:
    """Verify an OMS bundle and return what it signs.

    Raises ArtefactError(check_id) for: anything malformed, a signature of nobody trusted, a root digest that is not
    that of the digests listed, files named twice or outside the folder, and what is not signed file by file with sha256
    (shards, other hashes); UsageError when nobody is trusted.
    """
    try:
        unpacked = unpack(
            data,
            trusted.keys,
            trusted.certificates,
            payload_type=PAYLOAD_TYPE,
            at=at,
            name=_NAME,
            hint=oms_hint,
        )
        statement = _statement(unpacked.payload)
        files = _files(statement)
    except ArtefactError as error:
        raise ArtefactError(
            check_id, error.message, expected=error.expected, found=error.found, remedy=error.remedy
        ) from error
    ignored = statement.predicate.serialization.ignore_paths
    return SignedFolder(files, ignored, unpacked.key_fingerprint, hashlib.sha256(data).hexdigest())


def _statement(payload: bytes) -> _Statement:
    value = strict_json(payload, check_id=MALFORMED, name=f"{_NAME}: payload")
    kind = value.get("predicateType") if isinstance(value, dict) else value
    if kind != PREDICATE_TYPE:
        message = f"{_NAME}: not an OMS v1.0 statement"
        raise ArtefactError(WRONG_TYPE, message, expected=PREDICATE_TYPE, found=shown(kind))
    _require_files_method(value)
    try:
        return _Statement.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        found = f"{'.'.join(shown(part) for part in first['loc'])}: {shown(first['msg'])}"
        raise ArtefactError(MALFORMED, f"{_NAME}: not a valid OMS statement", found=found) from error


def _require_files_method(value: object) -> None:
    """Refuse by name what the format allows and this reader does not: shards and other hashes."""
    predicate = value.get("predicate") if isinstance(value, dict) else None
    serialization = predicate.get("serialization") if isinstance(predicate, dict) else None
    if not isinstance(serialization, dict):
        return
    method, hashed = serialization.get("method"), serialization.get("hash_type")
    if (method, hashed) != ("files", "sha256"):
        raise ArtefactError(
            MALFORMED,
            f"{_NAME}: not signed file by file",
            expected="method 'files' and hash_type 'sha256'",
            found=f"method {shown(method)} and hash_type {shown(hashed)}",
            remedy="sign the folder again with: model_signing sign key",
        )


def _files(statement: _Statement) -> dict[str, str]:
    files: dict[str, str] = {}
    for resource in statement.predicate.resources:
        relative_parts(resource.name, check_id=MALFORMED)
        if resource.name in files:
            raise ArtefactError(MALFORMED, f"{_NAME}: a file is named twice", found=shown(resource.name))
        files[resource.name] = resource.digest
    root = _root(list(files.values()))
    stated = statement.subject[0].digest.sha256
    if root != stated:
        message = f"{_NAME}: the root digest is not that of the files"
        raise ArtefactError(MALFORMED, message, expected=root, found=stated)
    return files


def _root(digests: Sequence[str]) -> str:
    """Return OMS's root digest: the hash of the files' digests, in the order in which they are listed."""
    return hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in digests)).hexdigest()


def _some(names: Sequence[str], limit: int = 3) -> str:
    text = ", ".join(shown(name) for name in names[:limit])
    return text + (f" and {len(names) - limit} more" if len(names) > limit else "")
