"""Shared fixtures: one certificate of a tiny random model, made once and never written to. No test reaches out."""

import sys
from collections.abc import Iterator
from pathlib import Path

import attestations
import certificates
import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
# The same examples on every run: a gate may not fail on what nobody changed. `--hypothesis-profile=explore` draws anew.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("explore", derandomize=False)
settings.load_profile("repeatable")

_reached_out: list[str] = []
_OUTWARD = (
    "socket.connect",
    "socket.bind",
    "socket.sendto",
    "socket.sendmsg",
    "socket.getaddrinfo",
    "socket.gethostbyname",
)


def _block(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse every address and every look-up but those of files; C code passes here too, and a hook stays for good."""
    local = event in _OUTWARD[:4] and isinstance(arguments[-1], str | bytes)
    if event in _OUTWARD and not local:
        _reached_out.append(f"{event} {arguments[1:]!r}")
        raise PermissionError(f"tests run without a network: {event}")


sys.addaudithook(_block)


@pytest.fixture(autouse=True)
def without_network() -> Iterator[None]:
    """Fail a test that tried to reach out, also where the code under test swallowed the refusal."""
    _reached_out.clear()
    yield
    assert not _reached_out


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates.save_base(certificates.random_model(), tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def tiny_keys(tmp_path_factory: pytest.TempPathFactory) -> certificates.Keys:
    return certificates.make_keys(tmp_path_factory.mktemp("keys") / "pair")


@pytest.fixture(scope="session")
def tiny_certificate(
    tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, tiny_keys: certificates.Keys
) -> certificates.Certificate:
    """Return a valid certificate; copy it with `copied_to` before changing anything."""
    out = tmp_path_factory.mktemp("certificate") / "out"
    return certificates.make(tiny_base, out, tiny_keys, certificates.valid_edits(tiny_base))


@pytest.fixture
def certificate(tiny_certificate: certificates.Certificate, tmp_path: Path) -> certificates.Certificate:
    """Return a copy of the valid certificate, to be spoiled."""
    return tiny_certificate.copied_to(tmp_path / "out")


@pytest.fixture(scope="session")
def signed_reports(
    tmp_path_factory: pytest.TempPathFactory, tiny_certificate: certificates.Certificate
) -> attestations.Signed:
    """Return a signed report and SVR that passed; copy it with `copied_to` before changing anything."""
    verifier = certificates.make_keys(tmp_path_factory.mktemp("verifier") / "pair")
    made = attestations.Signed(tmp_path_factory.mktemp("reports"), tiny_certificate, verifier)
    assert attestations.sign(made, "--key", tiny_certificate.keys.public) == 0
    return made


@pytest.fixture
def signed(signed_reports: attestations.Signed, tmp_path: Path) -> attestations.Signed:
    """Return a copy of the signed reports, to be spoiled."""
    return signed_reports.copied_to(tmp_path / "report")
