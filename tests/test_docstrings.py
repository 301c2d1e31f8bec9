"""Whatever users can reach by a public name has a docstring that describes every argument."""

import inspect
import re

import pytest

import minigrad as mg
from minigrad import explainer
from minigrad.compiler import CompiledFunction
from minigrad.nn.state_dict import Keys

MODULES = (mg, mg.nn, mg.optim, mg.functional, mg.data, mg.errors, explainer)
# Those that users meet first show how they behave; tests/test_doctests.py runs what they show.
# fmt: off
WITH_EXAMPLES = [
    "tensor", "Tensor", "Tensor.backward", "Tensor.detach", "grad", "no_grad", "gradcheck",
    "manual_seed", "primitive", "compile", "explain",
    "functional.batch_norm", "functional.cross_entropy",
    "functional.softmax", "functional.linear", "functional.dropout", "nn.Module", "nn.Linear",
    "nn.BatchNorm1d", "nn.Sequential", "nn.Flatten", "optim.SGD", "data.DataLoader",
]
# fmt: on


def public_names(module):
    return getattr(module, "__all__", [name for name in vars(module) if name[0] != "_"])


def members(cls):
    """Return public methods and properties that the class itself adds to Python's."""
    if issubclass(cls, (Exception, tuple)):
        return {}
    named = {name: getattr(cls, name) for name in dir(cls) if name[0] != "_"}
    return {n: v for n, v in named.items() if callable(v) or isinstance(v, property)}


def face():
    """Return every public function, class and member, each under the first of its names."""
    found = {"compile(...)": CompiledFunction, "load_state_dict(...)": Keys}
    for module in MODULES:
        for name in public_names(module):
            found[f"{module.__name__}.{name}".removeprefix("minigrad.")] = getattr(module, name)
    found = {name: thing for name, thing in found.items() if not inspect.ismodule(thing)}
    for name, thing in list(found.items()):
        if inspect.isclass(thing):
            found |= {f"{name}.{member}": value for member, value in members(thing).items()}
    seen = {}
    return {n: thing for n, thing in found.items() if seen.setdefault(id(thing), n) == n}


FACE = face()


def undescribed(thing):
    """Return parameters that the docstring does not name; a class describes its constructor's."""
    text = inspect.getdoc(thing) or ""
    if inspect.isclass(thing):
        text += inspect.getdoc(thing.__init__) or ""
    # What is operated on needs no name, nor does what is passed on.
    passed = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(thing).parameters.values()
    names = [p.name for p in parameters if p.kind not in passed]
    needed = [name for name in names if name not in ("self", "x", "input")]
    return [name for name in needed if not re.search(rf"\b{name}\b", text, re.IGNORECASE)]


def test_the_face_is_found():
    """Otherwise the tests below would pass on nothing."""
    expected = {"Tensor.backward", "nn.BatchNorm2d", "data.DataLoader.rows", "exp", "Tensor.T"}
    expected |= {"optim.SGD.numbers", "errors.GradError", "compile(...).report", "nn.GELU.eval"}
    assert expected <= set(FACE)
    assert {"optim.np", "data.integer", "Tensor._data", "nn.ReLU.eval"}.isdisjoint(FACE)


def test_all_have_a_docstring():
    """A method that overrides another may leave that to it, where pydoc finds it."""
    bare = [n for n, thing in FACE.items() if len((inspect.getdoc(thing) or "").split()) < 2]
    assert bare == []


def test_docstrings_tell_of_every_argument():
    lacking = {}
    for name, thing in FACE.items():
        if name.startswith("Tensor.") and "minigrad.ops" in str(getattr(thing, "__module__", "")):
            continue  # a function of mg under the same name, which has the docstring
        if thing is explainer.Explanation:
            continue  # made by mg.explain alone
        if inspect.isfunction(thing) or (inspect.isclass(thing) and members(thing)):
            lacking[name] = undescribed(thing)
    assert {name: missing for name, missing in lacking.items() if missing} == {}
    assert {"sum", "var", "nn.Linear", "optim.SGD", "Tensor.backward", "grad"} <= set(lacking)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_there_is_an_example(name):
    assert ">>> " in inspect.getdoc(FACE[name])


def test_what_is_missing_is_found():
    def told(x, axis):
        """Of the axis."""

    def untold(x, axis, keepdims=False):
        """Of the axis only."""

    assert undescribed(told) == [] and undescribed(untold) == ["keepdims"]
