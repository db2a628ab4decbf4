"""What is asked of any part, whatever its kind: gradients, determinism, a move to a device."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution


def require(condition: bool, sentence: str) -> None:
    """Raise an AssertionError with the sentence unless the condition holds."""
    if not condition:
        raise AssertionError(sentence)


def gradients_reach(value: Tensor, what: str, *modules: nn.Module) -> None:
    """Every parameter that is not frozen has a finite gradient that is not all zero."""
    require(value.requires_grad, f"{what}: no gradient leaves it, as of a detached tensor")
    value.backward()
    every = (pair for module in modules for pair in module.named_parameters())
    for name, parameter in (pair for pair in every if pair[1].requires_grad):
        require(parameter.grad is not None, f"{what}: no gradient reaches {name}")
        grad = torch.as_tensor(parameter.grad)
        require(bool(grad.isfinite().all()), f"{what}: the gradient of {name} is not finite")
        require(bool(grad.any()), f"{what}: the gradient of {name} is zero everywhere")


def twice(call: Callable[[torch.Generator], Tensor], what: str) -> Tensor:
    """Call twice with the same seed; the values agree and torch's global state is left alone."""
    before = torch.get_rng_state()
    both = [call(torch.Generator().manual_seed(7)) for _ in range(2)]
    for value in both:
        require(isinstance(value, Tensor), f"{what}: it gives {value!r}, not a tensor")
        require(bool(torch.isfinite(value).all()), f"{what}: a value is not finite")
    require(torch.equal(*both), f"{what}: the same generator gives different values")
    untouched = torch.equal(before, torch.get_rng_state())
    require(untouched, f"{what}: it draws from torch's global generator, not from its own")
    return both[0]


def check_moves(part: nn.Module, what: str) -> None:
    """Check, without another device, that a part or model moves to one whole.

    Raises:
        AssertionError: A plain tensor is among its attributes, in a list, dict or distribution too.
    """
    own = {id(parameter) for parameter in part.parameters()}  # these move in place
    for path, module in part.named_modules():
        for name, value in vars(module).items():
            at = f"{path}.{name}".lstrip(".")
            require(
                name == "_buffers" or all(id(held) in own for held in _tensors(value)),
                f"{what}: `{at}` holds a plain tensor, which stays behind when the part moves to "
                "another device; make it a buffer (`register_buffer`) or a parameter",
            )


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in a value, however deep; modules are not entered."""
    inside = vars(value) if isinstance(value, Distribution) else value
    inside = inside.values() if isinstance(inside, Mapping) else inside
    if isinstance(value, Tensor):
        yield value
    elif inside is not value or isinstance(value, list | tuple | set):
        yield from (tensor for one in inside for tensor in _tensors(one))
