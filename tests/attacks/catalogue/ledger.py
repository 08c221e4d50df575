"""Ledgers that are malformed, or do not fit the weights: well signed, each."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from registry import attack
from scene import Scene, header_of, tensors

LEDGER = "ledger.safetensors"
FORMAT = {"format": "mansu-ledger/v1"}
NAN, INFINITE = 0x7FC0, 0x7F80

Columns = Mapping[str, tuple[Sequence[int], Sequence[int]]]
"""Tensor → flat indices, and base values as bits of bfloat16."""


def columns_of(scene: Scene) -> dict[str, tuple[list[int], list[int]]]:
    header, data = header_of(scene.read(LEDGER))

    def column(key: str, kind: str) -> list[int]:
        begin, end = header[key]["data_offsets"]
        return np.frombuffer(data[begin:end], kind).tolist()

    names = [key.removesuffix(".base") for key in header if key.endswith(".base")]
    return {name: (column(f"{name}.indices", "<i8"), column(f"{name}.base", "<u2")) for name in names}


def rewrite(
    scene: Scene, columns: Columns, *, indices: str = "I64", base: str = "BF16", metadata: Mapping[str, str] = FORMAT
) -> None:
    """Write a ledger that nobody checks, and sign it."""
    kinds = {"I64": "<i8", "I32": "<i4", "BF16": "<u2", "F16": "<u2", "F32": "<u4", "I16": "<u2"}
    header: dict = {"__metadata__": dict(metadata)}
    data = b""
    for name, pair in columns.items():
        for suffix, kind, values in zip((".indices", ".base"), (indices, base), pair, strict=True):
            part = np.array(values, kinds[kind]).tobytes()
            entry = {"dtype": kind, "shape": [len(values)], "data_offsets": [len(data), len(data) + len(part)]}
            header[name + suffix] = entry
            data += part
    scene.write(LEDGER, tensors(header, data))
    scene.resign()


def changed(scene: Scene, change: object, **kinds: object) -> None:
    """Change the first tensor's columns (indices and base bits, lists) in place."""
    columns = columns_of(scene)
    change(*next(iter(columns.values())))
    rewrite(scene, columns, **kinds)


def _set(values: list[int], at: int, value: int) -> None:
    values[at] = value


for _what, _check, _change in (
    ("an index twice", "MV120", lambda indices, _: _set(indices, 1, indices[0])),
    ("indices out of order", "MV120", lambda indices, _: indices.reverse()),
    ("a negative index", "MV120", lambda indices, _: _set(indices, 0, -1)),
    ("an index beyond the tensor", "MV121", lambda indices, _: _set(indices, -1, 1 << 40)),
    ("an index of 63 bits", "MV121", lambda indices, _: _set(indices, -1, 2**63 - 1)),
    ("NaN for a base value", "MV120", lambda _, base: _set(base, 0, NAN)),
    ("infinity for a base value", "MV120", lambda _, base: _set(base, 0, INFINITE)),
    ("minus infinity for a base value", "MV120", lambda _, base: _set(base, 0, INFINITE | 0x8000)),
    ("more indices than values", "MV120", lambda indices, _: indices.append(indices[-1] + 1)),
    ("an entry without a change", "MV120", lambda indices, base: (indices.clear(), base.clear())),
):
    attack(_check, name=_what, process="index" in _what or "NaN" in _what or "order" in _what)(
        partial(changed, change=_change)
    )

for _what, _check, _kinds in (
    ("indices of 32 bits", "MV120", {"indices": "I32"}),
    ("base values that are integers", "MV120", {"base": "I16"}),
    ("base values of another type", "MV121", {"base": "F16"}),
    ("base values of a wider type", "MV121", {"base": "F32"}),
    ("another format", "MV120", {"metadata": {"format": "mansu-ledger/v2"}}),
    ("more metadata", "MV120", {"metadata": {**FORMAT, "complete": "no"}}),
):
    attack(_check, name=_what)(partial(changed, change=lambda *_: None, **_kinds))


@attack("MV120", process=False)
def no_change_at_all(scene: Scene) -> None:
    rewrite(scene, {})


@attack("MV121", process=False)
def a_tensor_that_is_in_no_weight_file(scene: Scene) -> None:
    rewrite(scene, {**columns_of(scene), "model.layers.9.mlp.up_proj.weight": ([0], [0x3F80])})


def relabelled(scene: Scene, old: str, new: str) -> None:
    """Rename a key of the ledger's header."""
    header, data = header_of(scene.read(LEDGER))
    first = next(key for key in header if key.endswith(old))
    renamed = {(first.removesuffix(old) + new if key == first else key): value for key, value in header.items()}
    scene.write(LEDGER, tensors(renamed, data))
    scene.resign()


attack("MV120", name="an unknown column")(partial(relabelled, old=".base", new=".before"))
attack("MV120", name="a column without its partner")(partial(relabelled, old=".base", new=".other.base"))


@attack("MV110")
def a_tensor_named_twice_in_the_ledger(scene: Scene) -> None:
    data = scene.read(LEDGER)
    header, rest = header_of(data)
    key = next(key for key in header if key.endswith(".base"))
    text = data[8 : len(data) - len(rest)].decode()
    scene.write(LEDGER, tensors(text.replace(f'"{key}":', f'"{key}":{{}},"\\u006d{key[1:]}":', 1), rest))
    scene.resign()
