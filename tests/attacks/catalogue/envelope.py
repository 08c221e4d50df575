"""The signed manifest: another reading, another signer, another signature, another statement."""

import base64
import json
import shutil
from functools import partial

import certificates as c
import rfc8785
from manifests import stray_bits
from registry import attack
from scene import Edit, Scene

from verify.artefact import envelope, fingerprint, load_private, load_public
from verify.contract.manifest import PAYLOAD_TYPE

SIGNATURES = "signatures"


def thief(scene: Scene) -> c.Keys:
    return c.make_keys(scene.folder / "thief")


def edit_bundle(scene: Scene, edit: Edit) -> None:
    """Change the bundle after it was signed."""
    value = json.loads(scene.made.manifest.read_bytes())
    edit(value)
    scene.made.manifest.write_text(json.dumps(value))


def replaced(scene: Scene, old: bytes, new: bytes) -> None:
    """Change the bundle's text after it was signed."""
    data = scene.made.manifest.read_bytes()
    assert old in data
    scene.made.manifest.write_bytes(data.replace(old, new, 1))


def resigned(scene: Scene, old: bytes, new: bytes) -> None:
    """Change the payload's text and sign it."""
    payload = rfc8785.dumps(scene.statement())
    assert old in payload
    scene.sign_payload(payload.replace(old, new, 1))


# --- one reading ---

for _what, _old, _new in (
    ("a key twice", b'{"dsse', b'{"mediaType":"x","dsse'),
    ("a key twice by an escape", b'"payload":', b'"payloa\\u0064":"","payload":'),
    ("NaN", b'"hint":"', b'"x":NaN,"hint":"'),
    ("a byte order mark", b"{", b"\xef\xbb\xbf{"),
    ("deep nesting", b"{", b"[" * 100_000 + b"{"),
):
    attack("MV102", name=f"a bundle with {_what}")(partial(replaced, old=_old, new=_new))

for _what, _old, _new in (
    ("a key twice", b'"sequence":1', b'"sequence":1,"sequence":1'),
    ("1e999", b'"target":0.85', b'"target":1e999'),
    ("a space", b'"sequence":1', b'"sequence": 1'),
    ("a number of another form", b'"target":0.85', b'"target":0.850'),
    ("an unknown field", b'"sequence":1', b'"sequence":1,"skip_checks":true'),
    ("a number as text", b'"sequence":1', b'"sequence":"1"'),
    ("no profile", b'"profiles":[', b'"profiles":[],"x":['),
    ("a subject that leaves the folder", b'"name":"ledger.safetensors"', b'"name":"../ledger.safetensors"'),
):
    attack("MV102", name=f"signed with {_what}")(partial(resigned, old=_old, new=_new))


@attack("MV102", process=False)
def a_document_after_the_bundle(scene: Scene) -> None:
    scene.made.manifest.write_bytes(scene.made.manifest.read_bytes() + b"{}")


@attack("MV102", process=False)
def a_bundle_in_another_encoding(scene: Scene) -> None:
    scene.made.manifest.write_bytes(scene.made.manifest.read_bytes().decode().encode("utf-16"))


@attack("MV101")
def a_bundle_of_twenty_megabytes(scene: Scene) -> None:
    scene.made.manifest.write_bytes(b" " * 20_000_000 + scene.made.manifest.read_bytes())


@attack("MV102", process=False)
def signed_with_keys_in_another_order(scene: Scene) -> None:
    statement = scene.statement()
    scene.sign_payload(json.dumps(dict(reversed(statement.items())), separators=(",", ":")).encode())


@attack("MV102", process=False)
def a_subject_twice(scene: Scene) -> None:
    scene.sign_as(lambda data: data["subject"].append(data["subject"][0]))


# --- one signature ---


@attack("MV102")
def a_second_signature(scene: Scene) -> None:
    other = envelope.sign(b"{}", PAYLOAD_TYPE, load_private(thief(scene).private))
    edit_bundle(scene, lambda value: value["dsseEnvelope"][SIGNATURES].extend(other[SIGNATURES]))


@attack("MV102")
def a_second_signature_put_first(scene: Scene) -> None:
    """The thief's payload, the thief's signature first, the producer's genuine one second."""
    private = load_private(thief(scene).private)
    statement = scene.statement()
    statement["predicate"]["mask"]["masked"] += 1
    forged = envelope.sign(rfc8785.dumps(statement), PAYLOAD_TYPE, private)

    def edit(value: dict) -> None:
        forged[SIGNATURES] += value["dsseEnvelope"][SIGNATURES]
        value["dsseEnvelope"] = forged

    edit_bundle(scene, edit)


for _what, _signatures in (("no signature", []), ("a signature of null", [{"sig": None}]), ("an object", {})):
    attack("MV102", name=f"signatures are {_what}")(
        partial(edit_bundle, edit=lambda value, new=_signatures: value["dsseEnvelope"].update(signatures=new))
    )


def respell(scene: Scene, field: str, change: object) -> None:
    """Write the payload's or the signature's base64 in another way."""

    def edit(value: dict) -> None:
        holder = value["dsseEnvelope"] if field == "payload" else value["dsseEnvelope"][SIGNATURES][0]
        holder[field] = change(holder[field])

    edit_bundle(scene, edit)


