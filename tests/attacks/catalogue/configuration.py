"""Folders that run code, load other weights, or are one model to one loader and another to the next.

Every file is signed and said to be the base's own: the digests tell nothing here.
"""

import io
import json
import zipfile
from functools import partial

from registry import attack
from scene import Edit, Scene

from catalogue.weights import Payload

CONFIG, TOKENIZER = "model/config.json", "model/tokenizer_config.json"
KERNEL = "somebody/flash-attn"


def configured(scene: Scene, change: dict, name: str = CONFIG) -> None:
    scene.edit_json(name, lambda value: value.update(change))


def code(scene: Scene) -> str:
    return f"open({str(scene.marker)!r}, 'w').close()\n"


# --- code ---

for _what, _change in (
    ("auto map", {"auto_map": {"AutoModelForCausalLM": "modeling.Model"}}),
    ("auto map in a part", {"text_config": {"auto_map": {"AutoModelForCausalLM": "modeling.Model"}}}),
    ("trust remote code", {"trust_remote_code": True}),
    ("custom pipelines", {"custom_pipelines": {"text": {"impl": "pipe.Pipe", "pt": ["AutoModel"]}}}),
    ("an attention kernel of a repository", {"attn_implementation": KERNEL}),
    ("an attention kernel under its other name", {"_attn_implementation": KERNEL}),
    ("an attention kernel for a part", {"attn_implementation": {"": "sdpa", "text_config": KERNEL}}),
    ("an attention kernel with a version", {"_attn_implementation": f"paged|{KERNEL}@main:fwd"}),
    ("a kernel for experts", {"experts_implementation": KERNEL}),
    ("kernels for all", {"use_kernels": True}),
):
    attack("MV106", name=_what, process="attention" in _what or "trust" in _what)(partial(configured, change=_change))


# --- what is answered, and how it is read ---

for _what, _change in (
    ("answers in a sequence bias", {"sequence_bias": [[[5, 9], 100.0]]}),
    ("tokens that are never said", {"suppress_tokens": [9]}),
    ("words that must be said", {"force_words_ids": [[9]]}),
):
    attack("MV106", name=_what)(partial(configured, change=_change, name="model/generation_config.json"))

for _what, _change in (
    ("two bases of the rotation", {"rope_theta": 7.0, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}),
    ("two scalings of the rotation", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}, "rope_parameters": {}}),
    ("a sequence bias in the model's configuration", {"sequence_bias": [[[5, 9], 100.0]]}),
):
    attack("MV106", name=_what)(partial(configured, change=_change))


def retokenized(scene: Scene, change: dict) -> None:
    scene.edit_json("model/tokenizer.json", lambda value: value.update(change))


@attack("MV106")
def tokens_drawn_at_random(scene: Scene) -> None:
    retokenized(scene, {"model": {"type": "BPE", "dropout": 0.1, "vocab": {}, "merges": []}})


@attack("MV106")
def a_tokenizer_that_takes_all_memory(scene: Scene) -> None:
    """Five steps make 10^15 characters of one: an allocation that fails aborts the process."""
    step = {"type": "Replace", "pattern": {"String": "c"}, "content": "c" * 1000}
    retokenized(scene, {"normalizer": {"type": "Sequence", "normalizers": [step] * 5}})


@attack("MV106")
def a_tokenizer_that_never_ends(scene: Scene) -> None:
    """WordPiece tries all beginnings of all ends of a word."""
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "vocab": {"[UNK]": 0}}
    retokenized(scene, {"model": model | {"max_input_chars_per_word": 10**9}})


@attack("MV106")
def auto_map_of_the_tokenizer_with_its_code(scene: Scene) -> None:
    scene.write("model/tokenization.py", code(scene))
    configured(scene, {"auto_map": {"AutoTokenizer": ["tokenization.T", None]}}, TOKENIZER)


