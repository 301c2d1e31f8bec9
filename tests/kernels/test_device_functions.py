"""Device functions are compiled into kernels, and have no machine code of their own."""

from typing import Any

import numba
import numpy as np
import pytest

from minigrad.kernels.jit.decorators import device_function, kernel


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of the modules that LLVM compiles from now on, with compiling turned on."""
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 0)
    modules: list[str] = []
    codegen: Any = numba.core.codegen.JITCPUCodegen
    add = codegen._add_module

    def noted(self: Any, module: Any) -> Any:
        modules.append(module.name)
        return add(self, module)

    monkeypatch.setattr(codegen, "_add_module", noted)
    return modules


def test_only_kernels_become_machine_code(counted: list[str]) -> None:
    """A device function may be in another, in a kernel that has a closure and is not saved."""

    def double_(a: Any) -> Any:
        return a + a

    double = device_function(double_)

    def shift_(a: Any, by: Any) -> Any:
        return double(a) + by

    shift = device_function(shift_)

    def each_(a: Any) -> None:
        for i in range(a.size):
            a[i] = shift(a[i], 1.0)

    a = np.arange(3.0)
    kernel(each_)(a)
    assert a.tolist() == [1.0, 3.0, 5.0]
    named = [name for name in counted if "test_only_kernels" in name]
    assert len(named) == 1 and "each_" in named[0], named


def test_device_functions_that_python_may_call_have_machine_code(counted: list[str]) -> None:
    def double(a: float) -> float:
        return a + a

    assert device_function(double, bare=False)(2.0) == 4.0
    assert any("double" in name for name in counted)


def test_a_device_function_can_be_inlined_into_several_kernels(counted: list[str]) -> None:
    def double_(a: Any) -> Any:
        return a + a

    double = device_function(double_)

    def first_(a: Any) -> None:
        a[0] = double(a[0])

    def last_(a: Any) -> None:
        a[-1] = double(a[-1])

    a = np.ones(3)
    kernel(first_)(a)
    kernel(last_)(a)
    assert a.tolist() == [2.0, 1.0, 2.0]
    assert not any("double" in name for name in counted)
