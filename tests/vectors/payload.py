"""Vectors that are well formed and duly signed, and refused for what they say or hold."""

import json
from collections.abc import Callable
from typing import Any

import certificates as c
import producer as p
import torch
from case import Cases, Given
from safetensors.torch import load_file, save_file
from torch import Tensor

from verify.artefact import LedgerEntry, fingerprint

CASES = Cases()
ADD = CASES.add
Change = Callable[[Any], object]

# --- the base and the ledger's rule ----------------------------------------------------------------------------------


@ADD("The ledger's base values are another model's: what it rebuilds is not the base that the manifest names.", "MV107")
def swapped_base(made: c.Certificate) -> None:
    entries = {name: LedgerEntry(entry.indices, entry.base * 2) for name, entry in c.entries_of(made).items()}
    c.write_entries(made, entries)
    p.sign_again(made)


@ADD("The manifest names another base.", "MV107")
def digest_of_another_base(made: c.Certificate) -> None:
    def change(statement: Any) -> None:
        for file in statement["predicate"]["base"]["files"]:
            if file["name"] == "model.safetensors":
                file["sha256"] = c.ZERO

    p.sign_again(made, change)


@ADD("One value is changed that the ledger does not list.", "MV107")
def unmasked_change(made: c.Certificate) -> None:
    indices, values = p.moves(c.linear_weights(made.base)[p.UNMASKED])
    c.poke(made, p.UNMASKED, int(indices[0]), values[0])
    p.sign_again(made)


@ADD("The mask is a strict subset of the change: the ledger lost an entry.", "MV107")
def shrunken_mask(made: c.Certificate) -> None:
    entries = c.entries_of(made)
    entry = entries[p.MASKED]
    c.write_entries(made, {**entries, p.MASKED: LedgerEntry(entry.indices[1:], entry.base[1:])})
    p.sign_again(made)


@ADD("The ledger lost a whole tensor.", "MV107")
def shrunken_mask_by_a_tensor(made: c.Certificate) -> None:
    entries = c.entries_of(made)
    del entries[p.MASKED]
    c.write_entries(made, entries)
    p.sign_again(made)


@ADD("An undeclared change is hidden in a falsified base; only the digest that the user pins can tell.", "MV107")
def falsified_base_under_a_pin(made: c.Certificate) -> Given:
    indices, values = p.moves(c.linear_weights(made.base)[p.UNMASKED])
    c.poke(made, p.UNMASKED, int(indices[0]), values[0])
    p.sign_again(made, p.with_base(made))
    return Given(base_digests={"model.safetensors": c.digests_of(made.base)["model.safetensors"]})


@ADD("The user pins a file that the base does not have.", "MV107")
def pin_of_a_missing_file(_: c.Certificate) -> Given:
    return Given(base_digests={"other.safetensors": c.ZERO})


# --- the declared mask -----------------------------------------------------------------------------------------------


def mask(name: str, about: str, change: Change) -> None:
    """Add a vector whose mask is misstated."""

    @ADD(about, "MV109", name=name)
    def _(made: c.Certificate) -> None:
        p.sign_again(made, lambda statement: change(statement["predicate"]["mask"]))


mask(
    "masked-misstated",
    "One masked value fewer is declared than the ledger has.",
    lambda m: m.update(masked=m["masked"] - 1),
)
mask(
    "parameters-misstated",
    "More parameters are declared than the model has.",
    lambda m: m.update(parameters=m["parameters"] * 1000),
)
mask("tensor-left-out-of-the-mask", "A masked tensor is not declared.", lambda m: m["tensors"].pop())
mask("tensor-total-misstated", "A tensor is declared larger than it is.", lambda m: m["tensors"][0].update(total=10**6))
mask("digest-of-another-ledger", "The mask names another ledger.", lambda m: m.update(ledger_sha256=c.ZERO))


@ADD("A masked value is put back: it is in the ledger and equals the base's.", "MV109", "MV203", "MV204")
def masked_value_put_back(made: c.Certificate) -> None:
    c.poke(made, *p.a_masked_value(made))
    p.sign_again(made)


# --- the five rows ---------------------------------------------------------------------------------------------------


def moved(made: c.Certificate, by: float) -> None:
    """Move a masked value to its base value and a part of its block's scale, and sign."""
    name, index, base = p.a_masked_value(made)
    value = base.float() + by * p.scale_at(made, name, index) * (-1 if base > 0 else 1)
    c.poke(made, name, index, value.to(torch.bfloat16))
    p.sign_again(made)


@ADD("A masked value moved by less than half its bin.", "MV203")
def half_bin_move(made: c.Certificate) -> None:
    moved(made, 0.03)


@ADD("A masked value lies on the threshold between two codes, as nearly as bfloat16 can.", "MV205")
def on_a_threshold(made: c.Certificate) -> None:
    from verify.nf4 import THRESHOLDS

    name, index, base = p.a_masked_value(made)
    scale = p.scale_at(made, name, index)
    near = (THRESHOLDS * scale).to(torch.bfloat16)
    far = near[(near.float() - base.float()).abs().argsort(descending=True)]
    c.poke(made, name, index, far[2])
    p.sign_again(made)


