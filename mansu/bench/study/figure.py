"""The bench's figure: forgetting against what retention cost, every method, and the frontier of how much is changed."""

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager

import matplotlib as mpl
from matplotlib.figure import Figure

from mansu.bench.study.document import EditRecord
from mansu.bench.study.summary import Document, Line, Over
from mansu.solve.frontier import FrontierPoint

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h", "p", "d", "8")
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_LEAST = 1e-4  # a share of nothing, on a logarithmic axis


def style() -> AbstractContextManager[None]:
    """Put matplotlib's settings of every drawing of the benchmark in force."""
    return mpl.rc_context({"svg.hashsalt": "mansu", "svg.fonttype": "none", "font.size": 9})


def figure(found: Document) -> str:
    """Return the figure as SVG, titled and described: accuracy after NF4 by loss, perplexity and share changed.

    Filled markers are methods that meet all four axes with every seed. Everything is told by shape as well as by place.
    """
    with style():
        drawn = Figure(figsize=(9.0, 5.0), layout="constrained")
        kept, prose, size = drawn.subplots(1, 3, sharey=True)
        handles = []
        drawable = _drawable(found.lines)
        for marker, line in zip(markers(len(drawable)), drawable, strict=True):
            filled = "black" if meets_all(line) else "none"
            at = {
                "marker": marker,
                "linestyle": "none",
                "color": "black",
                "markerfacecolor": filled,
                "markersize": 7,
                "clip_on": False,  # a marker on an axis is seen whole
            }
            forget = _value(line, "forget_nf4")
            handles += kept.plot([100 * _worst_loss(line)], [forget], label=line.title, **at)
            prose.plot([100 * _value(line, "perplexity")], [forget], **at)
            size.plot([100 * max(_value(line, "share_changed"), _LEAST)], [forget], **at)
        kept.axvline(100 * found.criteria.loss, color="0.6", linewidth=0.8, linestyle="--")
        prose.axvline(100 * found.criteria.rise, color="0.6", linewidth=0.8, linestyle="--")
        kept.set_xlabel("most lost by a row of facts,\npercentage points")
        kept.set_ylabel("accuracy on what was to be forgotten, after NF4")
        prose.set_xlabel("rise of perplexity on prose, percent")
        for panel in (kept, prose):
            panel.set_xscale("symlog", linthresh=2)
        kept.set_ylim(bottom=0)
        size.set_xlabel("parameters changed, percent")
        size.set_xscale("log")
        drawn.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
        return finished(drawn, f"{found.suite}: forgetting, retention and size of the edit", _told(found))


def markers(count: int) -> list[str]:
    """Return that many different markers: shapes, and numbers beyond those."""
    return [*_MARKERS, *(f"${number}$" for number in range(len(_MARKERS) + 1, count + 1))][:count]


def frontier(found: Document) -> str | None:
    """Return mansu's frontier as SVG: forgetting and retention by the share changed; None where none was traced."""
    traced = [cell for cell in found.cells if cell.edit is not None and _trace(cell.edit)]
    if not traced:
        return None
    told = []
    with style():
        drawn = Figure(figsize=(9.0, 3.6), layout="constrained")
        forgotten, kept = drawn.subplots(1, 2, sharex=True)
        for marker, cell in zip(markers(len(traced)), traced, strict=True):
            assert cell.edit is not None
            points = _trace(cell.edit)
            shares = [100 * point.share for point in points]
            name = f"{cell.edit.title}, seed {cell.seed}"
            line = {"marker": marker, "color": "black", "markersize": 5}
            forgotten.plot(shares, [point.forget for point in points], "-", label=f"{name}, full", **line)
            forgotten.plot(shares, [point.forget_nf4 for point in points], "--", label=f"{name}, NF4", **line)
            kept.plot(shares, [point.retain_nats for point in points], "-", label=name, **line)
            told.append(name + ": " + ", ".join(f"{p.share:.4%} changed, {p.forget:.3f} left" for p in points))
        forgotten.set_ylabel("forget accuracy, validation wordings")
        kept.set_ylabel("divergence from the base, nats,\non retain data trained on")
        for panel in (forgotten, kept):
            panel.set_xlabel("parameters changed, percent")
            panel.set_ylim(bottom=0)
            panel.legend(frameon=False)
        return finished(drawn, f"{found.suite}: the frontier", "; ".join(told))


def finished(drawn: Figure, title: str, description: str) -> str:
    """Return a drawing as SVG, the same bytes each time; to be called while its style is in force."""
    out = io.StringIO()
    drawn.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return accessible(out.getvalue(), title, description)


def _trace(edit: EditRecord) -> list[FrontierPoint]:
    """Return the finished edit and what is left of it as moves return, most changed first; [] if it was not traced."""
    points = [point for point in edit.frontier if point.phase == "trace"]
    finished = [point for point in edit.frontier if point.kept and point.phase != "trace"][-1:]
    return sorted([*finished, *points], key=lambda point: -point.share) if points else []


def accessible(svg: str, title: str, description: str) -> str:
    """Return an SVG's element alone, with a title and a description that a screen reader reads out."""
    element = _METADATA.sub("", svg[svg.index("<svg") :])
    end = element.index(">")
    named = f"<title>{_escaped(title)}</title><desc>{_escaped(description)}</desc>"
    return f'{element[:end]} role="img">{named}{element[end + 1 :]}'


def meets_all(line: Line) -> bool:
    """Whether a method meets all four axes with every seed that was measured."""
    return line.measured > 0 and len(line.met) == len(("F", "R", "Q", "E")) and min(line.met.values()) == line.measured


def _drawable(lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if line.numbers.get("forget_nf4") is not None]


def _worst_loss(line: Line) -> float:
    lost = [line.numbers.get(name) for name in ("neighbours", "other_facts")]
    return max((-each.value for each in lost if each is not None), default=0.0)


def _value(line: Line, name: str) -> float:
    number: Over | None = line.numbers.get(name)
    return float("nan") if number is None else number.value


def _told(found: Document) -> str:
    return "; ".join(
        f"{line.title}: {_value(line, 'forget_nf4'):.3f} after NF4, loses {100 * _worst_loss(line):.1f} points, "
        f"perplexity {100 * _value(line, 'perplexity'):+.1f} %, "
        f"{100 * _value(line, 'share_changed'):.3f} % changed"
        for line in _drawable(found.lines)
    )


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
