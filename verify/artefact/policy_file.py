"""Policy files: TOML, read strictly. Whatever is not understood is a usage error: a policy must not fail open."""

import tomllib
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from verify.artefact.envelope import shown
from verify.artefact.keys import fingerprint, load_public
from verify.artefact.named import read_named
from verify.contract.policy import Policy
from verify.errors import UsageError

MAX_BYTES = 64 * 1024
MAX_LINE = 1000
"""Characters of a line: tomllib takes quadratic time for a key of many dots, and a key ends with its line."""
_ERROR = "ME230"
_REMEDY = "correct the policy file; docs/policy.md has a complete example"


def read_policy(path: Path) -> Policy:
    """Read a policy file. Raises UsageError ME230 naming the key, what was expected and what was found."""
    return parse_policy(read_named(path, what="policy", limit=MAX_BYTES, error_id=_ERROR), name=str(path))


def parse_policy(data: bytes, *, name: str) -> Policy:
    """Return the policy of a TOML document; `name` stands for it in errors, which are those of `read_policy`."""
    values = _toml(data, name)
    if "level" not in values:
        expected = '"static", "full" or "own-probes": every policy file states the level it requires'
        raise _refused(f"{name}: level", expected=expected, found="no such key")
    try:
        return Policy.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) if isinstance(part, int) else _key(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            expected = f"one of {', '.join(Policy.model_fields)}" if len(first["loc"]) == 1 else "no such key"
            raise _refused(f"{name}: unknown key {key}", expected=expected, found=key) from error
        found = "no such key" if first["type"] == "missing" else shown(_lists(first["input"]))
        raise _refused(f"{name}: {key}", expected=first["msg"], found=found) from error


def trusted(policy: Policy, given: Sequence[Path], *, folder: Path) -> list[ec.EllipticCurvePublicKey]:
    """Return the public keys to verify with: those of the policy if it lists any, otherwise those `given`.

    `folder` is what paths in the policy are relative to. Raises UsageError ME230 for a key given that the policy does
    not list, a file that holds another key than its fingerprint says, and a policy none of whose keys is there.
    """
    offered = {fingerprint(key): key for key in map(load_public, given)}
    if policy.trusted_keys is None:
        return list(offered.values())
    listed = [entry.fingerprint for entry in policy.trusted_keys]
    for name in offered:
        if name not in listed:
            remedy = "leave --key (and MANSU_KEY) out, or add the key to the policy: only its keys are trusted"
            raise _refused("a key that the policy does not trust", ", ".join(listed), name, remedy)
    for entry in policy.trusted_keys:
        if entry.path is not None:
            key = load_public(folder / entry.path)
            if fingerprint(key) != entry.fingerprint:
                message = f"trusted_keys: {shown(entry.path)} holds another key"
                raise _refused(message, entry.fingerprint, fingerprint(key))
            offered[entry.fingerprint] = key
    if not offered:
        remedy = "give the key with --key, or its path in the policy"
        raise _refused("none of the policy's trusted keys is there", ", ".join(listed), "no key", remedy)
    return list(offered.values())


def _toml(data: bytes, name: str) -> dict[str, object]:
    """Parse TOML of bounded size."""
    if len(data) > MAX_BYTES:
        raise _refused(f"{name}: too large", f"at most {MAX_BYTES} bytes", f"{len(data)} or more")
    try:
        text = data.decode("utf-8")
        longest = max(len(line) for line in text.split("\n"))
        if longest > MAX_LINE:
            raise _refused(f"{name}: a line is too long", f"at most {MAX_LINE} characters", f"{longest}")
        return {key: _tuples(value) for key, value in tomllib.loads(text).items()}
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, and integers of thousands of digits
        raise _refused(f"{name}: not TOML", "TOML 1.0 in UTF-8", shown(str(error), 200)) from error
    except RecursionError as error:
        raise _refused(f"{name}: not TOML", "a few levels of nesting", "thousands") from error


def _tuples(value: object) -> object:
    """Return TOML's arrays as tuples: the strict models take no list for one."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _lists(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _key(part: str) -> str:
    return part if part.isidentifier() and part.isascii() else shown(part)


def _refused(message: str, expected: str, found: str, remedy: str = _REMEDY) -> UsageError:
    return UsageError(message, expected=expected, found=found, remedy=remedy, error_id=_ERROR)
