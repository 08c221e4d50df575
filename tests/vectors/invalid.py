"""Vectors that are not well formed, or not signed as they should be. Whoever holds the producer's key signed some."""

import base64
import json
import shutil
import struct
from collections.abc import Callable
from typing import Any

import certificates as c
import numpy as np
import producer as p
import rfc8785
import torch
from case import Cases, Given

from verify.artefact import envelope
from verify.artefact.oms import sign as sign_oms
from verify.artefact.signing import Signer
from verify.contract.manifest import PAYLOAD_TYPE

CASES = Cases()
ADD = CASES.add
Edit = Callable[[Any], object]

# --- the bundle and the envelope, spoiled after signing --------------------------------------------------------------


def bundle(name: str, about: str, refused_by: str, edit: Edit) -> None:
    """Add a vector whose bundle object is edited after signing."""

    @ADD(about, refused_by, name=name)
    def _(made: c.Certificate) -> None:
        value = json.loads(made.manifest.read_bytes())
        edit(value)
        made.manifest.write_text(json.dumps(value))


def text(name: str, about: str, replace: str, by: str) -> None:
    """Add a vector whose bundle text is edited after signing."""

    @ADD(about, "MV102", name=name)
    def _(made: c.Certificate) -> None:
        written = made.manifest.read_text()
        assert replace in written
        made.manifest.write_text(written.replace(replace, by, 1))


def signature(value: Any) -> dict[str, Any]:
    return value["dsseEnvelope"]["signatures"][0]


def append_signature(value: Any) -> None:
    payload = base64.b64decode(value["dsseEnvelope"]["payload"])
    value["dsseEnvelope"]["signatures"] += envelope.sign(payload, PAYLOAD_TYPE, p.key("stranger"))["signatures"]


def stranger_print() -> str:
    return envelope.fingerprint(p.key("stranger").public_key())


ENVELOPE, MATERIAL = "dsseEnvelope", "verificationMaterial"

text("duplicate-key", "A key twice in the bundle.", '{"dsse', '{"mediaType":"x","dsse')
text(
    "duplicate-key-by-escape",
    "A key twice, once written with an escape.",
    '"payload":',
    '"payloa\\u0064":"","payload":',
)
text("not-a-number", "NaN, which is not JSON.", '"hint":', '"x":NaN,"hint":')
text("byte-order-mark", "A byte order mark before the bundle.", "{", "\ufeff{")
text("deep-nesting", "Lists nested a thousand deep.", '"hint":', '"x":' + "[" * 1000 + "]" * 1000 + ',"hint":')
text("data-after-the-bundle", "A second document after the bundle.", "[]}}", "[]}}{}")


@ADD("Bits set behind the payload's last byte: other base64 for the same bytes.", "MV102")
def base64_stray_bits(made: c.Certificate) -> None:
    while not (value := json.loads(made.manifest.read_bytes()))[ENVELOPE]["payload"].endswith("="):
        p.sign_again(made, lambda s: s["predicate"]["method"].update(name=s["predicate"]["method"]["name"] + "."))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    written = value[ENVELOPE]["payload"]
    body = written.rstrip("=")
    other = body[:-1] + alphabet[alphabet.index(body[-1]) + 1] + written[len(body) :]
    assert base64.b64decode(other) == base64.b64decode(written)
    value[ENVELOPE]["payload"] = other
    made.manifest.write_text(json.dumps(value))


@ADD("The bundle is cut off.", "MV102")
def truncated_bundle(made: c.Certificate) -> None:
    made.manifest.write_bytes(made.manifest.read_bytes()[:-20])


