"""Files that are altered, missing, extra, or no files at all."""

import os
import socket
import stat
from functools import partial
from pathlib import Path

import certificates as c
import pytest
from registry import attack
from scene import Scene, header_of, tensors

CONFIG, WEIGHTS, LEDGER = "model/config.json", "model/model.safetensors", "ledger.safetensors"
TERA = 1 << 40


def flip(scene: Scene, name: str, at: float) -> None:
    data = bytearray(scene.read(name))
    data[int(at * (len(data) - 1))] ^= 0x04
    scene.write(name, bytes(data))


for _name, _at in (
    (CONFIG, 0.5), (WEIGHTS, 0.9), (LEDGER, 1.0), ("model/tokenizer.json", 0.5), ("probes/choices.jsonl", 0.5),
    ("probes/pools.json", 1.0),
):  # fmt: skip
    attack("MV105", name=f"a flipped bit in {_name.replace('/', ' ')}")(partial(flip, name=_name, at=_at))


def remove(scene: Scene, name: str) -> None:
    scene.path(name).unlink()


for _name, _checks in (
    (CONFIG, ["MV105", "MV106"]), (LEDGER, ["MV105", "MV120"]), (WEIGHTS, ["MV105", "MV111"]),
    ("probes/pools.json", ["MV105"]),
):  # fmt: skip
    attack(*_checks, name=f"without {_name.replace('/', ' ')}")(partial(remove, name=_name))


def add(scene: Scene, name: str) -> None:
    scene.write(name, "x")


for _name in ("model/extra.txt", "model/sub/.hidden", "probes/more.jsonl"):
    attack("MV105", name=f"with {_name.replace('/', ' ')}")(partial(add, name=_name))


@attack("MV105", process=False)
def a_renamed_tokenizer(scene: Scene) -> None:
    scene.path("model/tokenizer.json").rename(scene.path("model/tokenizer.json.old"))


@attack("MV105", "MV111")
def renamed_weights(scene: Scene) -> None:
    scene.model = scene.path(WEIGHTS).rename(scene.path("model/other.safetensors"))


@attack("MV111", process=False)
def the_command_given_a_file_that_no_loader_takes(scene: Scene) -> None:
    """Signed and honest, but what the user named is not what was examined."""
    scene.model = scene.path("model/model.safetensors.index.json")
    scene.model.write_text("{}")
    scene.resign()


# --- no regular files ---


def replace_by_link(scene: Scene, name: str, target: str) -> None:
    scene.path(name).unlink()
    scene.path(name).symlink_to(target)


for _what, _name, _target in (
    ("a link to proc", CONFIG, "/proc/self/environ"),
    ("a link to a terminal", "model/tokenizer.json", "/dev/stdin"),
    ("a dangling link", LEDGER, "nowhere"),
    ("a link to itself", "probes/pools.json", "pools.json"),
):
    attack("MV101", name=_what, process="proc" in _what)(partial(replace_by_link, name=_name, target=_target))


@attack("MV101", process=False)
def a_link_to_the_same_bytes(scene: Scene) -> None:
    scene.path(CONFIG).rename(scene.path("elsewhere.json"))
    scene.path(CONFIG).symlink_to(scene.path("elsewhere.json"))


@attack("MV101")
def the_manifest_is_a_link(scene: Scene) -> None:
    scene.made.manifest.rename(scene.folder / "m.json")
    scene.made.manifest.symlink_to(scene.folder / "m.json")


@attack("MV101", process=False)
def the_probes_are_a_link(scene: Scene) -> None:
    scene.path("probes").rename(scene.folder / "probes")
    scene.path("probes").symlink_to(scene.folder / "probes")


@attack("MV101")
def a_folder_of_the_model_is_a_link(scene: Scene) -> None:
    scene.path("model/sub").symlink_to("/proc/self/fd")


@attack("MV101")
def a_fifo(scene: Scene) -> None:
    scene.path(CONFIG).unlink()
    os.mkfifo(scene.path(CONFIG))


@attack("MV101", process=False)
def a_fifo_for_a_ledger(scene: Scene) -> None:
    scene.made.ledger.unlink()
    os.mkfifo(scene.made.ledger)


@attack("ME200", code=2)
def a_fifo_for_a_manifest(scene: Scene) -> None:
    scene.made.manifest.unlink()
    os.mkfifo(scene.made.manifest)


