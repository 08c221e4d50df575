"""Certificates that supersede each other: numbered, so that a policy refuses the earlier one."""

import hashlib
from pathlib import Path

import certificates as c
import pytest

from mansu.seal.succession import FIRST, Succession, superseding
from verify.artefact.bundle import unverified_payload
from verify.errors import UsageError


def test_nothing_is_superseded_by_the_first() -> None:
    assert superseding(None) == FIRST == Succession(1, None)


def test_the_next_names_the_one_before_it(tmp_path: Path, tiny_base: Path, tiny_keys: c.Keys) -> None:
    manifest = c.make(tiny_base, tmp_path, tiny_keys, c.valid_edits(tiny_base)).out / "m.json"
    payload = unverified_payload(manifest.read_bytes())
    assert superseding(manifest) == Succession(2, hashlib.sha256(payload).hexdigest())


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"mediaType": "x"}', b" " * (16 * 1024 * 1024 + 1)])
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "m.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match="to supersede") as refused:
        superseding(path)
    assert refused.value.id == "ME221"
    assert str(path) in refused.value.diagnostic()
