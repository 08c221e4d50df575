"""T1 to T12: what the five rows rest on, proved or refuted for the float32 codebook and the quantizer that runs.

The statements in words are in `verify.contract.theorems`; docs/theorems.md has the sketches. `moves` decides T1 to T5
and T12, `drift` T6, T9 and T11, `layout` T7 and T8, `float32` T10. Importing this package imports z3.
"""

from verify.nf4.proofs.catalog import PROVERS, prove, prove_all
from verify.nf4.proofs.logic import Codebook

__all__ = ["PROVERS", "Codebook", "prove", "prove_all"]