@attack("MV101")
def a_socket(scene: Scene) -> None:
    here = Path.cwd()
    os.chdir(scene.path("model"))  # its name may have 108 bytes only
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind("s")
    finally:
        os.chdir(here)


@attack("MV101")
def a_device(scene: Scene) -> None:
    scene.path(CONFIG).unlink()
    try:
        os.mknod(scene.path(CONFIG), stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero, which never ends
    except PermissionError:
        pytest.skip("only root may make devices")


@attack("MV105", "MV106", process=False)
def a_folder_named_config_json(scene: Scene) -> None:
    scene.path(CONFIG).unlink()
    scene.path(CONFIG + "/x").write_text("{}")


@attack("MV105", "MV111")
def a_folder_named_model_safetensors(scene: Scene) -> None:
    scene.path(WEIGHTS).unlink()
    scene.path(WEIGHTS).mkdir()
    scene.model = scene.path("model")


@attack("MV101", process=False)
def a_folder_for_a_ledger(scene: Scene) -> None:
    scene.made.ledger.unlink()
    scene.made.ledger.mkdir()


@attack("ME200", code=2, process=False)
def a_folder_for_a_manifest(scene: Scene) -> None:
    scene.made.manifest.unlink()
    scene.made.manifest.mkdir()


@attack("MV105")
def a_hard_link_in_place_of_another_file(scene: Scene) -> None:
    scene.path("model/generation_config.json").unlink()
    scene.path("model/generation_config.json").hardlink_to(scene.path(CONFIG))


# --- sizes ---


def grow(scene: Scene, name: str, size: int) -> None:
    """Append a hole: the file seems to have that size, and takes no room."""
    with scene.path(name).open("r+b") as stream:
        stream.truncate(size)


for _name, _size, _checks in (
    (WEIGHTS, TERA, ["MV110"]), (LEDGER, TERA, ["MV110", "MV121"]), (CONFIG, TERA, ["MV101"]),
    ("m.json", TERA, ["MV101"]),
):  # fmt: skip
    attack(*_checks, either=True, name=f"a hole of a tebibyte in {_name.replace('/', ' ')}")(
        partial(grow, name=_name, size=_size)
    )


@attack("MV121")
def a_ledger_of_a_tebibyte_that_is_well_formed(scene: Scene) -> None:
    """Its header fits its holes: hashing it would take the night."""
    count = TERA // 16
    name = next(iter(c.entries_of(scene.made)))
    header = {
        "__metadata__": {"format": "mansu-ledger/v1"},
        f"{name}.indices": {"dtype": "I64", "shape": [count], "data_offsets": [0, 8 * count]},
        f"{name}.base": {"dtype": "BF16", "shape": [count], "data_offsets": [8 * count, 10 * count]},
    }
    data = tensors(header)
    scene.write(LEDGER, data)
    grow(scene, LEDGER, len(data) + 10 * count)


@attack("MV121", process=False)
def more_entries_than_values_unread(scene: Scene) -> None:
    header, _ = header_of(scene.read(LEDGER))
    count = 10_000
    for key, entry in header.items():
        if key != "__metadata__":
            entry["shape"] = [count]
    position = 0
    for key in [key for key in header if key != "__metadata__"]:
        size = (8 if key.endswith(".indices") else 2) * count
        header[key]["data_offsets"] = [position, position + size]
        position += size
    scene.write(LEDGER, tensors(header, bytes(position)))
    scene.resign()


# --- names ---


def beside(scene: Scene, name: str) -> None:
    scene.write(name, "{}")
    scene.resign()


for _what, _name in (
    ("case", "model/CONFIG.json"), ("a wide letter", "model/\uff43onfig.json"), ("a ligature", "model/con\ufb01g.json"),
):  # fmt: skip
    attack("MV101", name=f"two names that differ by {_what}")(partial(beside, name=_name))


@attack("MV111")
def weights_under_a_name_that_looks_the_same(scene: Scene) -> None:
    scene.model = scene.path(WEIGHTS).rename(scene.path("model/m\u043edel.safetensors")).parent
    scene.resign()


for _what, _file in (
    ("a line break", b"a\n::error::owned"), ("an escape", b"\x1b[2J"), ("no UTF-8", b"\xff"), ("a backslash", b"..\\x"),
    ("a right-to-left override", "x\u202ejson".encode()),
):  # fmt: skip
    attack("MV101", name=f"a file name with {_what}")(partial(add, name="model/" + os.fsdecode(_file)))
