"""Files that the user names are read with a bound, also where they have no end."""

from pathlib import Path

import pytest

from verify.artefact.anchors import AnchorFiles
from verify.artefact.certificates import load_roots
from verify.artefact.keys import load_public
from verify.artefact.named import read_named
from verify.artefact.policy_file import read_policy
from verify.errors import UsageError


def test_a_file_of_the_largest_size(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"12345678")
    assert read_named(path, what="key", limit=8) == b"12345678"
    (tmp_path / "link").symlink_to(path)
    assert read_named(tmp_path / "link", what="key", limit=8) == b"12345678"
    with pytest.raises(UsageError, match="too large for a key"):
        read_named(path, what="key", limit=7)


@pytest.mark.parametrize("path", ["/dev/zero", ".", "no-such-file"])
def test_no_reader_follows_a_file_without_end(path: str) -> None:
    named = Path(path)
    for read, what in (
        (load_public, "key"),
        (lambda root: load_roots([root]), "certificate"),
        (read_policy, "policy"),
        (lambda bundle: AnchorFiles(base_signature=bundle, base_key=bundle).load(), "signature"),
    ):
        with pytest.raises(UsageError, match=rf"too large for a {what}|cannot read the {what}") as caught:
            read(named)
        assert caught.value.id == ("ME230" if what == "policy" else "ME200")
