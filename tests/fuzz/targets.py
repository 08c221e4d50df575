"""What is fuzzed: one function of bytes for each format that the verifier reads from an artefact.

A target returns whether the bytes were accepted. It lets nothing out but ArtefactError and UsageError, and checks what
must hold of bytes that are accepted; whatever else leaves it is a find. No torch here: a fuzzer starts in a second.
"""

import os
import re
import struct
from collections.abc import Callable

import rfc8785
import safetensors
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from verify.artefact import bundle, oms
from verify.artefact.envelope import strict_json
from verify.artefact.files import OpenFile, relative_parts
from verify.artefact.ledger_format import INFINITY, LedgerStream
from verify.artefact.policy_file import parse_policy
from verify.artefact.signing import Trusted
from verify.artefact.tensors import MAX_RANK, SIZES, Layout, parse
from verify.artefact.weights import INDEX_NAME, plan_weights
from verify.behaviour.inert import objects, refuse_code
from verify.checks import architecture
from verify.contract.manifest import Statement
from verify.contract.policy import Policy
from verify.errors import ArtefactError, UsageError

Target = Callable[[bytes], bool]

KEY = serialization.load_pem_private_key(
    b"""-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgA+7be+40vG3fZOA2
BapS4y2GCUM0/xQ2jg4jBEJGOMahRANCAATYbYf9+TjYAH7HXI6kIZsQ2z3jc3eD
uF5fHnW/+zbOnREHos8hxHM9gq2qRjC6MSZgGOI81spvPbOYdwut01Ua
-----END PRIVATE KEY-----
""",
    password=None,
)
"""Of the corpus alone: its signed manifests are the only ones that may be accepted."""
LARGEST_DATA = 1 << 16


def refused(read: Callable[[], object]) -> bool:
    """Tell whether reading ends in an error that the verifier raises on purpose, with an id and harmless words."""
    try:
        read()
    except (ArtefactError, UsageError) as error:
        said, text = error.id, error.diagnostic()
    else:
        return False
    assert said.startswith(("MV1", "ME2")), said
    assert all(character.isprintable() or character == "\n" for character in text), ascii(text)
    return True


def header(data: bytes) -> bool:
    """A safetensors file; and, so that the length need not be guessed, a header's text with data behind it."""
    return _file(data) | _file(framed(data))


def framed(text: bytes) -> bytes:
    """Return a safetensors file of a header's text, and of as many zeros as its offsets want, up to a limit."""
    offsets = [int(word) for word in _numbers(text) if int(word) <= LARGEST_DATA]
    return struct.pack("<Q", len(text)) + text + bytes(max(offsets, default=0))


def _numbers(text: bytes) -> list[bytes]:
    words = text.replace(b"[", b" ").replace(b"]", b" ").replace(b",", b" ").split()
    return [word for word in words if word.isdigit() and len(word) < 7]


def _file(data: bytes) -> bool:
    found: list[Layout] = []
    if refused(lambda: found.append(parse(data, name="model.safetensors"))):
        return False
    (layout,) = found
    assert sum(view.count * SIZES[view.dtype] for view in layout.tensors.values()) == len(data) - len(layout.head)
    assert all(len(view.shape) <= MAX_RANK for view in layout.tensors.values())
    # the library that deployments use reads the same tensors
    other = {name: (tuple(entry["shape"]), bytes(entry["data"])) for name, entry in safetensors.deserialize(data)}
    own = {name: (view.shape, data[view.start : view.stop]) for name, view in layout.tensors.items()}
    assert other == own
    return True


def index(data: bytes) -> bool:
    """An index beside two shards."""
    names = {INDEX_NAME, "config.json", "a.safetensors", "b.safetensors"}
    plans: list[tuple[str, ...]] = []
    if refused(lambda: plans.append(plan_weights(names, {INDEX_NAME: data}.__getitem__).files)):
        return False
    assert plans == [("a.safetensors", "b.safetensors")]
    return True


def manifest(data: bytes) -> bool:
    """A manifest file as it comes: accepted only where the corpus's key signed that very payload."""
    opened: list[bundle.Opened] = []
    unverified = refused(lambda: bundle.read_unverified(data))
    if refused(lambda: opened.append(bundle.unseal(data, [KEY.public_key()]))):
        return False
    assert not unverified
    assert opened[0].payload_sha256 in SIGNED, "a forgery"
    return True


