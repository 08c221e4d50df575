"""What a cell was made with: the versions of the packages that numbers depend on, and the code's own commit."""

import importlib.metadata
import subprocess
from pathlib import Path

import mansu

_REPORTED = ("torch", "transformers", "bitsandbytes", "numpy")
_CHECKOUT = Path(mansu.__file__).parents[1]


def versions() -> dict[str, str]:
    """Return package → version; `commit` too where mansu runs from a git checkout, with `-dirty` if it was changed."""
    found = {"mansu": mansu.__version__, **{name: _version(name) for name in _REPORTED}}
    commit = _commit(_CHECKOUT)
    return found | ({"commit": commit} if commit else {})


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # nothing here needs all of them
        return "not installed"


def _commit(checkout: Path) -> str | None:
    """Return the commit that a folder is a checkout of, or None where it is none, or git is not there."""
    if not (checkout / ".git").exists():  # a folder inside of someone else's checkout is none
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  (no shell, our words)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
