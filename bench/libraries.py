"""A Library gives minigrad and PyTorch the same names where their own names differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Library:
    """A Library has the modules of an eager library, and the functions that differ."""

    nn: Any
    functional: Any
    sgd: Any
    tensor: Callable[..., Any]  # tensor(array, requires_grad=False)
    state: Callable[[Any], Any]  # from an array to an entry for load_state_dict
    grad: Callable[..., Any]  # grad(output, inputs, cotangent, retain_graph=...)


def load(name: str) -> Library:
    """Import the library `name` and no other, and return its Library."""
    if name == "minigrad":
        import minigrad as mg
        from minigrad import functional, nn, optim

        return Library(nn, functional, optim.SGD, mg.tensor, lambda array: array, mg.grad)
    if name == "torch":
        import torch
        from torch.nn import functional

        return Library(
            torch.nn, functional, torch.optim.SGD, torch.tensor, torch.tensor, torch.autograd.grad
        )
    raise ValueError(f"load: expected 'minigrad' or 'torch', got {name!r}")
