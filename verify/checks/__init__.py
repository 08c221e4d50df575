"""The checks of `mansu-verify`: small functions of evidence, each with a stable id (see `catalog.CATALOGUE`).

`integrity` MV1xx: bytes, signature, ledger, base. `permanence` MV2xx: the five rows for every masked value.
`behaviour` MV3xx: forgetting, retention, PTQ gap and claims. `erasure` MV4xx: CAD with its controls.
`evidence` holds what was read, `verdict` says what it comes to.
"""