bundle(
    "wrong-media-type",
    "The bundle is of another media type.",
    "MV102",
    lambda b: b.update(mediaType="application/json"),
)
bundle("unknown-field-in-bundle", "A field that the bundle does not have.", "MV102", lambda b: b.update(note="x"))
bundle(
    "unknown-field-in-envelope",
    "A field that the envelope does not have.",
    "MV102",
    lambda b: b[ENVELOPE].update(note="x"),
)
bundle(
    "unknown-field-in-signature",
    "A field that a signature does not have.",
    "MV102",
    lambda b: signature(b).update(cert="x"),
)
bundle("second-signature", "A second signature, by another key.", "MV102", append_signature)
bundle(
    "signature-twice",
    "The same signature twice.",
    "MV102",
    lambda b: b[ENVELOPE].update(signatures=b[ENVELOPE]["signatures"] * 2),
)
bundle("no-signature", "An empty list of signatures.", "MV102", lambda b: b[ENVELOPE].update(signatures=[]))
bundle(
    "base64-with-line-break",
    "A line break in the payload's base64.",
    "MV102",
    lambda b: b[ENVELOPE].update(payload=b[ENVELOPE]["payload"] + "\n"),
)
bundle("base64-for-urls", "A signature in the alphabet for URLs.", "MV102", lambda b: signature(b).update(sig="-_-_"))
bundle(
    "keyid-of-another-key",
    "The keyid names another key than the hint does.",
    "MV102",
    lambda b: signature(b).update(keyid=stranger_print()),
)
bundle(
    "hint-of-another-key",
    "The hint names a key that is not given.",
    "MV103",
    lambda b: (b[MATERIAL]["publicKey"].update(hint=stranger_print()), signature(b).pop("keyid")),
)
bundle(
    "key-in-the-bundle",
    "A public key in the bundle, which no reader may trust.",
    "MV102",
    lambda b: b[MATERIAL]["publicKey"].update(rawBytes="AAAA"),
)
bundle(
    "certificate-unasked",
    "A certificate in the bundle, and the user gave no root.",
    "MV102",
    lambda b: b.update({MATERIAL: {"certificate": {"rawBytes": "AAAA"}}}),
)
bundle(
    "log-entry",
    "An entry of a transparency log, which no reader here can judge.",
    "MV102",
    lambda b: b[MATERIAL].update(tlogEntries=[{}]),
)
bundle("empty-signature", "A signature of no bytes.", "MV103", lambda b: signature(b).update(sig=""))
bundle(
    "payload-type-changed",
    "The payload type is changed after signing.",
    "MV104",
    lambda b: b[ENVELOPE].update(payloadType="application/json"),
)


@ADD("The payload is changed after signing: another engine's name.", "MV103")
def payload_changed(made: c.Certificate) -> None:
    value = json.loads(made.manifest.read_bytes())
    payload = base64.b64decode(value[ENVELOPE]["payload"]).replace(b"mansu test vectors", b"mansu test sectors")
    value[ENVELOPE]["payload"] = base64.b64encode(payload).decode()
    made.manifest.write_text(json.dumps(value))


@ADD("Signed by a stranger, who says so.", "MV103")
def strangers_signature(made: c.Certificate) -> None:
    p.sign_again(made, owner="stranger")


@ADD("Signed by a stranger under the producer's hint and keyid.", "MV103")
def strangers_signature_under_the_hint(made: c.Certificate) -> None:
    honest = json.loads(made.manifest.read_bytes())
    p.sign_again(made, owner="stranger")
    forged = json.loads(made.manifest.read_bytes())
    forged[MATERIAL] = honest[MATERIAL]
    signature(forged)["keyid"] = signature(honest)["keyid"]
    made.manifest.write_text(json.dumps(forged))


@ADD("An honest certificate, and the user gives another key.", "MV103")
def wrong_key_given(_: c.Certificate) -> Given:
    return Given(keys=("../../keys/stranger.pem",))


# --- the payload, duly signed as it is -------------------------------------------------------------------------------


def payload(name: str, about: str, replace: bytes, by: bytes) -> None:
    """Add a vector whose payload text is edited and then signed."""

    @ADD(about, "MV102", name=name)
    def _(made: c.Certificate) -> None:
        written = rfc8785.dumps(p.statement_of(made))
        assert replace in written
        p.sign_payload(made, written.replace(replace, by, 1))