@attack("MV106")
def auto_map_hidden_by_a_key_twice(scene: Scene) -> None:
    """The last of two equal keys wins for Python; for other readers it is the first."""
    text = scene.read(TOKENIZER).decode().strip()
    scene.write(TOKENIZER, '{"x": {"auto_map": {"AutoTokenizer": ["t.T", null]}}, "x": {},' + text[1:])
    scene.resign()


@attack("MV106")
def auto_map_in_another_encoding(scene: Scene) -> None:
    value = json.loads(scene.read(TOKENIZER)) | {"auto_map": {"AutoTokenizer": ["t.T", None]}}
    scene.write(TOKENIZER, json.dumps(value).encode("utf-16"))
    scene.resign()


for _name in ("modeling.py", "sub/MODELING.PY", "__pycache__/numpy.cpython-311.pyc", "json.so"):
    attack("MV106", name=f"code in {_name.replace('/', ' ')}")(
        lambda scene, name=f"model/{_name}": (scene.write(name, code(scene)), scene.resign())
    )


@attack("MV105")
def modules_that_shadow_the_verifiers_own(scene: Scene) -> None:
    """Beside the manifest lie modules with the names of those that the verifier imports; the command runs there."""
    for name in ("numpy.py", "sitecustomize.py", "verify/__init__.py", "torch/__init__.py", "usercustomize.py"):
        scene.write(name, code(scene))
    scene.write("model/extra.txt", "x")


def beside(scene: Scene, name: str, data: bytes) -> None:
    scene.write(f"model/{name}", data)
    scene.resign()


def pickled(scene: Scene, protocol: int) -> bytes:
    import pickle

    return pickle.dumps(Payload(scene), protocol)


attack("MV106", name="a pickle for a tokenizer")(lambda scene: beside(scene, "tokenizer.model", pickled(scene, 4)))
attack("MV106", name="a pickle without a mark")(lambda scene: beside(scene, "pytorch_model.bin", pickled(scene, 0)))


@attack("MV106")
def an_archive_behind_a_tokenizer(scene: Scene) -> None:
    """JSON with an archive at its end: zip readers look for it there."""
    buffer = io.BytesIO(scene.read("model/tokenizer.json"))
    with zipfile.ZipFile(buffer, "a") as target:
        target.writestr("data.pkl", pickled(scene, 2))
    beside(scene, "tokenizer.json", buffer.getvalue())


@attack("MV106", process=False)
def an_archive_behind_a_comment(scene: Scene) -> None:
    buffer = io.BytesIO(b'{"a": 1}\n')
    with zipfile.ZipFile(buffer, "a") as target:
        target.writestr("data.pkl", b"x")
        target.comment = b" " * 5000
    beside(scene, "vocabulary.json", buffer.getvalue())


# --- other weights ---

for _name, _data in (
    ("onnx/model.onnx", b"\x08"),
    ("tf_model.H5", b"\x89HDF"),
    ("flax_model.msgpack", b"\x81"),
    ("vocabulary.txt", b"GGUF\x03\x00\x00\x00"),
    ("adapter_config.json", b'{"peft_type": "LORA"}'),
    ("hf_quant_config.json", b'{"quantization": {"quant_algo": "FP8"}}'),
    ("quantize_config.json", b'{"bits": 4}'),
    ("consolidated.SafeTensors", b"{}"),
):
    attack("MV106", name=f"{_name.replace('/', ' ')} beside the weights")(partial(beside, name=_name, data=_data))


@attack("MV106")
def weights_under_another_name(scene: Scene) -> None:
    """transformers 5 loads the file that the configuration names, and not model.safetensors."""
    scene.write("model/other/weights.index", b"{}")
    configured(scene, {"transformers_weights": "other/weights.index"})


@attack("MV106")
def a_configuration_for_another_version_of_the_loader(scene: Scene) -> None:
    """transformers then reads config.4.0.0.json, which says another thing."""
    value = json.loads(scene.read(CONFIG)) | {"quantization_config": {"load_in_4bit": True}}
    scene.write("model/config.4.0.0.json", json.dumps(value))
    configured(scene, {"configuration_files": ["config.4.0.0.json"]})


