"""The tables of a suite as Markdown."""

from mansu.bench.study.summary import Document
from mansu.bench.study.tables import intro, tables


def markdown(found: Document, *, notes: bool = True) -> str:
    """Return the tables, with `notes` on what their columns mean: a page of several suites needs `legend` but once."""
    parts = [f"### {found.suite}", intro(found)]
    for table in tables(found):
        lines = [f"| | {' | '.join(table.columns)} |", f"|---|{'---|' * len(table.columns)}"]
        lines += [f"| {row.title} | {' | '.join(row.cells)} |" for row in table.rows]
        parts += ["\n".join(lines), *([table.note] if notes and table.note else [])]
    return "\n\n".join(parts) + "\n"