def statement(name: str, about: str, refused_by: str, change: Edit) -> None:
    """Add a vector whose statement is changed and then signed."""

    @ADD(about, refused_by, name=name)
    def _(made: c.Certificate) -> None:
        p.sign_again(made, change)


payload("payload-not-canonical", "A space in the payload, which RFC 8785 does not have.", b":", b": ")
payload("payload-number-not-canonical", "1.0 where RFC 8785 writes 1.", b'"sequence":1}', b'"sequence":1.0}')
payload("payload-escape-not-canonical", "A letter written as an escape.", b'"mansu test', b'"m\\u0061nsu test')
payload("payload-duplicate-key", "A key twice in what is signed.", b'"sequence":1', b'"sequence":2,"sequence":1')
payload("payload-large-integer", "An integer beyond 53 bits.", b'"sequence":1', b'"sequence":9007199254740993')
payload("payload-infinite", "1e999, which some readers take for infinity.", b'"target":0.85', b'"target":1e999')
statement(
    "unknown-field-in-predicate",
    "A field that the predicate does not have.",
    "MV102",
    lambda s: s["predicate"].update(note="x"),
)
statement(
    "unknown-field-in-profile",
    "A field that a profile does not have: what it asks for, nobody would check.",
    "MV102",
    lambda s: s["predicate"]["profiles"][0].update(group_size=32),
)
statement(
    "unknown-field-in-statement", "A field that the statement does not have.", "MV102", lambda s: s.update(note="x")
)
statement(
    "second-digest",
    "A subject with a second algorithm's digest.",
    "MV102",
    lambda s: s["subject"][0]["digest"].update(sha512="x"),
)
statement("missing-field", "The predicate has no mask.", "MV102", lambda s: s["predicate"].pop("mask"))
statement("number-as-text", "A sequence number as a string.", "MV102", lambda s: s["predicate"].update(sequence="1"))
statement("negative-sequence", "A sequence number below 1.", "MV102", lambda s: s["predicate"].update(sequence=0))
statement(
    "unknown-quantizer",
    "A profile of another quantizer.",
    "MV102",
    lambda s: s["predicate"]["profiles"][0].update(quant_type="fp4"),
)
statement("no-profile", "An empty list of profiles.", "MV102", lambda s: s["predicate"].update(profiles=[]))
statement(
    "profile-twice",
    "A profile twice, once spelled by its defaults.",
    "MV102",
    lambda s: s["predicate"].update(profiles=[{}, {"block_size": 64}]),
)
statement(
    "base-file-twice",
    "A base file with two digests.",
    "MV102",
    lambda s: s["predicate"]["base"]["files"].append({"name": "config.json", "sha256": c.ZERO}),
)
statement(
    "masked-tensor-twice",
    "A masked tensor twice.",
    "MV102",
    lambda s: s["predicate"]["mask"]["tensors"].append(s["predicate"]["mask"]["tensors"][0]),
)
statement(
    "skip-with-expression",
    "A skip list with a regular expression.",
    "MV102",
    lambda s: s["predicate"]["profiles"][0].update(skip=["(a+)+$"]),
)
statement("no-subject", "No subject at all.", "MV102", lambda s: s.update(subject=[]))
statement("subject-twice", "A subject twice.", "MV102", lambda s: s["subject"].append(s["subject"][0]))
statement(
    "subject-outside",
    "A subject that leaves the folder.",
    "MV102",
    lambda s: s["subject"][0].update(name="../ledger.safetensors"),
)
statement(
    "subject-absolute",
    "A subject with an absolute name.",
    "MV102",
    lambda s: s["subject"][0].update(name="/etc/passwd"),
)
statement(
    "subject-with-control-character",
    "A subject whose name speaks to a terminal.",
    "MV102",
    lambda s: s["subject"][0].update(name="model/\x1b[2J"),
)
statement(
    "digest-in-capitals",
    "A digest in capital letters.",
    "MV102",
    lambda s: s["subject"][0]["digest"].update(sha256="A" * 64),
)
statement(
    "later-predicate",
    "A predicate of a version that does not exist yet.",
    "MV104",
    lambda s: s.update(predicateType="urn:mansu:unlearning/v999"),
)
statement(
    "other-predicate",
    "Another kind of predicate, duly signed.",
    "MV104",
    lambda s: s.update(predicateType="https://in-toto.io/attestation/svr/v0.1"),
)
statement(
    "other-statement-type",
    "An in-toto statement of an older type.",
    "MV104",
    lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"),
)


