"""An audit rendered: within 80 columns, nothing obeyed, the numbers of the audit and no others."""

import json
import re

import pytest
from rich.cells import cell_len

from reports.audit import MOST_TENSORS, render_audit, render_audit_json, render_audit_markdown
from verify.audit.tally import EDGES
from verify.contract.audit import (
    AdapterAudit,
    Audit,
    BehaviourRow,
    DeploymentAudit,
    ErasureAudit,
    Survival,
    TensorAudit,
    Total,
)
from verify.contract.result import CadRow, Histogram
from verify.contract.schema import Estimate

HOSTILE = "model.::error::x|<img src=x>`a`[b](c).weight\u202e"
COUNTS = (0, 0, 0, 5, 40, 300, 900, 1200, 800, 300, 100, 40, 20, 0, 3, 0, 0, 2)
assert len(COUNTS) == len(EDGES) + 1


def survival(scale: int = 1) -> Survival:
    return Survival(
        bin_over_update=163.4 * scale,
        below_half_bin=3705,
        whole_bin=2,
        crossed=27,
        identical=2900,
        collateral=4_321_000_000,
        undone=1 - 27 / 3710,
        energy=12.5,
        realised=0.98,
        half_bins=Histogram(edges=(0.0, *EDGES), counts=COUNTS),
    )


def tensor(name: str, norm: float, *, quantized: bool = True, changed: int = 3710) -> TensorAudit:
    return TensorAudit(
        name=name,
        dtype="BF16",
        shape=(64, 64),
        parameters=123_456_789_012,
        changed=changed,
        changed_share=changed / 123_456_789_012,
        norm=norm,
        median_update=1e-6 if changed else None,
        nf4=survival() if quantized else None,
    )


def estimate(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.01, high=value + 0.01, n=1500)


def made(**changes: object) -> Audit:
    row = BehaviourRow(
        axis="forgetting",
        row=f"capitals {HOSTILE}",
        unit="accuracy",
        chance=0.05,
        **{
            name: estimate(0.1 * place)
            for place, name in enumerate(
                ("base", "base_nf4", "edited", "edited_nf4", "difference", "difference_nf4", "gap_base", "gap")
            )
        },
    )
    prose = row.model_copy(update={"axis": "retention", "row": "prose", "unit": "perplexity", "chance": None})
    cad = CadRow(
        label="edited",
        role="edited",
        precision="nf4",
        from_layer=22,
        cad=estimate(0.85),
        rho=estimate(0.1),
        mass=0.2,
        relative_l1=0.9,
    )
    tensors = (
        tensor(HOSTILE, 9.0),
        tensor("norm.weight", 8.0, quantized=False),
        *(tensor(f"model.layers.{i}.mlp.down_proj.weight", 1 / (i + 1)) for i in range(30)),
        tensor("untouched", 0.0, changed=0),
    )
    audit = Audit(
        headline="NF4 will undo 99.3 % of this update; the forget set comes back from 0.08 to 0.19.",
        base="base ## x",
        edited=f"edited{HOSTILE}",
        adapter=AdapterAudit(layers=30, ranks=(4, 16), scalings=(0.5, 2.0)),
        deployment=DeploymentAudit(
            architecture="LlamaForCausalLM",
            block_size=64,
            cast_base="BF16",
            cast_edited="F16",
            skip_modules=(HOSTILE,),
            double_quant=True,
        ),
        total=Total(
            parameters=8_030_261_248,
            changed=3710,
            changed_share=3710 / 8_030_261_248,
            norm=1.25,
            quantized_tensors=31,
            quantized_parameters=7_000_000_000,
            quantized_changed=3710,
            quantized_norm=1.2,
            median_update=1e-6,
            tensor_range=(47.2, 828.4),
            nf4=survival(),
            other_tensors=1,
            other_changed_tensors=1,
            other_parameters=64,
            other_changed=64,
            other_norm=0.1,
            median_error=1 / 512,
        ),
        tensors=tensors,
        behaviour=(row, prose),
        erasure=ErasureAudit(
            pairs=60,
            retain_pairs=0,
            circuit_edges=3532,
            edges=70651,
            layers=30,
            late_from=22,
            split_half_floor=0.3,
            completeness_residual=0.03,
            rows=(cad,),
        ),
        undecided=(f"not this: {HOSTILE}",),
        notes=("a note that is long enough to be wrapped at the end of the line, as all such text has to be",),
    )
    return audit.model_copy(update=changes)


