"""What an attack works on: one certificate of its own, with the tools of a dishonest producer and of a thief."""

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import certificates as c
import rfc8785

from verify.artefact import load_private, read_unverified
from verify.artefact.bundle import pack
from verify.contract.manifest import PAYLOAD_TYPE

Json = dict[str, Any]
Edit = Callable[[Any], object]
"""Spoils a JSON value in place."""


@dataclass
class Scene:
    """A certificate to spoil, and how the command is then called.

    `options` are more words of the command; `key` and `model` replace what would be given; `during` runs beside it;
    `marker` is a file that any code of the artefact would create.
    """

    made: c.Certificate
    folder: Path
    options: list[str] = field(default_factory=list)
    key: Path | None = None
    keyless: bool = False
    model: Path | None = None
    during: AbstractContextManager[object] = field(default_factory=nullcontext)

    @property
    def marker(self) -> Path:
        return self.folder / "code-was-run"

    @property
    def out(self) -> Path:
        return self.made.out

    def path(self, name: str) -> Path:
        """Return where a file of the certificate lies, its folder made."""
        path = self.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, name: str, data: bytes | str) -> None:
        self.path(name).write_bytes(data.encode() if isinstance(data, str) else data)

    def read(self, name: str) -> bytes:
        return self.path(name).read_bytes()

    def statement(self) -> Json:
        statement = read_unverified(self.made.manifest.read_bytes())
        return statement.model_dump(mode="json", by_alias=True)

    def sign_payload(self, payload: bytes, payload_type: str = PAYLOAD_TYPE, key: Path | None = None) -> None:
        """Sign any bytes as the manifest's payload."""
        private = load_private(self.made.keys.private if key is None else key)
        self.made.manifest.write_bytes(pack(payload, payload_type, private))

    def sign_as(self, edit: Edit, key: Path | None = None) -> None:
        """Sign the statement, edited in any way."""
        data = self.statement()
        edit(data)
        self.sign_payload(rfc8785.dumps(data), key=key)

    def resign(self, edit: Edit = lambda _: None, *, base: Mapping[str, str] | None = None) -> None:
        """Sign what lies on disk, whatever it is: subjects, ledger digest and the base's other files fit.

        `base` gives digests of base files; that of the weights otherwise stays as it was.
        """
        digests = dict(self._digests())
        data = self.statement()
        known = {file["name"]: file["sha256"] for file in data["predicate"]["base"]["files"]}
        files = {
            name.removeprefix("model/"): digest
            for name, digest in digests.items()
            if name.startswith("model/") and not name.endswith(".safetensors")
        }
        files |= {name: digest for name, digest in known.items() if name.endswith(".safetensors")}
        files |= base or {}
        data["subject"] = [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(digests.items())]
        data["predicate"]["base"]["files"] = [{"name": n, "sha256": d} for n, d in sorted(files.items())]
        data["predicate"]["mask"]["ledger_sha256"] = digests.get("ledger.safetensors", c.ZERO)
        edit(data)
        self.sign_payload(rfc8785.dumps(data))

    def edit_json(self, name: str, edit: Edit) -> None:
        """Change a JSON file of the certificate (made if missing) and sign it again."""
        path = self.path(name)
        value = json.loads(path.read_text()) if path.exists() else {}
        edit(value)
        path.write_text(json.dumps(value))
        self.resign()

    def _digests(self) -> Iterator[tuple[str, str]]:
        for folder, _, names in os.walk(self.out):
            for name in names:
                path = Path(folder) / name
                if path != self.made.manifest and path.is_file() and not path.is_symlink():
                    yield path.relative_to(self.out).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()


def header_of(data: bytes) -> tuple[Json, bytes]:
    """Return the header and the data section of a safetensors file."""
    (length,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def tensors(header: Json | str | bytes, data: bytes = b"") -> bytes:
    """Return a safetensors file with any header, however wrong."""
    text = json.dumps(header, separators=(",", ":")) if isinstance(header, dict) else header
    text = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(text)) + text + data