@ADD("A masked value beyond its block's scale rescales its neighbours.", "MV207", "MV208")
def raised_scale(made: c.Certificate) -> None:
    name, index, _ = p.a_masked_value(made)
    c.poke(made, name, index, (3 * p.scale_at(made, name, index)).to(torch.bfloat16))
    p.sign_again(made)


@ADD("The value that holds a block's scale is masked and made small: the block's other codes change.", "MV207", "MV208")
def lowered_scale(made: c.Certificate) -> None:
    weight = c.linear_weights(made.base)[p.UNMASKED].reshape(-1)
    holder = int(weight[:64].abs().argmax())
    p.declare(made, p.UNMASKED, holder, (weight[holder].float() * 0.01).to(torch.bfloat16))
    p.sign_again(made)


def spoiled(made: c.Certificate, value: float, tensor: str = p.MASKED) -> None:
    index = p.a_masked_value(made)[1] if tensor == p.MASKED else 0
    made_of = torch.tensor(value, dtype=torch.bfloat16)
    if tensor == p.MASKED:
        c.poke(made, tensor, index, made_of)
        p.sign_again(made)
    else:
        c.poke(made, tensor, index, made_of)
        p.sign_again(made, p.with_base(made))


@ADD("A masked value is NaN.", "MV201")
def not_a_number(made: c.Certificate) -> None:
    spoiled(made, float("nan"))


@ADD("An unmasked value is infinite, in the base too.", "MV201")
def infinite_weight_of_the_base(made: c.Certificate) -> None:
    spoiled(made, float("inf"), p.EMBEDDING)


@ADD("A masked value is finite as stored and infinite in the float16 that a profile claims.", "MV201")
def cast_overflows(made: c.Certificate) -> None:
    spoiled(made, 1e30)


@ADD("Masked values in the embedding, which NF4 does not quantize, beside honest ones.", "MV202")
def decoy_in_the_embedding(made: c.Certificate) -> None:
    p.declare(made, p.EMBEDDING, 5, c.value_at(made, p.EMBEDDING, 5) + 1)
    p.sign_again(made)


@ADD("Nothing but decoys: a norm's values are masked and no linear weight.", "MV202", "MV210")
def decoys_alone(made: c.Certificate) -> None:
    norm = "model.norm.weight"
    p.remake(made, p.weights(), changed={norm: (torch.arange(3), torch.full((3,), 2, dtype=torch.bfloat16))})


@ADD("Every move is valid, and too many are made: more than 0.5 % of the parameters.", "MV209")
def too_dense(made: c.Certificate) -> None:
    p.remake(made, p.weights(), changed=p.edits(made.base, each=20))


def profiles(name: str, about: str, refused_by: str, *claimed: dict[str, Any]) -> None:
    """Add a vector that claims other profiles."""

    @ADD(about, refused_by, name=name)
    def _(made: c.Certificate) -> None:
        if any("skip" in profile for profile in claimed):
            p.remake(made, p.weights(), tokenizer=True)
        p.sign_again(made, lambda statement: statement["predicate"].update(profiles=list(claimed)))


profiles(
    "no-usual-profile",
    "Only blocks of 128 are claimed: nothing is said of the usual deployment.",
    "MV211",
    {"block_size": 128},
)
profiles(
    "usual-profile-only-with-a-cast",
    "Blocks of 64 are claimed for weights cast to float16 alone.",
    "MV211",
    {"cast": "fp16"},
)
profiles(
    "masked-module-skipped",
    "A profile leaves out the modules that hold the edit.",
    "MV202",
    {},
    {"skip": ["down_proj", "lm_head"]},
)
profiles("everything-skipped", "A profile that quantizes nothing of the edit.", "MV202", {}, {"skip": ["model"]})

# --- the model's folder ----------------------------------------------------------------------------------------------


def config(made: c.Certificate, *, also_the_base: bool, **changes: Any) -> None:
    path = made.out / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}))
    p.sign_again(made, p.base_as_it_lies(made) if also_the_base else lambda _: None)


@ADD("Another configuration than the base's, which changes what the model says.", "MV108")
def another_config(made: c.Certificate) -> None:
    config(made, also_the_base=False, rms_norm_eps=0.1)


@ADD("A file that the base does not have.", "MV108")
def added_file(made: c.Certificate) -> None:
    (made.out / "model" / "chat_template.jinja").write_text("{{ 'I never forget' }}")
    p.sign_again(made)


@ADD("A file of the base is gone.", "MV108")
def removed_file(made: c.Certificate) -> None:
    extra = {"name": "generation_config.json", "sha256": c.ZERO}
    p.sign_again(made, lambda statement: statement["predicate"]["base"]["files"].append(extra))


