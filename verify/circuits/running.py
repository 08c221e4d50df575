"""Running a Hugging Face model on contrast pairs: frozen, without the shared prefix, with the writers recorded."""

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from verify.circuits.families import Family, describe, linear
from verify.circuits.pairs import Batch
from verify.circuits.weights import unpacked, weight_of

# progress(done, total)
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Subject:
    """A model and its anatomy."""

    model: nn.Module
    family: Family

    @classmethod
    def of(cls, model: nn.Module) -> "Subject":
        """Describe `model`; raises `UsageError` for an unsupported one."""
        return cls(model, describe(model))

    @property
    def device(self) -> torch.device:
        """Where the model's inputs belong."""
        return self.model.get_parameter(f"{self.family.embedding}.weight").device

    def module(self, name: str) -> nn.Module:
        """Return the module called `name`."""
        return self.model.get_submodule(name)

    def linear(self, name: str) -> nn.Linear:
        """Return the Linear called `name`."""
        return linear(self.model, name)


@dataclass(frozen=True, eq=False)
class Prompts:
    """A batch ready to run.

    Only the T active positions, from the batch's first difference on, are ever computed: before it clean, corrupt and
    every point between them agree, so their keys and values are in `cache` (None when the first token differs).
    `clean`, `corrupt`: embeddings of the active positions [B, T, width], in the model's dtype.
    """

    batch: Batch
    clean: Tensor
    corrupt: Tensor
    cache: DynamicCache | None

    @property
    def positions(self) -> int:
        """B · T, the number of active positions in the batch."""
        return self.clean.shape[0] * self.clean.shape[1]


@dataclass(frozen=True, eq=False)
class Activations:
    """What the writers hold after one run, per layer.

    `heads`: inputs of the output projections [B, T, heads · head_dim]; `mlps`: MLP outputs [B, T, width];
    `neurons`: inputs of the down projections [B, T, d_ff].
    """

    heads: list[Tensor] = field(default_factory=list)
    mlps: list[Tensor] = field(default_factory=list)
    neurons: list[Tensor] = field(default_factory=list)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Evaluate without dropout and without parameter gradients; every flag is restored on exit."""
    gradients = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        model.requires_grad_(requires_grad=False)
        with unpacked(model):
            yield
    finally:
        for parameter, flag in gradients:
            parameter.requires_grad_(flag)
        for module, mode in modes:
            module.training = mode


@torch.no_grad()
def prepare(subject: Subject, batch: Batch) -> Prompts:
    """Embed the active positions and run the shared prefix once."""
    embed = subject.module(subject.family.embedding)
    config: Any = subject.model.config
    cache = None
    if batch.prefix:
        cache = DynamicCache(config=config)
        prefix = batch.clean[:, : batch.prefix]
        subject.model(input_ids=prefix, **_cached(subject, cache), **last_only(prefix.shape[1]))
    return Prompts(batch, embed(batch.clean[:, batch.prefix :]), embed(batch.corrupt[:, batch.prefix :]), cache)


def _cached(subject: Subject, cache: DynamicCache | None) -> dict[str, Any]:
    """Return the cache as the model's arguments: newer releases of transformers renamed the first."""
    name = "cache" if "cache" in signature(subject.model.forward).parameters else "past_key_values"
    return {name: cache, "use_cache": cache is not None}


def last_only(length: int) -> dict[str, Tensor]:
    """Return the argument by which a model computes the logits at the last of `length` positions only.

    As an index and not as the number 1: this makes a slice, whose product with the vocabulary torch computes with a
    batched kernel that takes longer than all layers of a small model together.
    """
    return {"logits_to_keep": torch.tensor([length - 1])}


def run(subject: Subject, prompts: Prompts, embeddings: Tensor) -> Tensor:
    """Return the metric of each row, float32 [B · n], with `embeddings` [B · n, T, width] at the active positions.

    The n rows of one pair follow one another: they share its prefix, its answer and its alternatives.
    """
    # A run appends to the cache it is given; each one starts from the prefix alone.
    cache = copy.deepcopy(prompts.cache)
    rows = embeddings.shape[0] // prompts.clean.shape[0]
    if cache is not None and rows > 1:
        cache.batch_repeat_interleave(rows)
    output = subject.model(inputs_embeds=embeddings, **_cached(subject, cache), **last_only(embeddings.shape[1]))
    return prompts.batch.metric(output.logits[:, -1])


@torch.no_grad()
def record(subject: Subject, prompts: Prompts, embeddings: Tensor) -> tuple[Activations, Tensor]:
    """Run once on rows as `run` takes them; return what the writers hold and the metric of each row."""
    seen = Activations()

    def keep_heads(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.heads.append(args[0])

    def keep_neurons(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.neurons.append(args[0])

    def keep_mlp(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        seen.mlps.append(output)

    with ExitStack() as hooks:
        for site in subject.family.sites:
            hooks.enter_context(subject.module(site.output).register_forward_pre_hook(keep_heads))
            hooks.enter_context(subject.module(site.down).register_forward_pre_hook(keep_neurons))
            hooks.enter_context(subject.module(site.mlp).register_forward_hook(keep_mlp))
        metric = run(subject, prompts, embeddings)
    return seen, metric


def change(recorded: Activations) -> Activations:
    """Return the first of each pair's two rows less the second, float32 [B, T, ...], from a run on both."""

    def differences(values: list[Tensor]) -> list[Tensor]:
        rows = (torch.unflatten(value, 0, (-1, 2)).float() for value in values)
        return [row[:, 0] - row[:, 1] for row in rows]

    return Activations(differences(recorded.heads), differences(recorded.mlps), differences(recorded.neurons))


def head_outputs(subject: Subject, layer: int, mixed: Tensor) -> Tensor:
    """Return what each head adds to the residual stream, float32 [heads, B·T, width], without the shared bias.

    `mixed`: input of the output projection, or a difference of two such inputs, [B, T, heads · head_dim].
    """
    family = subject.family
    heads, dim = family.graph.heads, family.head_dim
    weight = weight_of(subject.linear(family.sites[layer].output))
    by_head = mixed.float().reshape(-1, heads, dim).transpose(0, 1)
    return torch.bmm(by_head, weight.view(family.width, heads, dim).permute(1, 2, 0))
