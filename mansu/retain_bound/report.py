"""The bounds for people: a table of 80 columns, and what its columns mean."""

import io
import textwrap
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

from mansu.retain_bound.document import RetainBound, SetBound

_WIDTH = 80


def shown(document: RetainBound) -> str:
    """Return the table, the constants and the outcome as text."""
    known = document.sets[:2]
    parts = [
        (
            "measured: mean KL(base ‖ edited) in nats; logits, Fisher, layers: its bounds by Theorems 1, 2 and 3, of "
            "the last two the mean of each position's bound / the bound from constants."
        ),
        *(f"{each.which}: {_constants(each)}" for each in known),
        _diagonals(document),
        _null_space(document),
        _transfer(document),
        f"No edit of layers below the final norm can exceed {document.ceiling:,.0f} nats: proved without a pass.",
        "Every measured change lies below its bounds, at every position and on the mean."
        if not document.exceeded
        else f"EXCEEDED: {document.exceeded} measured values lie above a bound that is a theorem. Report this.",
    ]
    return _table(document) + "".join(textwrap.fill(part, _WIDTH, break_on_hyphens=False) + "\n" for part in parts)


def _table(document: RetainBound) -> str:
    title = f"{document.edited}: {document.moved:,} values of {document.layers} layers"
    table = Table(title=title, box=box.SIMPLE, title_justify="left", pad_edge=False)
    for heading in ("", "n", "measured", "logits", "Fisher", "layers"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for each in document.sets:
        name = f"{each.which}, {'held out' if each.held_out else 'known'}"
        cells = (
            f"{each.measured:.3g}",
            f"{each.by_logits:.3g}",
            f"{each.each_fisher:.2g} / {each.by_fisher:.2g}",
            f"{each.each_layers:.2g} / {each.by_layers:.2g}",
        )
        table.add_row(name, f"{each.positions:,}", *cells)
    console = Console(width=_WIDTH, highlight=False, color_system=None, file=io.StringIO())
    console.print(table)
    output = console.file
    assert isinstance(output, io.StringIO)
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines()).strip("\n") + "\n\n"


def _constants(each: SetBound) -> str:
    gains = [block.gain for block in each.blocks]
    return (
        f"½ΔᵀFΔ {each.half_fisher:.3g}, ρ {each.remainder:.3g}, "
        f"φ̄ {each.growth_fisher:.3g} (Fisher) and {each.growth_layers:.3g} (layers), "
        f"largest rise b {each.rise:.3g}, gains {min(gains):.3g} to {max(gains):.3g} over {len(gains)} decoder layers, "
        f"largest KL {each.worst:.3g}."
    )


def _diagonals(document: RetainBound) -> str:
    each = "; ".join(
        f"{d.which} {d.half_diagonal:.3g} ± {d.standard_error:.1g}, κ = {d.coherence:.3g}" for d in document.diagonals
    )
    return (
        f"Diagonal ½ΣFᵢᵢΔᵢ²: {each}; proved of κ is κ ≤ {document.moved:,}. The engine's own estimate of this cost: "
        f"{document.engine_cost:.3g}."
    )


def _null_space(document: RetainBound) -> str:
    leak, bound = (sum(getattr(block, field) for block in document.leaks) for field in ("leak", "bound"))
    kept = sum(block.leak * block.kept_leak for block in document.leaks) / leak if leak else 0.0
    weights = [block.kept_weight for block in document.leaks]
    # one layer's enormous activations would decide a sum
    ratios = [block.isotropic / block.leak for block in document.leaks if block.leak]
    shrunk = f"; {median(ratios):.2g} times the leak if ΔW lay anyhow (median of decoder layers)" if ratios else ""
    return (
        f"Null space: {min(weights):.0%} to {max(weights):.0%} of ‖ΔW‖² lies in it; leak tr(ΔWMΔWᵀ) {leak:.3g} per "
        f"token, {kept:.0%} of it through the null space, at most {bound:.3g} by the split{shrunk}."
    )


def _transfer(document: RetainBound) -> str:
    found, measured = document.transfer, document.sets[2].measured
    if found.factor is None:
        first = f"New prompts: {found.calibrated} held-out prompts are too few for a factor at {found.level:.0%}."
    else:
        first = (
            f"New prompts: KL ≤ {found.factor:.3g} · ½(a + ρ)² with probability {found.level:.0%}, from "
            f"{found.calibrated} held-out prompts; of {found.tested} others {found.covered} lie below."
        )
    return (
        f"{first} Theorem 3 with the known prompts' gains predicts at most {found.layers_predicted:.3g} on the mean of "
        f"the held-out ones, where {measured:.3g} is measured."
    )
