"""A test vector in the making: what it is called, what must refuse it, and what its verifier is given."""

from collections.abc import Callable
from dataclasses import dataclass, field

import certificates as c


@dataclass(frozen=True)
class Given:
    """What the verifier's user gives beside the certificate; paths are relative to the vector's folder."""

    keys: tuple[str, ...] = ("../../keys/producer.pem",)
    base_digests: dict[str, str] = field(default_factory=dict)
    policy: str | None = None
    cert_roots: tuple[str, ...] = ()
    cert_identity: str | None = None


Spoil = Callable[[c.Certificate], Given | None]


@dataclass(frozen=True)
class Case:
    """`refused_by` are ids that must fail, by what the case is; without any, `verdict` is what it comes to."""

    name: str
    about: str
    refused_by: tuple[str, ...]
    verdict: str
    make: Spoil


class Cases(dict[str, Case]):
    """The cases of one kind, by name."""

    def add(self, about: str, *refused_by: str, name: str = "", verdict: str = "") -> Callable[[Spoil], Spoil]:
        """Register a function that turns the honest certificate into the vector; it gives the name."""

        def register(make: Spoil) -> Spoil:
            called = name or make.__name__.strip("_").replace("_", "-")
            assert called not in self
            self[called] = Case(called, about, refused_by, verdict or ("FAIL" if refused_by else "PASS"), make)
            return make

        return register