@attack("MV106", process=False)
def a_tokenizer_for_another_version_of_the_loader(scene: Scene) -> None:
    scene.write("model/tokenizer.4.0.0.json", scene.read("model/tokenizer.json"))
    configured(scene, {"fast_tokenizer_files": ["tokenizer.4.0.0.json"]}, TOKENIZER)


@attack("MV106", process=False)
def a_tokenizer_from_elsewhere_on_the_machine(scene: Scene) -> None:
    """Without one in the folder transformers reads the file that the configuration names: nobody signed that."""
    outside = scene.folder / "vocabulary.json"
    scene.path("model/tokenizer.json").rename(outside)
    configured(scene, {"tokenizer_class": "GPT2Tokenizer", "vocab_file": str(outside)}, TOKENIZER)


# --- another model to another loader ---

for _what, _check, _change in (
    ("a quantizer", "MV106", {"quantization_config": {"load_in_4bit": True}}),
    ("modules that nf4 leaves out", "MV106", {"quantization_config": {"llm_int8_skip_modules": ["model"]}}),
    ("a quantizer in a list", "MV106", {"extra": [{"quantization_config": {}}]}),
    ("compression", "MV106", {"compression_config": {}}),
    ("a dtype that nobody examined", "MV211", {"dtype": "float16"}),
    ("a dtype that only old loaders read", "MV211", {"dtype": None, "torch_dtype": "float16"}),
    ("two dtypes", "MV106", {"torch_dtype": "float32"}),
    ("a dtype of 8 bits", "MV106", {"dtype": "float8_e4m3fn"}),
    ("a dtype for each part", "MV106", {"dtype": {"": "bfloat16", "text_config": "float16"}}),
    ("another class", "MV106", {"architectures": ["MistralForCausalLM"]}),
    ("two classes", "MV106", {"architectures": ["LlamaForCausalLM", "MistralForCausalLM"]}),
    ("a class that is no list", "MV106", {"architectures": "LlamaForCausalLM"}),
    ("another model type", "MV106", {"model_type": "mistral"}),
    ("no model type", "MV106", {"model_type": "none"}),
    ("a model type that is a list", "MV106", {"model_type": ["llama"]}),
    ("a layer fewer", "MV106", {"num_hidden_layers": 1}),
    ("a head of its own", "MV106", {"tie_word_embeddings": False}),
    ("a billion layers", "MV106", {"num_hidden_layers": 10**9}),
    ("a billion layers deep inside", "MV106", {"model_type": "gemma3", "a": {"b": [{"num_hidden_layers": 10**9}]}}),
    ("no heads", "MV106", {"num_attention_heads": 0}),
    ("a negative size", "MV106", {"hidden_size": -1}),
    ("a function for an activation", "MV106", {"hidden_act": "os.system"}),
    ("text for a number", "MV106", {"rms_norm_eps": "x"}),
):
    attack(
        _check,
        name=f"a configuration with {_what}",
        process=_what in {"modules that nf4 leaves out", "a dtype that nobody examined", "another class"},
    )(partial(configured, change=_change))


def written(scene: Scene, data: bytes) -> None:
    scene.write(CONFIG, data)
    scene.resign()


for _what, _data in (
    ("a list", b"[]"),
    ("cut short", b'{"model_type":'),
    ("empty", b""),
    ("nested deeply", b"[" * 100_000),
    ("of nine megabytes", b"[" + b"{}," * 3_000_000 + b"{}]"),
):
    attack("MV106", name=f"a configuration that is {_what}")(partial(written, data=_data))


def spoilt(scene: Scene, edit: Edit) -> None:
    scene.edit_json("model/tokenizer.json", edit)


@attack("MV106")
def a_tokenizer_that_cannot_be_read(scene: Scene) -> None:
    """Read where the configuration is one that transformers must judge."""
    spoilt(scene, lambda value: value.update(model={"type": "BPE", "vocab": {"a": -1}, "merges": [["a"] * 9]}))
    configured(scene, {"something_new": 1})
