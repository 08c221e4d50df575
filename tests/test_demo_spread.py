"""The spread over seeds is that of the manifests."""

from pathlib import Path

import certificates as c

from mansu.demo.spread import spread
from verify.contract.manifest import Claim
from verify.contract.schema import Estimate


def claim(value: float, axis: str = "forgetting", row: str = "capitals", precision: str = "full") -> Claim:
    estimate = Estimate(value=value, low=value, high=value, n=100)
    return Claim(axis=axis, row=row, precision=precision, estimate=estimate)  # type: ignore[arg-type]


def test_the_table_shows_each_seed_the_median_and_the_range(tiny_certificate: c.Certificate, tmp_path: Path) -> None:
    folders = {}
    for seed, value in enumerate((0.04, 0.02, 0.09)):
        made = tiny_certificate.copied_to(tmp_path / str(seed))
        claims = [claim(value), claim(-value, "ptq_gap", precision="difference")]
        claims += [claim(0.5, row="only here")] if seed == 1 else []
        c.sign(made, c.digests_of(made.base), claims=claims)
        folders[f"seed {seed}"] = made.out
    lines = spread(folders).splitlines()
    row = next(line for line in lines if "capitals (full)" in line)
    assert [cell.strip() for cell in row.split("│")[2:-1]] == ["0.040", "0.020", "0.090", "0.040", "0.020 to 0.090"]
    assert any("PTQ gap: capitals" in line and "-0.090 to -0.020" in line for line in lines)
    assert any("parameters changed" in line for line in lines)
    assert not any("only here" in line for line in lines)
