"""The floors of the house, by reading every import: a file imports only from floors below its own."""

import ast
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS: dict[str, int] = {
    "verify.errors": 0,
    "verify.contract.theorems": 0,  # words alone: the proofs state them, the reports cite them
    "verify.nf4": 1,
    "verify.circuits": 1,
    "verify.contract": 1,
    "verify.artefact": 2,
    "verify.behaviour": 2,
    "verify.checks": 3,
    "verify.check": 4,
    "verify.reading": 4,
    "verify.attestation": 4,
    "verify.audit": 4,
    "verify.cli": 5,
}
"""Part of the verifier → floor."""
STEPS: dict[str, int] = {
    "mansu.config": 0,
    "mansu.request": 0,
    "mansu.data": 1,
    "mansu.circuit": 2,
    "mansu.retain": 2,
    "mansu.floor": 2,
    "mansu.mask": 3,
    "mansu.solve": 4,
    "mansu.circuit_edit": 5,
    "mansu.seal": 5,
    "mansu.unlearn": 6,
}
"""Step of the engine's pipeline → its place: none knows of a later one, nor of one beside it."""
DRAWING = "mansu.circuit.report"
"""The one module of the engine that uses the reports: its picture is the certificate's, drawn by the same code from the
same data (`verify.contract.circuit`). No circle can come of it, since reports know nothing but the contract."""
SOURCES = sorted(path for part in ("verify", "reports", "mansu") for path in (ROOT / part).rglob("*.py"))


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """Return the full names of everything a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a name comes from"
            assert node.module is not None
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def part_of(name: str, floors: Mapping[str, int] = FLOORS) -> str | None:
    """Return the part that a dotted name lies in, or None outside of all."""
    return next((part for part in floors if name == part or name.startswith(f"{part}.")), None)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_there_is_something_to_read() -> None:
    modules = {module_of(path) for path in SOURCES}
    assert {"verify.cli.command", "reports.render", "mansu.seal.sealing"} <= modules
    assert all(part_of(module) for module in modules if within(module, "verify") and module != "verify")


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_floors(path: Path) -> None:
    module = module_of(path)
    for name in imports(path):
        if within(module, "verify"):
            assert not within(name, "mansu"), f"{module} imports the engine: {name}"
            assert within(module, "verify.cli") or not within(name, "reports"), f"{module} imports {name}"
            part, other = part_of(module), part_of(name)
            if part is not None and other is not None and part != other:
                assert FLOORS[other] < FLOORS[part], f"{module} imports {name} from a floor not below its own"
        if within(module, "mansu"):
            assert module == DRAWING or not within(name, "reports"), f"{module} imports {name}"
            step, other = part_of(module, STEPS), part_of(name, STEPS)
            if step is not None and other is not None and step != other:
                assert STEPS[other] < STEPS[step], f"{module} imports {name} from a step that is not before its own"
        if within(module, "reports"):
            assert not within(name, "mansu"), f"{module} imports {name}"
            assert not within(name, "verify") or within(name, "verify.contract"), f"{module} imports {name}"


def test_no_circles_within_a_part() -> None:
    modules = {module_of(path): path for path in SOURCES if within(module_of(path), "verify")}
    edges = {
        module: {
            target
            for name in imports(path)
            for target in [name if name in modules else name.rpartition(".")[0]]
            if target in modules and target != module and part_of(target) == part_of(module)
        }
        for module, path in modules.items()
    }
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " → ".join((*above, module))
        if module not in done:
            for target in sorted(edges[module]):
                visit(target, (*above, module))
            done.add(module)

    for module in modules:
        visit(module, ())