SIGNED: set[str] = set()
"""Digests of the payloads that were signed: set by whoever reads the corpus."""


def statement(data: bytes) -> bool:
    """A manifest's payload, past base64 and signature: what a dishonest producer can sign."""
    found: list[Statement] = []
    if refused(lambda: found.append(bundle.read_statement(data))):
        return False
    assert rfc8785.dumps(found[0].model_dump(mode="json", by_alias=True, exclude_unset=True)) == data
    assert all(relative_parts(subject.name, check_id="MV102") for subject in found[0].subject)
    return True


def ledger(data: bytes) -> bool:
    """A ledger, through the very reader that the verifier has for files; a header's text alone is framed too."""
    return _ledger(data) | _ledger(framed(data))


def _ledger(data: bytes) -> bool:
    descriptor = os.memfd_create("ledger")
    try:
        os.write(descriptor, data)
        return not refused(lambda: _read_ledger(OpenFile("ledger.safetensors", len(data), descriptor)))
    finally:
        os.close(descriptor)


def _read_ledger(file: OpenFile) -> None:
    stream = LedgerStream(file)
    for tensor in stream.columns:
        changes = stream.changes(tensor)
        assert changes.indices.size == changes.base.size > 0
        assert int(changes.indices[0]) >= 0
        assert bool((changes.indices[1:] > changes.indices[:-1]).all())
        magnitude = (1 << (8 * changes.base.itemsize - 1)) - 1
        assert int((changes.base & magnitude).max()) < INFINITY[changes.dtype]


def configuration(data: bytes) -> bool:
    """A config.json: no code, and either one of the families written down here or left to transformers."""
    files = {architecture.CONFIG: data}

    def read() -> None:
        refuse_code(files)
        config = strict_json(data, check_id="MV106", name=architecture.CONFIG)
        if isinstance(config, dict) and config.get("num_hidden_layers") in range(100):
            architecture._dtypes(config, objects(config))
            architecture._llama_like(config)

    return not refused(read)


def policy(data: bytes) -> bool:
    """A policy file, which is the user's own: whatever is not understood is an error of usage, and no policy."""
    found: list[Policy] = []
    if refused(lambda: found.append(parse_policy(data, name="policy.toml"))):
        return False
    assert Policy.model_validate_json(found[0].model_dump_json()) == found[0]
    assert len(found[0].sha256()) == 64
    return True


def model_signature(data: bytes) -> bool:
    """An OMS bundle as it comes: accepted only where the corpus's key signed that very payload."""
    found: list[oms.SignedFolder] = []
    trusted = Trusted((KEY.public_key(),))
    if refused(lambda: found.append(oms.read(data, trusted, check_id="MV112"))):
        return False
    assert found[0].files == OMS_FILES, "a forgery"
    return True


OMS_FILES = {"config.json": "0" * 64, "model.safetensors": "1" * 64}
"""What the good OMS bundle of the corpus signs."""


def json_text(data: bytes) -> bool:
    """The JSON reader below all of them: what it accepts, it accepts again in canonical form, as the same value."""
    values: list[object] = []
    if refused(lambda: values.append(strict_json(data, check_id="MV102", name="x"))):
        return False
    try:
        canonical = rfc8785.dumps(values[0])  # type: ignore[arg-type]
    except rfc8785.CanonicalizationError:  # integers beyond 53 bits
        return True
    again: list[object] = []
    same = not refused(lambda: again.append(strict_json(canonical, check_id="MV102", name="x"))) and again == values
    # RFC 8785 writes a double of 2^53 or more as an integer, which is read as another number and has no such form
    assert same or re.search(rb"\d{16}", canonical)
    return True


TARGETS: dict[str, Target] = {
    "header": header,
    "index": index,
    "manifest": manifest,
    "statement": statement,
    "ledger": ledger,
    "configuration": configuration,
    "policy": policy,
    "oms": model_signature,
    "json": json_text,
}

assert isinstance(KEY, ec.EllipticCurvePrivateKey)
