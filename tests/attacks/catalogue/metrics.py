"""Claims that are no numbers, or two at once. That true numbers come back is for model runs to check (MV308)."""

from functools import partial

import rfc8785
from registry import attack
from scene import Scene

CLAIM = {
    "axis": "forgetting",
    "row": "capitals, held-out wordings",
    "precision": "full",
    "estimate": {"value": 0.25, "low": 0.125, "high": 0.5, "n": 40},
}


def claimed(scene: Scene, *claims: dict) -> None:
    scene.sign_as(lambda data: data["predicate"].update(claims=list(claims)))


def changed(**fields: object) -> dict:
    return CLAIM | fields


for _what, _claims in (
    ("twice, with two values", [CLAIM, changed(estimate={"value": 0.5, "low": 0.5, "high": 0.5, "n": 40})]),
    ("of an axis of its own", [changed(axis="safety")]),
    ("with a field of its own", [changed(waived=True)]),
    ("as text", [changed(estimate=CLAIM["estimate"] | {"value": "0.25"})]),
    ("of half an item", [changed(estimate=CLAIM["estimate"] | {"n": 40.5})]),
    ("without an interval", [changed(estimate={"value": 0.25, "n": 40})]),
):
    attack("MV102", name=f"a number claimed {_what}")(lambda scene, claims=tuple(_claims): claimed(scene, *claims))


def spelt(scene: Scene, number: bytes) -> None:
    statement = scene.statement()
    statement["predicate"]["claims"] = [CLAIM]
    payload = rfc8785.dumps(statement)
    assert b'"value":0.25' in payload
    scene.sign_payload(payload.replace(b'"value":0.25', b'"value":' + number))


for _number in (b"NaN", b"-Infinity", b"1e999", b"2.5e-1", b"0x1"):
    attack("MV102", name=f"a claim of {_number.decode()}")(partial(spelt, number=_number))
