"""A command that ended without a result, as data: what every format says instead."""

from typing import Literal

from verify.contract.schema import Schema

FAILURE_SCHEMA = "urn:mansu:error/v1"


class Failure(Schema):
    """An error, by its stable id (ME..., or the MV... of the check that refused an artefact). There is no verdict."""

    schema_: Literal["urn:mansu:error/v1"] = "urn:mansu:error/v1"
    id: str
    message: str
    expected: str
    found: str
    remedy: str
    exit_code: int
