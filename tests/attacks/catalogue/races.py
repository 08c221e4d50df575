"""Files that are swapped while the verifier runs, between what is hashed and what is checked.

Neither of the two contents would be accepted by itself: one is not as signed, the other is signed and does not hold.
Only a verifier that hashes one and checks the other could be fooled.
"""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import certificates as c
from registry import attack
from scene import Scene, header_of, tensors

from catalogue.mask import masked


@contextmanager
def swapping(*steps: Callable[[], None]) -> Iterator[None]:
    """Do the steps in turn, over and over, in a thread; about two thousand a second, which leaves room to read."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.is_set():
            for step in steps:
                step()
                stop.wait(0.0005)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def overwriting(path: Path, data: bytes) -> Callable[[], None]:
    """Return a step that writes the whole of an open file in place: same name, same file, same size."""

    def step() -> None:
        descriptor = os.open(path, os.O_WRONLY)
        os.pwrite(descriptor, data, 0)
        os.close(descriptor)

    return step


def two_contents(scene: Scene, name: str, signed: bytes, other: bytes) -> None:
    """Sign one content of a file and swap it with the other."""
    assert len(signed) == len(other)
    assert signed != other
    path = scene.path(name)
    path.write_bytes(signed)
    scene.during = swapping(overwriting(path, other), overwriting(path, signed))


WEIGHTS, LEDGER = "model/model.safetensors", "ledger.safetensors"


@attack("MV101", "MV105", "MV204", either=True)
def weights_swapped_between_hash_and_check(scene: Scene) -> None:
    """Signed: a masked value is put back. Shown to the check: the value that survives."""
    good = scene.read(WEIGHTS)
    c.poke(scene.made, *masked(scene))
    c.sign(scene.made, c.digests_of(scene.made.base))
    two_contents(scene, WEIGHTS, scene.read(WEIGHTS), good)


@attack("MV101", "MV105", "MV109", "MV110", "MV121", "MV107", either=True)
def a_header_swapped_between_parse_and_hash(scene: Scene) -> None:
    """Signed: a header that gives two tensors each other's names. Parsed: the one that hides it."""
    good = scene.read(WEIGHTS)
    header, data = header_of(good)
    one, two = (f"model.layers.{layer}.mlp.gate_proj.weight" for layer in (0, 1))
    header[one], header[two] = header[two], header[one]
    text = json.dumps(header, separators=(",", ":")).ljust(len(good) - len(data) - 8)
    scene.write(WEIGHTS, tensors(text, data))
    scene.resign()
    two_contents(scene, WEIGHTS, scene.read(WEIGHTS), good)


@attack("MV101", "MV105", "MV107", either=True)
def a_ledger_swapped_between_hash_and_use(scene: Scene) -> None:
    """Signed: base values that rebuild another base. Put back: the true ones."""
    good = scene.read(LEDGER)
    scene.write(LEDGER, good[:-2] + bytes([good[-2] ^ 1, good[-1]]))
    c.sign(scene.made, c.digests_of(scene.made.base))
    two_contents(scene, LEDGER, scene.read(LEDGER), good)


@attack("MV105", "MV106", either=True)
def a_configuration_swapped_between_hash_and_use(scene: Scene) -> None:
    good = scene.read("model/config.json")
    value = json.loads(good) | {"auto_map": {}}
    text = json.dumps(value).encode()
    size = max(len(text), len(good))
    scene.write("model/config.json", text.ljust(size))
    scene.resign()
    two_contents(scene, "model/config.json", text.ljust(size), good.ljust(size))


def renaming(source: Path, target: Path) -> Callable[[], None]:
    """Return a step that gives another file the target's name, at once and as a whole."""
    data = source.read_bytes()

    def step() -> None:
        source.write_bytes(data)
        source.replace(target)

    return step


@attack("MV105", "MV103", either=True)
def a_manifest_swapped_between_signature_and_use(scene: Scene) -> None:
    """One is signed by the trusted key and describes other files; the other describes these, signed by a thief."""
    honest, forged = scene.folder / "honest", scene.folder / "forged"
    honest.write_bytes(scene.made.manifest.read_bytes())
    scene.write("model/generation_config.json", "{}")
    c.sign(scene.made, c.rebuilt_digests(scene.made))
    scene.sign_as(lambda _: None, key=c.make_keys(scene.folder / "thief").private)
    forged.write_bytes(scene.made.manifest.read_bytes())
    scene.during = swapping(renaming(honest, scene.made.manifest), renaming(forged, scene.made.manifest))


@attack("MV101", "MV105", "MV204", either=True)
def a_file_swapped_for_a_link(scene: Scene) -> None:
    """Now the signed file, which does not hold, now a link to one that would."""
    good, kept = scene.read(WEIGHTS), scene.folder / "kept"
    kept.write_bytes(good)
    c.poke(scene.made, *masked(scene))
    c.sign(scene.made, c.digests_of(scene.made.base))
    signed, path = scene.read(WEIGHTS), scene.path(WEIGHTS)

    def link() -> None:
        spare = scene.folder / "link"
        spare.symlink_to(kept)
        spare.replace(path)

    def back() -> None:
        spare = scene.folder / "spare"
        spare.write_bytes(signed)
        spare.replace(path)

    scene.model = scene.path("model")
    scene.during = swapping(link, back)
