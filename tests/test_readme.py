"""What the README promises of the commands is what they say of themselves."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def shown_help(*words: str) -> str:
    run = subprocess.run([sys.executable, "-m", *words, "--help"], capture_output=True, text=True, check=True)
    return run.stdout


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("mansu keygen", ("mansu.cli", "keygen")),
        ("mansu unlearn", ("mansu.cli", "unlearn")),
        ("mansu tradeoff", ("mansu.cli", "tradeoff")),
        ("mansu-verify", ("verify.cli",)),
        ("mansu-audit", ("verify.cli.auditing",)),
    ],
)
def test_every_option_in_the_readme_is_in_the_help(command: str, words: tuple[str, ...]) -> None:
    lines = [line for line in README.splitlines() if line.strip(" `").startswith(command + " ")]
    options = {option for line in lines for option in re.findall(r"--[a-z-]+", line)}
    assert options
    offered = shown_help(*words)
    assert options <= set(re.findall(r"--[a-z-]+", offered))


def test_the_two_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert f"\n{target}: " in makefile
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_pictures_are_there() -> None:
    report, circuit = re.findall(r"!\[[^]]*\]\(([^)]+)\)", README)
    assert (ROOT / report).read_bytes().startswith(b"\x89PNG")
    assert ET.parse(ROOT / circuit).getroot().tag == "{http://www.w3.org/2000/svg}svg"
