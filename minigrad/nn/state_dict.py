"""This file checks a state dict against the module that is to load it."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..engine.tensor import Tensor
from ..errors import StateDictError
from ..types import Array


class Keys(NamedTuple):
    """Keys has the names that load_state_dict(strict=False) has left out."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def fitting(
    own: Mapping[str, Tensor], state: Mapping[str, ArrayLike], strict: bool, name: str
) -> tuple[dict[str, Array], Keys]:
    """Return the arrays of `state` for the Tensors in `own`, and the keys that only one of them
    has.

    strict: such keys are errors. Errors: StateDictError, beginning with `name`, that lists all that
    is wrong.
    """
    if not isinstance(state, Mapping):
        raise StateDictError(
            f"{name}: expected a dict of arrays by name, got {type(state).__name__}"
        )
    keys = Keys([k for k in own if k not in state], [k for k in state if k not in own])
    problems = []
    if strict:
        problems += [f"missing key '{k}'" for k in keys.missing_keys]
        problems += [f"unexpected key '{k}'" for k in keys.unexpected_keys]
        if problems:
            problems.append("rename those keys, or leave them out with strict=False")
    arrays = {}
    for k, value in state.items():
        if k not in own:
            continue
        try:
            new = arrays[k] = np.asarray(value)
        except Exception as error:  # ragged, or whatever a foreign tensor raises
            problems.append(f"'{k}' makes no array ({error})")
            continue
        if new.shape != own[k].shape:
            problems.append(f"'{k}' has shape {new.shape}, expected {own[k].shape}")
        elif new.dtype != own[k].dtype:
            problems.append(
                f"'{k}' is {new.dtype}, expected {own[k].dtype} (convert it, or the module "
                "with .to)"
            )
        elif not own[k].data.flags.writeable:
            problems.append(f"'{k}' is read-only here")
    if problems:
        raise StateDictError(f"{name}: nothing was loaded: " + "; ".join(problems))
    return arrays, keys
