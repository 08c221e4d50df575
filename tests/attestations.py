"""Signed reports for the tests: made once by the command itself, and signed again by whoever may cheat."""

import base64
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import certificates as c
import pytest
import rfc8785

from verify.artefact import load_private
from verify.artefact.bundle import pack
from verify.cli import main
from verify.contract.manifest import PAYLOAD_TYPE


@dataclass(frozen=True)
class Signed:
    """A folder of reports on one certificate, and the verifier's keys."""

    folder: Path
    certificate: c.Certificate
    verifier: c.Keys

    @property
    def report(self) -> Path:
        return self.folder / "result.intoto.json"

    @property
    def svr(self) -> Path:
        return self.folder / "result.svr.intoto.json"

    @property
    def result(self) -> Path:
        return self.folder / "result.json"

    @property
    def html(self) -> Path:
        return self.folder / "report.html"

    def copied_to(self, folder: Path) -> "Signed":
        shutil.copytree(self.folder, folder)
        return Signed(folder, self.certificate, self.verifier)


def words(signed: Signed, *extra: object) -> list[str]:
    """Return the arguments of a signed static verification, with an HTML report."""
    made = signed.certificate
    arguments = [made.model, "--manifest", made.manifest, "--checks", "static", "--sign-with", signed.verifier.private]
    arguments += ["--report", f"json={signed.result}", "--report", f"html={signed.html}", *extra]
    return [str(word) for word in arguments]


def sign(signed: Signed, *extra: object) -> object:
    """Verify and sign through the command; return its exit code."""
    signed.folder.mkdir(exist_ok=True)
    with pytest.raises(SystemExit) as exited:
        main(words(signed, *extra))
    return exited.value.code


def payload_of(path: Path) -> Any:
    return json.loads(base64.b64decode(json.loads(path.read_bytes())["dsseEnvelope"]["payload"]))


def forge(path: Path, keys: c.Keys, change: Callable[[Any], object], *, payload_type: str = PAYLOAD_TYPE) -> None:
    """Change a signed statement and sign it with the given key: what whoever holds that key can do."""
    statement = payload_of(path)
    change(statement)
    path.write_bytes(pack(rfc8785.dumps(statement), payload_type, load_private(keys.private)))


def bind(signed: Signed, path: Path, content: bytes) -> None:
    """Write other content into a bound file and sign its digest: only the verifier can do that."""
    import hashlib

    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()

    def change(statement: Any) -> None:
        for file in (statement["predicate"]["result"], *statement["predicate"]["reports"]):
            if file["name"] == path.name:
                file["digest"]["sha256"] = digest

    forge(signed.report, signed.verifier, change)
