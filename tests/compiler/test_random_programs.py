"""Random programs agree compiled and eagerly, on other data than they were traced with.

The source of one step equals its stored copy, which is read before it is replaced.
"""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_programs import SHAPES, STEPS, compiled_is_eager, differentiable_is_eager
from small_networks import batches, network

import minigrad as mg

pytestmark = pytest.mark.usefixtures("as_python")


@settings(max_examples=150)
@given(STEPS, st.tuples(*[st.sampled_from(SHAPES)] * 2), st.integers(0, 3))
def test_random_programs_agree(steps, shapes, seed):
    """Results and gradients agree, in float64."""
    compiled_is_eager(steps, shapes, seed)


@settings(max_examples=60)
@given(STEPS, st.tuples(*[st.sampled_from(SHAPES)] * 2), st.integers(0, 3))
def test_random_functions_have_the_eager_derivatives(steps, shapes, seed):
    """First and second derivatives of random functions agree, in float64."""
    differentiable_is_eager(steps, shapes, seed)


GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "composed"])
def test_the_source_of_a_step_is_as_stored(fused):
    """The source equals its copy in golden/, which MINIGRAD_WRITE_GOLDEN=1 writes anew."""
    *_, step = network((64, 32, 10), fused)
    compiled = mg.compile(step)
    compiled(*batches(1, 16, 64, 10)[0])
    path = GOLDEN / f"step_{'fused' if fused else 'composed'}.txt"
    if os.environ.get("MINIGRAD_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(compiled.source, encoding="utf-8")
    assert compiled.source == path.read_text(encoding="utf-8")
