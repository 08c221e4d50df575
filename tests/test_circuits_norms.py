"""Norms: the step of a post-norm is exact, linear, and the Jacobian where its ends meet."""

import pytest
import torch
from test_circuits_families import tiny
from torch import Tensor, nn

from verify.circuits.families import Norm, describe
from verify.circuits.norms import PostNormStep, normed


@pytest.fixture(name="gemma")
def _gemma() -> tuple[nn.Module, Norm, Tensor, Tensor]:
    model = tiny("gemma2")
    post = describe(model).sites[1].attention_post
    assert post is not None
    generator = torch.Generator().manual_seed(3)
    one, other = (torch.randn(2, 5, 32, generator=generator) * scale for scale in (1.0, 3.0))
    return model, post, one, other


def test_a_step_carries_the_whole_change(gemma: tuple[nn.Module, Norm, Tensor, Tensor]) -> None:
    model, post, one, other = gemma
    norm = model.get_submodule(post.name)
    step = PostNormStep.between(model, post, one, other)
    with torch.no_grad():
        torch.testing.assert_close(step.forward((one - other).flatten(0, 1)), (norm(one) - norm(other)).flatten(0, 1))
        back = PostNormStep.between(model, post, other, one)
    torch.testing.assert_close(back.forward(one.flatten(0, 1)), step.forward(one.flatten(0, 1)))


def test_a_step_of_nothing_is_the_jacobian(gemma: tuple[nn.Module, Norm, Tensor, Tensor]) -> None:
    model, post, one, other = gemma
    step = PostNormStep.between(model, post, one, one)
    _, wanted = torch.autograd.functional.jvp(model.get_submodule(post.name), one, other)
    torch.testing.assert_close(step.forward(other.flatten(0, 1)), wanted.detach().flatten(0, 1), rtol=1e-4, atol=1e-5)


def test_backward_is_the_transpose_of_forward(gemma: tuple[nn.Module, Norm, Tensor, Tensor]) -> None:
    model, post, one, other = gemma
    step = PostNormStep.between(model, post, one, other)
    change, gradient = torch.randn(4, 10, 32), torch.randn(4, 10, 32)
    torch.testing.assert_close(
        (step.forward(change) * gradient).sum(-1), (change * step.backward(gradient)).sum(-1), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("centred", [False, True])
def test_normed_is_the_norm_without_gain_and_bias(centred: bool) -> None:
    x = torch.randn(3, 4, 16) + 2
    module = nn.LayerNorm(16, eps=1e-3) if centred else nn.RMSNorm(16, eps=1e-3)
    at = normed(Norm("any", 1e-3, centred=centred), x)
    torch.testing.assert_close(at.stream * at.inverse, module(x).detach())
