"""The corpus: a few small inputs for each target, good and hostile, from which fuzzers start and which tests replay.

`python tests/fuzz/corpus.py` writes the generated part anew; minimised finds are added by hand, as `find-*`.
"""

import hashlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
for folder in (HERE.parent, HERE.parent / "attacks"):
    sys.path.insert(0, str(folder))

CORPUS = HERE / "corpus"
LARGEST = 4096


def read(target: str) -> dict[str, bytes]:
    """Return the inputs of a target, by file name; and let `manifest` know the payloads that are truly signed."""
    import base64

    import targets

    found = {path.name: path.read_bytes() for path in sorted((CORPUS / target).iterdir())}
    if target == "manifest":
        for name in found:
            if name.startswith("good"):
                payload = base64.b64decode(json.loads(found[name])["dsseEnvelope"]["payload"])
                targets.SIGNED.add(hashlib.sha256(payload).hexdigest())
    return found


def write() -> None:
    for target, inputs in generated().items():
        (CORPUS / target).mkdir(parents=True, exist_ok=True)
        for name, data in inputs.items():
            assert len(data) <= LARGEST
            (CORPUS / target / name).write_bytes(data)


def generated() -> dict[str, dict[str, bytes]]:
    import manifests
    import rfc8785
    import targets
    import test_tensors
    import torch

    from verify.artefact import LedgerEntry, bundle, oms
    from verify.artefact.ledger import write as write_ledger
    from verify.artefact.signing import Signer
    from verify.contract.manifest import PAYLOAD_TYPE

    def named(inputs: dict[str, bytes]) -> dict[str, bytes]:
        return {name.replace(" ", "-").replace("/", "-"): data for name, data in inputs.items() if len(data) <= LARGEST}

    good = rfc8785.dumps(manifests.STATEMENT)
    bundles = {name: data for name, (data, *_) in manifests.ATTACKS.items()}
    payloads = {
        name: bundle.envelope.read(json.loads(data)["dsseEnvelope"]).payload
        for name, data in bundles.items()
        if name.startswith(
            ("payload", "unknown field in the predicate", "subject twice", "no profiles", "no subject", "number")
        )
    }
    entry = LedgerEntry(torch.tensor([1, 5]), torch.tensor([0.5, 1.0], dtype=torch.bfloat16))
    ledgers = {"good": write_ledger({"w": entry}), "two": write_ledger({"w": entry, "v": entry})}
    ledgers |= {f"header-{name}": data[8 : 8 + int.from_bytes(data[:8], "little")] for name, data in ledgers.items()}
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 1, "hidden_size": 8,
        "intermediate_size": 8, "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 5,
        "dtype": "bfloat16", "hidden_act": "silu", "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    }  # fmt: skip
    configs = {name: json.dumps(config | change).encode() for name, change in (
        ("good", {}), ("qwen", {"model_type": "qwen3", "head_dim": 4}), ("code", {"auto_map": {}}),
        ("kernel", {"attn_implementation": {"": "a/b"}}), ("nested", {"a": [{"dtype": "float16"}]}),
    )}  # fmt: skip
    shards = {"a": "a.safetensors", "b": "b.safetensors"}
    indices = {"good": json.dumps({"metadata": {"total_size": 8}, "weight_map": shards}).encode()}
    indices |= {name: text.encode() for name, (text, _) in test_tensors.INDEX_ATTACKS.items()}
    files = {name: data for name, (data, _) in test_tensors.ATTACKS.items()} | {"good": test_tensors.one()}
    files |= {"header-good": f'{{"w":{test_tensors.GOOD}}}'.encode()}
    texts = {
        "array": b"[1, -2.5e3, true, null]",
        "string": b'{"\\u00e9": "\\ud83d\\ude00"}',
        "big": b"[12345678901234567890]",
    }
    example = (HERE.parent.parent / "docs" / "policy.md").read_text(encoding="utf-8")
    example = example.split("```toml\n", 1)[1].split("```", 1)[0]
    policies = {
        "good": "level = 'full'\n",
        "good-example": example[: example.rindex("\n\n", 0, LARGEST)],
        "unknown": "level = 'full'\ncat = 1\n",
    }
    policies |= {"no-level": "cad = 0.9\n", "range": "level = 'static'\nmargin = -1\n", "dots": "a.b.c.d = 1\n"}
    signature = oms.sign("model", targets.OMS_FILES, Signer(targets.KEY))
    signatures = {"good": signature, "short": signature[:-9], "manifest": bundle.pack(good, PAYLOAD_TYPE, targets.KEY)}
    return {
        "header": named(files),
        "index": named(indices),
        "manifest": named({**bundles, "good": bundle.pack(good, PAYLOAD_TYPE, targets.KEY)}),
        "statement": named({**payloads, "good": good}),
        "ledger": named(ledgers),
        "configuration": named(configs),
        "policy": named({name: text.encode() for name, text in policies.items()}),
        "oms": signatures,
        "json": named(texts),
    }


if __name__ == "__main__":
    write()
