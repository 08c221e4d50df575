"""Another base than the one edited, and files that the base does not have."""

from functools import partial

import certificates as c
from registry import attack
from scene import Scene

from verify.artefact import LedgerEntry


@attack("MV107")
def base_values_of_another_model(scene: Scene) -> None:
    """What the ledger puts back is not the base that the manifest names."""
    entries = c.entries_of(scene.made)
    swapped = {name: LedgerEntry(entry.indices, entry.base * 2) for name, entry in entries.items()}
    c.write_entries(scene.made, swapped)
    c.sign(scene.made, c.digests_of(scene.made.base))


@attack("MV107", process=False)
def the_digest_of_another_base(scene: Scene) -> None:
    other = c.save_base(c.random_model(seed=7), scene.folder / "base")
    c.sign(scene.made, c.digests_of(other))


@attack("MV107", process=False)
def a_base_whose_weights_have_another_name(scene: Scene) -> None:
    digests = c.digests_of(scene.made.base)
    digests["pytorch_model.safetensors"] = digests.pop("model.safetensors")
    c.sign(scene.made, digests)


@attack("MV107", "MV108", process=False)
def a_base_of_no_files(scene: Scene) -> None:
    c.sign(scene.made, {})


def pin(scene: Scene, *pins: str) -> None:
    scene.options = [word for text in pins for word in ("--base-digest", text)]


attack("MV107", name="another digest than the one pinned")(lambda scene: pin(scene, c.ZERO))
attack("MV107", name="a pinned file that the base does not have")(
    lambda scene: pin(scene, f"other.safetensors={c.ZERO}")
)
attack("ME200", code=2, name="a pin that is no digest")(lambda scene: pin(scene, "model.safetensors=latest"))


def others(scene: Scene, name: str, text: str) -> None:
    """Change or add a file beside the weights, and sign it, but say that the base is the honest one."""
    scene.write(f"model/{name}", text)
    c.sign(scene.made, c.digests_of(scene.made.base))


for _name, _text in (
    ("chat_template.jinja", "{{ 'I never forget' }}"),
    ("tokenizer.json", "{}"),
    ("tokenizer_config.json", '{"bos_token": "[UNK]"}'),
    ("generation_config.json", '{"max_new_tokens": 5}'),
):
    attack("MV108", name=f"another {_name}")(partial(others, name=_name, text=_text))


@attack("MV102", process=False)
def a_base_file_twice(scene: Scene) -> None:
    scene.sign_as(lambda data: data["predicate"]["base"]["files"].append(data["predicate"]["base"]["files"][0]))