@ADD("The configuration loads code, in the base too.", "MV106")
def config_loads_code(made: c.Certificate) -> None:
    config(made, also_the_base=True, auto_map={"AutoModelForCausalLM": "x.X"})


@ADD("The configuration says that the weights are quantized already, in the base too.", "MV106")
def config_quantizes(made: c.Certificate) -> None:
    config(made, also_the_base=True, quantization_config={"load_in_4bit": True})


@ADD("The configuration describes more layers than there are weights, in the base too.", "MV106")
def config_does_not_fit(made: c.Certificate) -> None:
    config(made, also_the_base=True, num_hidden_layers=2)


@ADD("The configuration ties nothing, and there is no output head.", "MV106")
def config_without_head(made: c.Certificate) -> None:
    config(made, also_the_base=True, tie_word_embeddings=False)


def beside(name: str, about: str, file: str, content: bytes) -> None:
    """Add a vector with a file in the model's folder that the base has too."""

    @ADD(about, "MV106", name=name)
    def _(made: c.Certificate) -> None:
        (made.out / "model" / file).write_bytes(content)
        p.sign_again(made, p.base_as_it_lies(made))


beside("python-code", "Python code in the folder, in the base too.", "modeling.py", b"print('hello')\n")
beside("pickle-by-content", "A pickle under a harmless name, in the base too.", "vocab.txt", b"\x80\x04N.")
beside("adapter", "An adapter that loaders apply, in the base too.", "adapter_config.json", b'{"peft_type": "LORA"}')


@ADD("The output head is tied to the embedding, and stored with other values.", "MV106")
def second_output_head(made: c.Certificate) -> None:
    tensors = p.weights()
    p.remake(made, {**tensors, "lm_head.weight": tensors[p.EMBEDDING] + 1})


@ADD("Weights of two types in one model.", "MV106")
def two_dtypes(made: c.Certificate) -> None:
    def widened(name: str, value: Tensor) -> Tensor:
        return value.float() if name == p.EMBEDDING else value

    tensors = load_file(made.model)
    save_file({name: widened(name, value) for name, value in tensors.items()}, made.model, metadata={"format": "pt"})
    p.sign_again(made)


# --- what a policy requires ------------------------------------------------------------------------------------------


def policy(
    name: str, about: str, refused_by: str, text: str, change: Change = lambda _: None, *, keys: bool = True
) -> None:
    """Add a vector that a policy refuses; `text` stands below its level."""

    @ADD(about, refused_by, name=name)
    def _(made: c.Certificate) -> Given:
        p.sign_again(made, lambda statement: change(statement["predicate"]))
        level = "" if text.startswith("level") else 'level = "static"\n'
        (made.out.parent / "policy.toml").write_text(level + text)
        return Given(policy="policy.toml") if keys else Given(keys=(), policy="policy.toml")


STRANGER = fingerprint(p.key("stranger").public_key())
policy("replayed-sequence", "An older certificate than the policy accepts.", "MV505", "minimum_sequence = 2\n")
policy("too-old", "A manifest older than the policy accepts.", "MV504", "maximum_age_days = 1\n")
policy(
    "from-the-future",
    "A manifest dated in the year 2999.",
    "MV504",
    "maximum_age_days = 36500\n",
    lambda said: said.update(created="2999-01-01T00:00:00Z"),
)
policy(
    "date-without-offset",
    "A local time, which is no moment, where the policy limits the age.",
    "MV504",
    "maximum_age_days = 36500\n",
    lambda said: said.update(created="2026-01-01T00:00:00"),
)
policy("not-pre-registered", "The policy wants to have been committed to.", "MV506", "pre_registered = true\n")
policy(
    "pre-registered-to-another",
    "The manifest committed to another policy.",
    "MV506",
    "pre_registered = true\n",
    lambda said: said.update(policy_sha256=c.ZERO),
)
policy(
    "profile-not-claimed",
    "The policy requires a profile that is not claimed.",
    "MV503",
    "[[profiles]]\nblock_size = 256\n",
)
policy(
    "base-not-allowed",
    "The policy allows another base alone.",
    "MV502",
    f'[[bases]]\nname = "another"\n[bases.files]\n"model.safetensors" = "{c.ZERO}"\n',
)
policy(
    "signer-not-listed",
    "The policy trusts a stranger alone.",
    "MV508",
    f'[[trusted_keys]]\nfingerprint = "{STRANGER}"\npath = "../../keys/stranger.pem"\n',
    keys=False,
)
policy("level-not-reached", "The policy requires model runs, and static checks are made.", "MV501", 'level = "full"\n')
policy("too-few-masked", "The policy requires more masked values.", "MV210", "minimum_masked = 1000\n")
policy("wider-margin", "The policy requires a margin that the edit does not keep.", "MV205", "margin = 0.06\n")
policy(
    "stricter-sparsity",
    "The policy allows a smaller share of changed parameters.",
    "MV209",
    "maximum_changed = 0.0001\n",
)
