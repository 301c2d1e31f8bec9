"""All libraries do the same work, and a library that does not is found out."""

from __future__ import annotations

import dataclasses
import inspect

import numpy as np
import pytest

from bench import workloads
from bench.problems import Net, make_problem

NORMED = Net(5, (4, 3), 3, 8)
BARE = dataclasses.replace(NORMED, norm=False)


@pytest.mark.parametrize("name", ["numba-plain", "mygrad", "sklearn", "jax"])
@pytest.mark.parametrize("net", [NORMED, BARE], ids=["norm", "bare"])
def test_a_peer_has_the_losses_of_minigrad(net: Net, name: str) -> None:
    if not (workloads.available(name) and workloads.can_train(name, net)):
        pytest.skip("the peer is not installed, or has no BatchNorm")
    problem = make_problem(net)
    before = {key: value.copy() for key, value in problem.weights.items()}
    losses = workloads.check_agreement(problem, ["minigrad", name], steps=3)
    assert losses["minigrad"][0] != losses["minigrad"][-1]  # it trains
    for key, value in problem.weights.items():  # which the next library starts with
        np.testing.assert_array_equal(value, before[key], err_msg=key)


def test_another_momentum_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.peers.MOMENTUM", 0.5)
    with pytest.raises(AssertionError, match="minigrad and numba-plain do not do the same work"):
        workloads.check_agreement(make_problem(NORMED), ["minigrad", "numba-plain"])


@pytest.mark.parametrize("name", ["numba-plain", "mygrad"])
def test_running_statistics_are_those_of_minigrad(name: str) -> None:
    """Losses do not depend on them, so a comparison of losses does not see them."""
    if not workloads.available(name):
        pytest.skip(f"{name} is not installed")
    problem = make_problem(NORMED)
    minigrad, peer = (workloads.FACTORIES[each](problem) for each in ("minigrad", name))
    for _ in range(3):
        minigrad()
        peer()
    expected = inspect.getclosurevars(minigrad.func).nonlocals["model"].state_dict()
    normalize = inspect.getclosurevars(peer).nonlocals["normalize"]
    arrays = inspect.getclosurevars(normalize).nonlocals["w"]
    assert arrays.keys() == expected.keys()
    for key, value in arrays.items():
        np.testing.assert_allclose(value, expected[key], rtol=1e-4, atol=1e-6, err_msg=key)