def test_the_sentence_comes_first() -> None:
    audit = made()
    assert render_audit(audit).startswith("NF4 will undo 99.3 % of this update; the forget set comes back from 0.08 to")
    assert render_audit_markdown(audit).splitlines()[2] == f"**{audit.headline}**"
    assert next(iter(set(json.loads(render_audit_json(audit))) & {"headline"})) == "headline"


@pytest.mark.parametrize("every", [False, True])
def test_text_fits_80_columns(every: bool) -> None:
    text = render_audit(made(), every=every)
    assert max(map(cell_len, text.splitlines())) <= 80
    assert text == "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
    rows = re.findall(r"^\S*down_proj\.weight", text, flags=re.MULTILINE)
    assert len(rows) == (30 if every else MOST_TENSORS - 2)
    assert ("and 12 more" in text) is not every


def test_the_figures() -> None:
    text = render_audit(made())
    for part in (
        "163x",
        "47.2x to 828x",
        "3,705 (99.9%)",
        "3,683 (99.3%)",
        "4,321,000,000",
        "stays",
        "did not change: 1",
    ):
        assert part in text
    histogram = text.split("log scale)")[1].split("By tensor")[0].splitlines()
    line = next(i for i, row in enumerate(histogram) if "1: half a bin" in row)
    assert histogram[line + 1].startswith("from 1 ")
    assert histogram[line - 1].startswith("from 1/2 ")
    assert sum(int(row.split()[3].replace(",", "")) for row in histogram if row.startswith(("from", "below"))) == sum(
        COUNTS
    )


def test_nothing_from_a_model_is_obeyed() -> None:
    for text in (render_audit(made()), render_audit_markdown(made()), render_audit_json(made())):
        assert "\u202e" not in text
        assert "\x1b" not in text
        assert "::error" not in text or text.startswith("{")
    markdown = render_audit_markdown(made())
    assert "<img" not in markdown
    assert "[b](c)" not in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert all(line.count("|") == 3 for line in rows if line.startswith("| crossed"))


def test_json_comes_back() -> None:
    audit = made()
    text = render_audit_json(audit)
    assert text.isascii()
    assert "##" not in text
    assert Audit.model_validate_json(text) == audit
    assert json.loads(text)["schema_"] == "urn:mansu:audit/v1"


def test_no_verdict_is_given() -> None:
    for text in (render_audit(made()), render_audit_markdown(made()), render_audit_json(made())):
        assert not re.search(r"\b(PASS|FAIL|UNDECIDED)\b", text)


def test_nothing_changed() -> None:
    empty = survival().model_copy(
        update={
            "bin_over_update": None,
            "undone": None,
            "energy": None,
            "realised": None,
            "half_bins": Histogram(edges=(0.0, *EDGES), counts=(0,) * len(COUNTS)),
        }
    )
    total = made().total.model_copy(
        update={"changed": 0, "quantized_changed": 0, "nf4": empty, "median_update": None, "tensor_range": None}
    )
    audit = made(
        total=total, tensors=(tensor("a", 0.0, changed=0),), behaviour=(), erasure=None, undecided=(), notes=()
    )
    text, markdown = render_audit(audit), render_audit_markdown(audit)
    assert "By tensor" not in text + markdown
    assert "half bins of NF4" not in text + markdown
