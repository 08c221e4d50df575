"""The map of where NF4 brings knowledge back: what is drawn and what is listed first."""

from dataclasses import replace
from xml.etree import ElementTree as ET

from benchmarks.recovery import Point, drawing, table

POINT = Point(
    model="tiny",
    parameters=1000,
    method="npo",
    rate=1e-5,
    steps=5,
    base=0.9,
    base_nf4=0.8,
    forget=0.2,
    forget_nf4=0.3,
    retain=0.6,
    base_retain=0.7,
    lead=-2.0,
    bin_width_over_update=100.0,
)


def test_only_runs_that_forgot_are_drawn() -> None:
    kept = replace(POINT, model="stubborn", forget=0.85)
    drawn = drawing([kept, POINT])
    assert ET.fromstring(drawn).tag.endswith("svg")
    assert "tiny, npo 1e-05, 5 steps: 100 bins, +0.100" in drawn
    assert "stubborn" not in drawn


def test_what_comes_back_most_is_listed_first_within_a_model() -> None:
    less, larger = replace(POINT, forget_nf4=0.21), replace(POINT, model="large", parameters=2000)
    rows = [line.split(" | ") for line in table([larger, less, POINT]).splitlines()[2:]]
    assert [(row[0].strip("| "), row[5]) for row in rows] == [
        ("tiny", "+0.100"),
        ("tiny", "+0.010"),
        ("large", "+0.100"),
    ]
