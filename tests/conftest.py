"""Shared fixtures: one certificate of a tiny random model, made once and never written to again."""

from pathlib import Path

import certificates
import pytest
import torch

torch.set_num_threads(1)


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