@ADD("Signed as another payload type.", "MV104")
def wrong_payload_type(made: c.Certificate) -> None:
    p.sign_payload(made, rfc8785.dumps(p.statement_of(made)), payload_type="application/json")


# --- files, as they lie ----------------------------------------------------------------------------------------------


@ADD("A bit of a weight is flipped.", "MV105", "MV107")
def flipped_weight(made: c.Certificate) -> None:
    data = bytearray(made.model.read_bytes())
    data[-100] ^= 1
    made.model.write_bytes(data)


@ADD("The configuration is changed.", "MV105", "MV108")
def config_changed(made: c.Certificate) -> None:
    path = made.out / "model" / "config.json"
    path.write_text(path.read_text().replace("1e-06", "1e-05"))


@ADD("A file is missing.", "MV105")
def missing_probes(made: c.Certificate) -> None:
    (made.out / "probes" / "text.jsonl").unlink()


@ADD("A file in the model's folder that is not listed.", "MV105")
def extra_file(made: c.Certificate) -> None:
    (made.out / "model" / "chat_template.jinja").write_text("{{ messages }}")


@ADD("There is no ledger.", "MV105", "MV120")
def no_ledger(made: c.Certificate) -> None:
    made.ledger.unlink()


@ADD("model.sig is a stranger's.", "MV112")
def strangers_model_sig(made: c.Certificate) -> None:
    signed = sign_oms("model", c.digests_of(made.out / "model"), Signer(p.key("stranger")))
    (made.out / "model.sig").write_bytes(signed)


@ADD("model.sig signs other content for a file; its root digest fits what it lists.", "MV112")
def model_sig_of_other_files(made: c.Certificate) -> None:
    digests = {**c.digests_of(made.out / "model"), "config.json": c.ZERO}
    (made.out / "model.sig").write_bytes(sign_oms("model", digests, Signer(p.key("producer"))))


# --- safetensors that two readers read differently, listed and signed ------------------------------------------------


def header(name: str, about: str, edit: Callable[[str], str], *, of: str = "model", more: bytes = b"") -> None:
    """Add a vector with a header whose text is edited; `more` is appended to the file."""

    @ADD(about, "MV110", name=name)
    def _(made: c.Certificate) -> None:
        path = made.model if of == "model" else made.ledger
        data = path.read_bytes()
        (length,) = struct.unpack_from("<Q", data)
        written = data[8 : 8 + length].decode()
        changed = edit(written).encode()
        assert more or changed != written.encode()
        path.write_bytes(struct.pack("<Q", len(changed)) + changed + data[8 + length :] + more)
        p.sign_again(made, p.base_as_it_lies(made))


def parsed(edit: Edit) -> Callable[[str], str]:
    def change(written: str) -> str:
        value = json.loads(written)
        edit(value)
        return json.dumps(value)

    return change


def swapped(value: Any) -> None:
    """Let one tensor begin four bytes early."""
    first = value[p.MASKED]["data_offsets"]
    first[0], first[1] = first[0] - 4, first[1] - 4


