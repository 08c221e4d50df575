"""Write the test vectors of spec/vectors/ that are not there yet: `python tests/vectors/make.py`.

A vector that is there is never touched: it is what earlier versions were released with, and every later one must agree
with it. To correct a vector, add another and say in spec/vectors/README.md what was wrong with the old one.
"""

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(HERE.parent)]  # the tree that this file lies in, whatever is installed

import certificates as c  # noqa: E402  (found by the lines above)
import invalid  # noqa: E402
import payload  # noqa: E402
import producer  # noqa: E402
import valid  # noqa: E402
from case import Case, Given  # noqa: E402
from running import VECTOR_SCHEMA, Expected, ask  # noqa: E402

VECTORS = ROOT / "spec" / "vectors"
KINDS = {"valid": valid.CASES, "invalid": invalid.CASES, "invalid-payload": payload.CASES}


def missing(folder: Path = VECTORS) -> Iterator[tuple[str, Case]]:
    """Yield the kind and the case of every vector that is not there."""
    for kind, cases in KINDS.items():
        for case in cases.values():
            if not (folder / kind / case.name).exists():
                yield kind, case


def write(kind: str, case: Case, honest: c.Certificate, folder: Path) -> None:
    """Make one vector aside, see that it is refused by what it was made for, and move it to its place whole."""
    place = folder / kind / case.name
    if place.exists():
        raise FileExistsError(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    vector = place.with_name(f".new-{case.name}")  # as deep as its place, for the paths to the keys
    vector.mkdir()
    try:
        given = case.make(honest.copied_to(vector / "certificate")) or Given()
        expected = Expected(
            schema_=VECTOR_SCHEMA,
            about=case.about,
            since=version("mansu"),
            level="static",
            model="certificate/model",
            manifest="certificate/m.json",
            **given.__dict__,
            verdict="",
            exit_code=-1,
            failed=(),
            passed=(),
        )
        result = ask(vector, expected)
        by = {
            status: tuple(check.id for check in result.checks if check.status == status) for status in ("fail", "pass")
        }
        if result.verdict != case.verdict or not set(case.refused_by) <= set(by["fail"]):
            said = [(check.id, check.found) for check in result.checks if check.status == "fail"]
            raise ValueError(f"{kind}/{case.name}: {result.verdict}, wanted {case.verdict} {case.refused_by}: {said}")
        found = {"verdict": result.verdict, "exit_code": result.exit_code, "failed": by["fail"], "passed": by["pass"]}
        (vector / "expect.json").write_text(json.dumps(expected.model_dump() | found, indent=1) + "\n")
        vector.rename(place)
    finally:
        shutil.rmtree(vector, ignore_errors=True)


def tree_digest(vector: Path) -> str:
    """Return the digest of a vector: that of the list of its files with their digests, as `sha256sum` prints it."""
    names = sorted(f"./{path.relative_to(vector).as_posix()}" for path in vector.rglob("*") if path.is_file())
    lines = (f"{hashlib.sha256((vector / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def digests(folder: Path = VECTORS) -> dict[str, str]:
    """Return what spec/vectors/DIGESTS says: vector → digest."""
    path = folder / "DIGESTS"
    lines = path.read_text().splitlines() if path.exists() else []
    return {name: digest for digest, name in (line.split("  ") for line in lines)}


def write_keys(folder: Path) -> None:
    """Write the public keys that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for owner in ("producer", "stranger"):
        path = folder / f"{owner}.pem"
        if not path.exists():
            path.write_bytes(producer.public_pem(owner))


def honest_certificate(folder: Path) -> c.Certificate:
    """Make the certificate that every vector starts from."""
    base = producer.write_base(folder / "base", producer.weights())
    return producer.certify(base, folder / "out", producer.write_keys(folder))


def main(folder: Path = VECTORS) -> None:
    """Write what is missing."""
    write_keys(folder / "keys")
    with tempfile.TemporaryDirectory() as scratch:
        honest = honest_certificate(Path(scratch))
        wrong = []
        for kind, case in missing(folder):
            try:
                write(kind, case, honest, folder)
                with (folder / "DIGESTS").open("a") as stream:
                    stream.write(f"{tree_digest(folder / kind / case.name)}  {kind}/{case.name}\n")
                print(f"{kind}/{case.name}")
            except ValueError as error:
                wrong.append(str(error))
    if wrong:
        raise SystemExit("\n".join(["not written:", *wrong]))


if __name__ == "__main__":
    main()
