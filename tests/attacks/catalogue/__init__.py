"""The attacks, by threat. Importing this package fills `registry.ATTACKS`."""

from catalogue import (  # noqa: F401  (they register themselves)
    base,
    configuration,
    envelope,
    files,
    index,
    ledger,
    mask,
    metrics,
    names,
    races,
    signatures,
    weights,
)