for _what, _field, _change in (
    ("a line break", "payload", lambda text: text[:76] + "\n" + text[76:]),
    ("a space", "sig", lambda text: text[:4] + " " + text[4:]),
    ("no padding", "sig", lambda text: text.rstrip("=") + ("" if text.endswith("=") else "=")),
    ("the alphabet of URLs", "sig", lambda text: "-_" + text[2:]),
    # A DER signature has 70 to 72 bytes: where it needs no padding, append some before the rest.
    ("more after the padding", "sig", lambda text: text + ("QQ==" if text.endswith("=") else "QQ==QQ==")),
):
    attack("MV102", name=f"base64 with {_what}")(partial(respell, field=_field, change=_change))


@attack("MV102")
def base64_with_stray_bits(scene: Scene) -> None:
    """The same bytes, so the signature holds: only the spelling differs."""

    def edit(data: dict) -> None:
        while len(rfc8785.dumps(data)) % 3 != 1:
            data["predicate"]["method"]["name"] += "."

    scene.sign_as(edit)
    respell(scene, "payload", stray_bits)


# --- one signer ---


@attack("MV103")
def another_key(scene: Scene) -> None:
    scene.key = thief(scene).public


@attack("MV103", process=False)
def signed_by_a_thief(scene: Scene) -> None:
    scene.sign_as(lambda _: None, key=thief(scene).private)


@attack("MV102")
def signed_by_a_thief_under_the_trusted_hint(scene: Scene) -> None:
    """The keyid still says whose signature it is."""
    hint = fingerprint(load_public(scene.made.keys.public))
    scene.sign_as(lambda _: None, key=thief(scene).private)
    edit_bundle(scene, lambda value: value["verificationMaterial"]["publicKey"].update(hint=hint))


@attack("MV103")
def signed_by_a_thief_under_the_trusted_hint_and_keyid(scene: Scene) -> None:
    hint = fingerprint(load_public(scene.made.keys.public))
    signed_by_a_thief_under_the_trusted_hint(scene)
    edit_bundle(scene, lambda value: value["dsseEnvelope"]["signatures"][0].update(keyid=hint))


@attack("MV103")
def signed_by_a_thief_whose_key_lies_beside(scene: Scene) -> None:
    """A key that comes with the artefact is nobody's word, wherever it lies."""
    keys = thief(scene)
    scene.sign_as(lambda _: None, key=keys.private)
    for name in ("public.pem", "key.pub", "cosign.pub"):
        shutil.copy(keys.public, scene.path(name))


@attack("MV102")
def a_key_in_the_bundle(scene: Scene) -> None:
    keys = thief(scene)
    scene.sign_as(lambda _: None, key=keys.private)
    raw = base64.b64encode(keys.public.read_bytes()).decode()
    edit_bundle(scene, lambda value: value["verificationMaterial"]["publicKey"].update(rawBytes=raw))


@attack("MV103", code=3)
def a_key_beside_the_files_and_none_given(scene: Scene) -> None:
    """Nothing is wrong but that nobody vouches for it: undecided, which is no success."""
    shutil.copy(scene.made.keys.public, scene.path("public.pem"))
    scene.keyless = True


@attack("MV103", process=False)
def the_signature_of_another_payload(scene: Scene) -> None:
    sig = envelope.sign(b"{}", PAYLOAD_TYPE, load_private(scene.made.keys.private))[SIGNATURES]
    edit_bundle(scene, lambda value: value["dsseEnvelope"].update(signatures=sig))


@attack("MV103")
def a_signature_of_zeros(scene: Scene) -> None:
    """r = s = 0, which a careless curve implementation accepts for every message (CVE-2022-21449)."""
    respell(scene, "sig", lambda _: "MAYCAQACAQA=")


@attack("MV103", process=False)
def a_flipped_bit_in_the_payload(scene: Scene) -> None:
    payload = bytearray(rfc8785.dumps(scene.statement()))
    at = payload.index(b"2026-")
    payload[at + 3] ^= 1
    text = base64.b64encode(payload).decode()
    edit_bundle(scene, lambda value: value["dsseEnvelope"].update(payload=text))


@attack("MV103")
def signed_as_another_type_and_relabelled(scene: Scene) -> None:
    scene.sign_payload(rfc8785.dumps(scene.statement()), "application/json")
    edit_bundle(scene, lambda value: value["dsseEnvelope"].update(payloadType=PAYLOAD_TYPE))


# --- one statement ---


@attack("MV104", process=False)
def signed_as_another_payload_type(scene: Scene) -> None:
    scene.sign_payload(rfc8785.dumps(scene.statement()), "application/json")


for _what, _change in (
    ("another predicate", {"predicateType": "https://slsa.dev/provenance/v1"}),
    ("a later version", {"predicateType": "urn:mansu:unlearning/v2"}),
    ("an older statement", {"_type": "https://in-toto.io/Statement/v0.1"}),
):
    attack("MV104", name=f"signed as {_what}")(
        partial(Scene.sign_as, edit=lambda data, change=_change: data.update(change))
    )


@attack("MV105", "MV107")
def the_manifest_of_another_model(scene: Scene) -> None:
    other_base = c.save_base(c.random_model(seed=7), scene.folder / "base")
    other = c.make(other_base, scene.folder / "other", scene.made.keys, c.valid_edits(other_base))
    shutil.copy(other.manifest, scene.made.manifest)


@attack("MV105", "MV109")
def an_older_manifest_of_the_same_model(scene: Scene) -> None:
    older = c.make(
        scene.made.base, scene.folder / "older", scene.made.keys, c.valid_edits(scene.made.base, seed=3, each=5)
    )
    shutil.copy(older.manifest, scene.made.manifest)
