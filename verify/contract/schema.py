"""What every model of the contract shares: frozen, finite numbers, no unknown fields."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A lower-case hexadecimal SHA-256 digest."""


class Schema(BaseModel):
    """Base of the contract's models. Unknown fields are refused: ignoring one could turn a refusal into a pass."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class FileDigest(Schema):
    """A file by its path relative to the certificate's folder (`/` separated) and its sha256."""

    name: str
    sha256: Sha256


class Estimate(Schema):
    """A measured value with its 95 % interval and the number of items it rests on."""

    value: float
    low: float
    high: float
    n: int