NORM = '"model.norm.weight":'
DECOY = '"model.norm.weight":{"dtype":"BF16","shape":[16],"data_offsets":[0,32]},'
header("tensor-twice", "A tensor's name twice in the header.", lambda text: text.replace("{", "{" + DECOY, 1))
header(
    "tensor-twice-by-escape",
    "A tensor's name twice, once written with an escape.",
    lambda text: text.replace("{", "{" + DECOY.replace("norm", "n\\u006frm"), 1),
)
header("overlapping-tensors", "Two tensors share bytes.", parsed(swapped))
header("bytes-left-over", "Bytes behind the last tensor.", lambda text: text, more=b"\0" * 8)
header("unknown-dtype", "A type that does not exist.", lambda text: text.replace('"BF16"', '"BF17"', 1))
header(
    "unknown-field-in-header",
    "A field that a tensor's entry does not have.",
    parsed(lambda h: h[p.MASKED].update(strides=[16, 1])),
)
header("shape-does-not-fit", "A shape of more values than bytes.", parsed(lambda h: h[p.MASKED].update(shape=[16, 17])))
header("negative-offset", "A negative offset.", parsed(lambda h: h[p.MASKED].update(data_offsets=[-512, 0])))
header("number-in-metadata", "Metadata that is no string.", parsed(lambda h: h["__metadata__"].update(n=1)))
header("header-begins-with-space", "A space before the header's brace.", lambda text: " " + text)
header(
    "ledger-tensor-twice",
    "A column's name twice in the ledger's header.",
    lambda text: text.replace(
        f'"{p.MASKED}.indices":',
        f'"{p.MASKED}.indices":{{"dtype":"I64","shape":[4],"data_offsets":[0,32]}},"{p.MASKED}.indices":',
        1,
    ),
    of="ledger",
)


@ADD("The header claims a length of 2^63 bytes.", "MV110")
def giant_header(made: c.Certificate) -> None:
    made.model.write_bytes(struct.pack("<Q", 1 << 63) + made.model.read_bytes()[8:])
    p.sign_again(made, p.base_as_it_lies(made))


@ADD("A pickle under the name of the weights.", "MV110")
def pickled_weights(made: c.Certificate) -> None:
    made.model.write_bytes(b"\x80\x02}q\x00." + bytes(64))
    p.sign_again(made, p.base_as_it_lies(made))


@ADD("A second weight file beside the one that a loader takes.", "MV111")
def stray_weights(made: c.Certificate) -> None:
    shutil.copy(made.model, made.model.with_name("other.safetensors"))
    p.sign_again(made, p.base_as_it_lies(made))


def index(name: str, about: str, edit: Edit) -> None:
    """Add a vector of two weight files whose index is edited and signed."""

    @ADD(about, "MV111", name=name)
    def _(made: c.Certificate) -> None:
        made = p.remake(made, p.weights(), shards=2)
        path = made.out / "model" / "model.safetensors.index.json"
        value = json.loads(path.read_bytes())
        edit(value)
        path.write_text(json.dumps(value))
        p.sign_again(made, p.base_as_it_lies(made))


def other_shard(value: Any) -> None:
    files = sorted(set(value["weight_map"].values()))
    value["weight_map"][p.MASKED] = files[1 - files.index(value["weight_map"][p.MASKED])]


index(
    "index-leaves-the-folder",
    "The index names a file outside of the folder.",
    lambda i: i["weight_map"].update({p.MASKED: "../secret.safetensors"}),
)
index("index-names-the-other-file", "The index names the wrong one of two files for a tensor.", other_shard)
index(
    "index-leaves-a-tensor-out",
    "The index does not name a tensor that is there.",
    lambda i: i["weight_map"].pop(p.MASKED),
)
index(
    "index-names-a-missing-file",
    "The index names a file that is not there.",
    lambda i: i["weight_map"].update(x="model-00003-of-00003.safetensors"),
)


# --- the ledger, signed as it is -------------------------------------------------------------------------------------


@ADD("The ledger is cut off in the last column.", "MV110")
def truncated_ledger(made: c.Certificate) -> None:
    made.ledger.write_bytes(made.ledger.read_bytes()[:-3])
    p.sign_again(made)


Columns = dict[str, tuple[str, Any]]


def ledger(name: str, about: str, refused_by: str, edit: Callable[[Columns], object], *, metadata: Any = None) -> None:
    """Add a vector whose ledger's columns (name → dtype, array) are edited, written strictly and signed."""

    @ADD(about, refused_by, name=name)
    def _(made: c.Certificate) -> None:
        columns: Columns = {}
        for tensor, entry in c.entries_of(made).items():
            columns[f"{tensor}.indices"] = ("I64", entry.indices.numpy().copy())
            columns[f"{tensor}.base"] = ("BF16", entry.base.view(torch.uint16).numpy().copy())
        edit(columns)
        made.ledger.write_bytes(_written(columns, {"format": "mansu-ledger/v1"} if metadata is None else metadata))
        p.sign_again(made)


