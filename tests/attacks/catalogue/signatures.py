"""model.sig, which other tools verify: duly signed, but over something else than the model's files."""

import base64
import hashlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import certificates as c
import rfc8785
from registry import attack
from scene import Edit, Scene

from verify.artefact import load_private
from verify.artefact.bundle import pack
from verify.artefact.oms import sign
from verify.artefact.signing import Signer
from verify.contract.manifest import PAYLOAD_TYPE

SIGNATURE = "model.sig"


def signed(scene: Scene, keys: c.Keys | None = None) -> bytes:
    """Return the honest bundle over the model as it lies there."""
    key = load_private((keys or scene.made.keys).private)
    return sign("model", c.digests_of(scene.out / "model"), Signer(key))


def statement_edited(scene: Scene, edit: Edit, *, rooted: bool) -> None:
    """Sign another OMS statement with the producer's key; `rooted` says that its root digest is made to fit."""
    document = json.loads(signed(scene))
    statement = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))
    edit(statement)
    if rooted:
        digests = [bytes.fromhex(entry["digest"]) for entry in statement["predicate"]["resources"]]
        statement["subject"][0]["digest"]["sha256"] = hashlib.sha256(b"".join(digests)).hexdigest()
    key = load_private(scene.made.keys.private)
    scene.write(SIGNATURE, pack(rfc8785.dumps(statement), PAYLOAD_TYPE, key, document["verificationMaterial"]))


def _resources(statement: Any) -> list[dict[str, str]]:
    return statement["predicate"]["resources"]


def _exchange(statement: Any) -> None:
    """The root digest is over the digests alone: it stays what it was."""
    first, second, *_ = _resources(statement)
    first["name"], second["name"] = second["name"], first["name"]


def _ignore(statement: Any) -> None:
    gone = _resources(statement).pop(0)
    statement["predicate"]["serialization"]["ignore_paths"].append(gone["name"])


EDITS: dict[str, tuple[Callable[[Any], object], bool]] = {
    "two names exchanged under one root digest": (_exchange, False),
    "a file left out": (lambda statement: _resources(statement).pop(0), True),
    "a file ignored": (_ignore, True),
    "a file twice": (lambda statement: _resources(statement).append(_resources(statement)[0]), True),
    "another digest of a file": (lambda statement: _resources(statement)[0].update(digest=c.ZERO), True),
    "a file of no model": (lambda s: _resources(s).append(_resources(s)[0] | {"name": "zz"}), True),
    "a name that leads outside": (lambda statement: _resources(statement)[0].update(name="../config.json"), True),
    "another root digest": (lambda s: s["subject"][0]["digest"].update(sha256=c.ZERO), False),
    "shards": (lambda s: s["predicate"]["serialization"].update(method="shards", shard_size=1000), False),
}
for _name, (_edit, _rooted) in EDITS.items():
    attack("MV112", name=f"model.sig over {_name}")(partial(statement_edited, edit=_edit, rooted=_rooted))


@attack("MV112")
def model_sig_by_another_key(scene: Scene) -> None:
    scene.write(SIGNATURE, signed(scene, c.make_keys(scene.folder / "thief")))


@attack("MV112")
def the_manifest_as_model_sig(scene: Scene) -> None:
    scene.write(SIGNATURE, scene.made.manifest.read_bytes())


@attack("MV102", either=True)
def model_sig_as_the_manifest(scene: Scene) -> None:
    scene.made.manifest.write_bytes(signed(scene))


@attack("MV105", "MV112")
def model_sig_of_the_model_before_a_file_changed(scene: Scene) -> None:
    before = signed(scene)
    scene.write("model/config.json", scene.read("model/config.json") + b"\n")
    scene.write(SIGNATURE, before)


@attack("MV101")
def model_sig_that_is_a_link(scene: Scene) -> None:
    (scene.folder / "elsewhere.sig").write_bytes(signed(scene))
    scene.path(SIGNATURE).symlink_to(scene.folder / "elsewhere.sig")
