"""The examples in docstrings run as they stand."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import minigrad as mg
from minigrad import functional as F
from minigrad import nn, optim

# What examples may take as imported; the package's own docstring says so.
NAMES = {"np": np, "mg": mg, "nn": nn, "optim": optim, "F": F}
OPTIONS = doctest.ELLIPSIS


def examples():
    """Return every docstring with examples, by name; kernels, which are compiled, have none."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    names = [m.name for m in pkgutil.walk_packages(mg.__path__, "minigrad.")]
    names = [name for name in names if ".kernels" not in name and "__main__" not in name]
    modules = [importlib.import_module(name) for name in names]
    found = [t for m in modules for t in finder.find(m, m.__name__, extraglobs=NAMES)]
    return {test.name: test for test in found if test.examples}


EXAMPLES = examples()


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name, capsys):
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    runner.run(EXAMPLES[name])
    assert runner.failures == 0, capsys.readouterr().out
