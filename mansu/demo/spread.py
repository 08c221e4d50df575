"""The spread over seeds: what several certificates of the same request claim, side by side."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from verify.artefact import read_regular, read_unverified
from verify.contract.manifest import Predicate


def spread(certificates: Mapping[str, Path]) -> str:
    """Return a table of each certificate's numbers (name → folder), with their median and range, as text.

    The numbers are the manifests' claims: measured on held-out probes by the verifier's code, on the sealed files.
    """
    predicates = [read_unverified(read_regular("m.json", root=folder)).predicate for folder in certificates.values()]
    table = Table(title=f"{len(predicates)} seeds, on held-out probes")
    for column in ("", *certificates, "median", "range"):
        table.add_column(column, justify="left" if not column else "right")
    for name, values in _rows(predicates).items():
        form = ".3%" if name == "parameters changed" else ".3f"
        cells = [f"{value:{form}}" for value in values]
        table.add_row(name, *cells, f"{median(values):{form}}", f"{min(values):{form}} to {max(values):{form}}")
    console = Console(width=60 + 14 * len(predicates), stderr=True)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def _rows(predicates: Sequence[Predicate]) -> dict[str, list[float]]:
    """Return the numbers that every certificate has, by name, in the order of the first."""
    rows: dict[str, list[float]] = defaultdict(list)
    for predicate in predicates:
        for claim in predicate.claims:
            name = "PTQ gap: " + claim.row if claim.axis == "ptq_gap" else f"{claim.row} ({claim.precision})"
            rows[name].append(claim.estimate.value)
        rows["parameters changed"].append(predicate.mask.masked / predicate.mask.parameters)
    return {name: values for name, values in rows.items() if len(values) == len(predicates)}
