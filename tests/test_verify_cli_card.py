"""`mansu card`: the section goes into a card in place, and every other byte stays."""

import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import certificates as c
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_reports_render import GOLDEN, card, load
from test_verify_cli import Call, call  # noqa: F401  (a fixture)

from reports import render_card
from reports.card import END, START
from verify.cli.card import card as written
from verify.cli.card import placed
from verify.errors import UsageError

SECTION = f"{START}\nnew\n{END}\n".encode()
RESULT = GOLDEN / "report_pass_full.json"
other_bytes = st.binary(max_size=60).filter(lambda text: b"<!--" not in text)
lines = st.sampled_from([b"", b"# A card\n", b"---\nlicense: mit\n---\n\n# A\n", b"a\r\nb\r\n", b"\xff\xfe\n"])


@given(st.one_of(other_bytes, lines))
def test_a_card_without_a_section_gets_one_at_its_end(readme: bytes) -> None:
    once = placed(readme, SECTION)
    assert once.startswith(readme)
    assert placed(once, SECTION) == once
    other = SECTION.replace(b"new", b"newer")
    assert placed(placed(once, other), SECTION) == once


@given(st.one_of(other_bytes.map(lambda text: text + b"\n"), lines), st.one_of(other_bytes, lines))
def test_what_lies_around_a_section_stays(before: bytes, after: bytes) -> None:
    new = placed(before + f"{START}\nold\n\n# old\n{END}\n".encode() + after, SECTION)
    assert new.startswith(before)
    assert new.endswith(after)
    middle = new[len(before) : len(new) - len(after)]
    assert middle.replace(b"\r\n", b"\n") == SECTION


@pytest.mark.parametrize(
    "readme",
    [
        f"{START}\n",
        f"{END}\n",
        f"{END}\n{START}\n",
        f"{START}\n{START}\n{END}\n",
        f"{START}\n{END}\n{START}\n{END}\n",
    ],
)
def test_markers_that_are_no_pair_are_refused_and_nothing_is_written(readme: str, tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(readme)
    with pytest.raises(UsageError) as caught:
        written(RESULT, path)
    assert caught.value.id == "ME311"
    assert path.read_text() == readme


def test_the_card_is_written_in_place_and_only_once(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    before = b"---\nlicense: apache-2.0\n---\r\n# Title \xff\r\n"
    path.write_bytes(before)
    path.chmod(0o640)
    section = written(RESULT, path)
    data = path.read_bytes()
    assert data == before + b"\r\n" + section.encode().replace(b"\n", b"\r\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert hashlib.sha256(RESULT.read_bytes()).hexdigest() in section
    inode = path.stat().st_ino
    assert written(RESULT, path) == section
    assert (path.stat().st_ino, path.read_bytes()) == (inode, data)
    assert written(GOLDEN / "report_fail_static.json", path).encode() in path.read_bytes().replace(b"\r\n", b"\n")
    assert b"PASS" not in path.read_bytes()
    assert [entry.name for entry in tmp_path.iterdir()] == ["README.md"]


def test_a_card_that_is_not_there_is_made_and_a_link_is_refused(tmp_path: Path) -> None:
    section = written(RESULT, tmp_path / "README.md")
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == section
    (tmp_path / "link.md").symlink_to(tmp_path / "README.md")
    os.mkfifo(tmp_path / "pipe.md")
    for name in ("link.md", "pipe.md", "."):
        with pytest.raises(UsageError) as caught:
            written(RESULT, tmp_path / name)
        assert caught.value.id == "ME311"
    with pytest.raises(UsageError, match="cannot write"):
        written(RESULT, tmp_path / "none" / "README.md")


def certified(certificate: c.Certificate, call: Call) -> Path:  # noqa: F811
    """Check the certificate, and return where its result was written."""
    result = certificate.out / "report" / "result.json"
    result.parent.mkdir()
    options = ("--key", certificate.keys.public, "--checks", "static", "-q")
    reports = ("--report", f"json={result}", "--report", f"card={result.with_name('card.md')}")
    assert call(certificate.model, "--manifest", certificate.manifest, *options, *reports).code == 0
    return result


def test_a_certificates_folder_is_known_by_its_manifest(certificate: c.Certificate, call: Call) -> None:  # noqa: F811
    with pytest.raises(UsageError, match="holds no result"):
        written(certificate.out, None)
    result = certified(certificate, call)
    readme = certificate.out / "README.md"
    section = written(certificate.out, readme)
    assert section == written(result, None) == result.with_name("card.md").read_text(encoding="utf-8")
    assert json.loads(result.read_text())["provenance"]["forget_sha256"] == c.ZERO
    assert c.ZERO in section
    certified_again = call(certificate.model, "--manifest", certificate.manifest, "--checks", "static", "-q")
    assert certified_again.code == 3, "the card breaks nothing: only the key was left out"
    for inside in (certificate.out / "model" / "README.md", certificate.out / "model" / "config.json"):
        with pytest.raises(UsageError) as caught:
            written(certificate.out, inside)
        assert caught.value.id == "ME312"
    assert not (certificate.out / "model" / "README.md").exists()
    certificate.manifest.write_bytes(certificate.manifest.read_bytes() + b" ")
    with pytest.raises(UsageError) as caught:
        written(certificate.out, None)
    assert caught.value.id == "ME313"


def test_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mansu.cli", "card"]
    done = subprocess.run([*command, RESULT], capture_output=True, text=True, check=True)
    assert done.stdout == render_card(load("pass_full"), hashlib.sha256(RESULT.read_bytes()).hexdigest())
    assert done.stdout == card(load("pass_full"))
    again = subprocess.run([*command, tmp_path / "none.json"], capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout) == (2, "")
    assert "ME310" in again.stderr
