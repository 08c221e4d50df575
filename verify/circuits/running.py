"""Running a Hugging Face model on contrast pairs: frozen, without the shared prefix, with the writers recorded."""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from verify.circuits.families import Family, Norm, Rows, describe, matrix
from verify.circuits.four_bit import unpacked
from verify.circuits.norms import PostNormStep
from verify.circuits.pairs import Batch

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

    def matrix(self, name: str) -> Tensor:
        """Return the weight [outputs, inputs] of the linear layer called `name`."""
        return matrix(self.model, name)

    def weights(self, rows: Rows, units: int) -> Tensor:
        """Return the weights [units, size, inputs] of the rows of each unit."""
        return rows.weights(self.matrix(rows.module), units)


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

    `heads`: inputs of the output projections [B, T, heads · head_dim]; `mlps`: what the MLPs add to the stream
    [B, T, width]; `neurons`: inputs of the down projections [B, T, d_ff], if they were asked for; a mixture of
    experts has none.
    Where post-norms follow, `attended` and `expanded` are their inputs [B, T, width], of attention and MLP.
    """

    heads: list[Tensor] = field(default_factory=list)
    mlps: list[Tensor] = field(default_factory=list)
    neurons: list[Tensor] = field(default_factory=list)
    attended: list[Tensor] = field(default_factory=list)
    expanded: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Changes:
    """What the writers hold in one run less what they hold in another, float32, shaped as in `Activations`.

    `attention_steps`, `mlp_steps`: per layer, how the post-norms pass these changes on; empty without post-norms.
    """

    heads: list[Tensor]
    mlps: list[Tensor]
    neurons: list[Tensor]
    attention_steps: list[PostNormStep]
    mlp_steps: list[PostNormStep]

    def attention_step(self, layer: int) -> PostNormStep | None:
        """Return the post-norm after the attention of `layer`, if there is one."""
        return self.attention_steps[layer] if self.attention_steps else None

    def mlp_step(self, layer: int) -> PostNormStep | None:
        """Return the post-norm after the MLP of `layer`, if there is one."""
        return self.mlp_steps[layer] if self.mlp_steps else None


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
def record(
    subject: Subject, prompts: Prompts, embeddings: Tensor, *, neurons: bool = False
) -> tuple[Activations, Tensor]:
    """Run once on rows as `run` takes them; return what the writers hold and the metric of each row.

    `neurons`, several times as wide as all else, are kept only if asked for.
    """
    seen = Activations()

    def outputs(kept: list[Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda _, __, output: kept.append(output)

    def inputs(kept: list[Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, args: kept.append(args[0])

    with ExitStack() as hooks:
        for site in subject.family.sites:
            hooks.enter_context(subject.module(site.output).register_forward_pre_hook(inputs(seen.heads)))
            hooks.enter_context(subject.module(site.mlp_writer).register_forward_hook(outputs(seen.mlps)))
            if neurons and site.down is not None:
                hooks.enter_context(subject.module(site.down).register_forward_pre_hook(inputs(seen.neurons)))
            for norm, kept in ((site.attention_post, seen.attended), (site.mlp_post, seen.expanded)):
                if norm is not None:
                    hooks.enter_context(subject.module(norm.name).register_forward_pre_hook(inputs(kept)))
        metric = run(subject, prompts, embeddings)
    return seen, metric


def change(subject: Subject, recorded: Activations) -> Changes:
    """Return the first of each pair's two rows less the second, [B, T, ...], from a run on both."""

    def rows(value: Tensor) -> Tensor:
        return torch.unflatten(value, 0, (-1, 2)).float()

    def differences(values: list[Tensor]) -> list[Tensor]:
        return [row[:, 0] - row[:, 1] for row in map(rows, values)]

    def steps(norms: Iterable[Norm | None], values: list[Tensor]) -> list[PostNormStep]:
        named = [norm for norm in norms if norm is not None]
        pairs = zip(named, map(rows, values), strict=True)
        return [PostNormStep.between(subject.model, norm, row[:, 0], row[:, 1]) for norm, row in pairs]

    sites = subject.family.sites
    return Changes(
        heads=differences(recorded.heads),
        mlps=differences(recorded.mlps),
        neurons=differences(recorded.neurons),
        attention_steps=steps((site.attention_post for site in sites), recorded.attended),
        mlp_steps=steps((site.mlp_post for site in sites), recorded.expanded),
    )


def head_outputs(
    subject: Subject, layer: int, mixed: Tensor, step: PostNormStep | None = None, *, out: Tensor | None = None
) -> Tensor:
    """Return what each head adds to the residual stream, float32 [heads, B·T, width], without the shared bias.

    `mixed`: input of the output projection, or a difference of two such inputs, [B, T, heads · head_dim].
    `step`: how a post-norm after it passes the difference on. `out`: where to put the result.
    """
    family = subject.family
    heads, dim = family.graph.heads, family.head_dim
    weight = subject.matrix(family.sites[layer].output).float()
    by_head = mixed.float().reshape(-1, heads, dim).transpose(0, 1)
    written = torch.bmm(by_head, torch.unflatten(weight, 1, (heads, dim)).permute(1, 2, 0), out=out)
    if step is None:
        return written
    passed = step.forward(written)
    return passed if out is None else out.copy_(passed)
