"""Reports and SVRs on disk: what is sealed comes back equal, and another tool verifies the signature."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from verify.artefact import fingerprint
from verify.artefact.attestation import read_attestation, seal_attestation, unseal_attestation
from verify.contract.manifest import Digest, Subject
from verify.contract.verification import (
    VERIFIER_ID,
    BoundFile,
    InputAttestation,
    PolicyReference,
    Svr,
    SvrStatement,
    SvrVerifier,
    Verification,
    VerificationStatement,
    Verifier,
)
from verify.errors import ArtefactError, UsageError

KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())

digests = st.builds(Digest, sha256=st.text("0123456789abcdef", min_size=64, max_size=64))
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text("abcdefgh.é-_", min_size=1, max_size=12).filter(lambda name: name not in {".", ".."})
subjects = st.lists(
    st.builds(Subject, name=names.map("model/".__add__), digest=digests),
    min_size=1,
    max_size=4,
    unique_by=lambda s: s.name,
).map(tuple)
times = st.datetimes().map(lambda time: f"{time.replace(microsecond=0).isoformat()}Z")
policies = st.builds(PolicyReference, uri=words, digest=digests)
files = st.builds(BoundFile, name=words, mediaType=words, digest=digests)
reports = st.builds(
    VerificationStatement,
    _type=st.just("https://in-toto.io/Statement/v1"),
    predicateType=st.just("urn:mansu:verification/v1"),
    subject=subjects,
    predicate=st.builds(
        Verification,
        verifier=st.builds(Verifier, version=st.dictionaries(words, words, max_size=3)),
        timeVerified=times,
        resourceUri=words,
        policy=policies,
        inputAttestations=st.lists(st.builds(InputAttestation, name=words, digest=digests), max_size=1).map(tuple),
        verificationResult=st.sampled_from(["PASSED", "FAILED"]),
        verifiedLevels=st.lists(words, min_size=1, max_size=2).map(tuple),
        exitCode=st.integers(-(2**53) + 1, 2**53 - 1),
        producerKey=st.none() | digests.map(lambda digest: digest.sha256),
        result=files,
        reports=st.lists(files, max_size=2).map(tuple),
    ),
)
svrs = st.builds(
    SvrStatement,
    _type=st.just("https://in-toto.io/Statement/v1"),
    predicateType=st.just("https://in-toto.io/attestation/svr/v0.1"),
    subject=subjects,
    predicate=st.builds(
        Svr,
        verifier=st.builds(SvrVerifier, policy=policies),
        timeCreated=times,
        properties=st.lists(words, min_size=1, max_size=3).map(tuple),
    ),
)


@settings(max_examples=60, deadline=None)
@given(statement=reports | svrs)
def test_what_is_sealed_comes_back(statement: VerificationStatement | SvrStatement) -> None:
    data = seal_attestation(statement, KEY)
    opened = unseal_attestation(data, [OTHER.public_key(), KEY.public_key()], type(statement))
    assert opened.statement == statement
    assert opened.key_fingerprint == fingerprint(KEY.public_key())
    assert read_attestation(data, type(statement)) == statement
    other = SvrStatement if isinstance(statement, VerificationStatement) else VerificationStatement
    for read in (lambda: read_attestation(data, other), lambda: unseal_attestation(data, [KEY.public_key()], other)):
        with pytest.raises(ArtefactError) as caught:
            read()
        assert caught.value.id == "MV604"


@settings(max_examples=20, deadline=None)
@given(statement=reports | svrs)
def test_another_tool_verifies_the_signature(statement: VerificationStatement | SvrStatement) -> None:
    data = seal_attestation(statement, KEY)
    for key, ours in ((KEY, True), (OTHER, False)):
        public = SSlibKey.from_crypto(key.public_key())
        document = json.loads(data)["dsseEnvelope"]
        document["signatures"][0]["keyid"] = public.keyid  # DSSE leaves it out, securesystemslib asks for it
        opened = Envelope.from_dict(document)
        if ours:
            assert opened.verify([public], 1) == {public.keyid: public}
        else:
            with pytest.raises(VerificationError):
                opened.verify([public], 1)
    assert opened.payload_type == "application/vnd.in-toto+json"
    assert json.loads(opened.payload) == statement.model_dump(mode="json", by_alias=True)


def test_errors_have_the_ids_of_a_report() -> None:
    data = seal_attestation(_one(), KEY)
    with pytest.raises(ArtefactError, match="report: signed by a key you do not trust") as caught:
        unseal_attestation(data, [OTHER.public_key()], VerificationStatement)
    assert caught.value.id == "MV603"
    assert "verifier" in caught.value.remedy
    with pytest.raises(ArtefactError, match="report: not strict JSON") as caught:
        read_attestation(b"{", VerificationStatement)
    assert caught.value.id == "MV602"
    with pytest.raises(UsageError):
        unseal_attestation(data, [], VerificationStatement)


@pytest.mark.parametrize("name", ["../a", "", "a\nb", "/a"])
def test_what_would_be_refused_is_not_sealed(name: str) -> None:
    statement = _one()
    subject = Subject(name=name, digest=statement.subject[0].digest)
    with pytest.raises(ArtefactError) as caught:
        seal_attestation(statement.model_copy(update={"subject": (subject,)}), KEY)
    assert caught.value.id == "MV602"


def _one() -> VerificationStatement:
    digest = Digest(sha256="ab" * 32)
    file = BoundFile(name="result.json", mediaType="application/json", digest=digest)
    return VerificationStatement(
        _type="https://in-toto.io/Statement/v1",
        predicateType="urn:mansu:verification/v1",
        subject=(Subject(name="model/config.json", digest=digest),),
        predicate=Verification(
            verifier=Verifier(id=VERIFIER_ID, version={}),
            timeVerified="2026-01-01T00:00:00Z",
            resourceUri="urn:x",
            policy=PolicyReference(uri="urn:y", digest=digest),
            inputAttestations=(),
            verificationResult="FAILED",
            verifiedLevels=("FAILED",),
            verdict="FAIL",
            level="static",
            exitCode=1,
            baseDigest="not established",
            producerKey=None,
            result=file,
            reports=(),
        ),
    )
