"""LoRA, then merge: the update in few directions, and so in fewer and larger steps."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from mansu.baselines.ascent import GradDiff
from mansu.baselines.data import BaselineData
from mansu.baselines.method import Loss, Sweep, Trained
from mansu.baselines.preference import NPO
from verify.behaviour.modules import nf4_linears
from verify.errors import UsageError


class LoRA(Trained):
    """Adapters of low rank on every weight that NF4 quantizes, merged before deployment (Boer Abitante et al., 2026).

    The losses are the paper's NPO+GDR or GA+GDR; its rank and scale could not be read, and ours are common ones. The
    adapters and their merge are those of the library `peft`.
    """

    name: ClassVar[str] = "lora"
    title: ClassVar[str] = "LoRA, then merge"
    paper: ClassVar[str] = "2602.13151"
    sweep: ClassVar[Sweep] = Sweep("learning rate", 1e-4)

    rank: int = Field(default=16, ge=1)
    scale: float = Field(default=32.0, gt=0)
    """The update is scale / rank · B A (`lora_alpha`)."""
    forget: Literal["ascent", "npo"] = "npo"
    beta: float = Field(default=0.1, gt=0)
    retain_weight: float = Field(default=1.0, ge=0)

    def require_installed(self) -> None:
        """Raise `UsageError` ME283 where `peft` is not installed."""
        _peft()

    @contextmanager
    def weights(self, model: Any, data: BaselineData, seed: int) -> Iterator[Sequence[nn.Parameter]]:  # noqa: ARG002
        """Train adapters, then merge them; raises `UsageError` ME283 where `peft` is not installed."""
        adapted = self.adapted(model, seed)
        yield [parameter for parameter in model.parameters() if parameter.requires_grad]
        adapted.merge_and_unload()
        model.requires_grad_(False)

    def adapted(self, model: Any, seed: int) -> Any:
        """Put adapters into the model, in place, and return it as peft's own; raises as `weights` does."""
        peft = _peft()
        settings = peft.LoraConfig(
            r=self.rank, lora_alpha=self.scale, lora_dropout=0.0, bias="none", target_modules=list(nf4_linears(model))
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return peft.get_peft_model(model, settings)

    def loss(self, model: Any, data: BaselineData, seed: int) -> Loss:
        """Return NPO's loss or GradDiff's."""
        if self.forget == "ascent":
            return GradDiff(retain_weight=self.retain_weight).loss(model, data, seed)
        return NPO(beta=self.beta, retain_weight=self.retain_weight).loss(model, data, seed)


def _peft() -> Any:
    try:
        import peft  # noqa: PLC0415  (optional)
    except ImportError as error:
        raise UsageError(
            "LoRA needs the package peft, which is not installed",
            expected="peft 0.21 or newer",
            found=str(error),
            remedy="install the extra: pip install 'mansu[lora]'; all other baselines work without it",
            error_id="ME283",
        ) from error
    return peft
