"""Hostile manifests are refused, each by its own check id, with and without a key."""

import manifests
import pytest

from verify.artefact import bundle
from verify.errors import ArtefactError

PUBLIC = [manifests.KEY.public_key()]


def test_the_good_manifest_is_accepted() -> None:
    assert bundle.unseal(manifests.good(), PUBLIC).statement == bundle.read_unverified(manifests.good())


@pytest.mark.parametrize(("data", "check_id", "reason"), manifests.ATTACKS.values(), ids=manifests.ATTACKS)
def test_hostile_manifests_are_refused(data: bytes, check_id: str, reason: str) -> None:
    with pytest.raises(ArtefactError) as caught:
        bundle.unseal(data, PUBLIC)
    assert caught.value.id == check_id
    text = caught.value.diagnostic()
    assert reason in text
    assert text.isascii()
    assert all(character.isprintable() or character == "\n" for character in text)


@pytest.mark.parametrize(
    ("data", "check_id", "reason"),
    [pytest.param(*attack, id=name) for name, attack in manifests.ATTACKS.items() if attack[1] != "MV103"],
)
def test_without_a_key_everything_but_the_signature_is_as_strict(data: bytes, check_id: str, reason: str) -> None:
    with pytest.raises(ArtefactError) as caught:
        bundle.read_unverified(data)
    assert caught.value.id == check_id
    assert reason in caught.value.diagnostic()


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80])
def test_every_flipped_byte_is_refused(mask: int) -> None:
    data = manifests.good()
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= mask
        with pytest.raises(ArtefactError) as caught:
            bundle.unseal(bytes(changed), PUBLIC)
        assert caught.value.id in {"MV102", "MV103", "MV104"}


def test_every_truncation_is_refused() -> None:
    data = manifests.good()
    for length in range(0, len(data), 7):
        with pytest.raises(ArtefactError) as caught:
            bundle.unseal(data[:length], PUBLIC)
        assert caught.value.id == "MV102"