def _written(columns: Columns, metadata: Any) -> bytes:
    head: dict[str, Any] = {"__metadata__": metadata}
    data = b""
    for name, (dtype, values) in columns.items():
        part = values.astype(values.dtype.newbyteorder("<")).tobytes()
        head[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + data


INDICES, BASE = f"{p.MASKED}.indices", f"{p.MASKED}.base"


def set_index(at: int, value: int) -> Callable[[Columns], object]:
    def edit(columns: Columns) -> None:
        columns[INDICES][1][at] = value

    return edit


def _nan(columns: Columns) -> None:
    columns[BASE][1][0] = 0x7FC0


def _swap(columns: Columns) -> None:
    for name in (INDICES, BASE):
        columns[name][1][:2] = columns[name][1][1::-1].copy()


def _repeat(columns: Columns) -> None:
    columns[INDICES][1][1] = columns[INDICES][1][0]


def _replace(name: str, change: Callable[[str, Any], tuple[str, Any]]) -> Callable[[Columns], object]:
    return lambda columns: columns.update({name: change(*columns[name])})


ledger("ledger-unsorted", "Two indices, with their values, in the wrong order.", "MV120", _swap)
ledger("ledger-index-twice", "An index twice.", "MV120", _repeat)
ledger("ledger-negative-index", "A negative index.", "MV120", set_index(0, -1))
ledger("ledger-index-out-of-range", "An index beyond the tensor.", "MV121", set_index(-1, 256))
ledger("ledger-base-not-a-number", "A base value that is NaN.", "MV120", _nan)
ledger("ledger-empty", "A ledger without an entry.", "MV120", lambda columns: columns.clear())
ledger(
    "ledger-empty-entry",
    "An entry without a value.",
    "MV120",
    lambda columns: [_replace(name, lambda dtype, values: (dtype, values[:0]))(columns) for name in (INDICES, BASE)],
)
ledger("ledger-without-partner", "Indices without base values.", "MV120", lambda columns: columns.pop(BASE))
ledger(
    "ledger-lengths-differ",
    "Fewer base values than indices.",
    "MV120",
    _replace(BASE, lambda dtype, values: (dtype, values[:-1])),
)
ledger(
    "ledger-unknown-column",
    "A column that is neither indices nor base values.",
    "MV120",
    lambda columns: columns.update(note=("U8", np.zeros(1, "u1"))),
)
ledger(
    "ledger-32-bit-indices",
    "Indices of 32 bits.",
    "MV120",
    _replace(INDICES, lambda _, values: ("I32", values.astype("i4"))),
)
ledger(
    "ledger-two-dimensions",
    "Indices as a matrix.",
    "MV120",
    _replace(INDICES, lambda dtype, values: (dtype, values.reshape(2, 2))),
)
ledger(
    "ledger-integer-base", "Base values of an integer type.", "MV120", _replace(BASE, lambda _, values: ("U16", values))
)
ledger(
    "ledger-other-dtype",
    "Base values of another type than the tensor's.",
    "MV121",
    _replace(BASE, lambda _, values: ("F16", values)),
)
ledger(
    "ledger-unknown-tensor",
    "An entry for a tensor that no weight file has.",
    "MV121",
    lambda columns: columns.update({"x.indices": columns.pop(INDICES), "x.base": columns.pop(BASE)}),
)
ledger(
    "ledger-later-format",
    "A ledger of a later format.",
    "MV120",
    lambda _: None,
    metadata={"format": "mansu-ledger/v999"},
)
ledger(
    "ledger-more-metadata",
    "Metadata that the format does not have.",
    "MV120",
    lambda _: None,
    metadata={"format": "mansu-ledger/v1", "note": "x"},
)
