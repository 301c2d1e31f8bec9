"""Parts of kernels, which are compiled to be inlined."""

from typing import Any

import numba
import numpy as np
import pytest

from minigrad.kernels.jit.decorators import kernel, part


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modules that LLVM turns into machine code from now on; compiling is on in any case."""
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
    """A part within a part within a kernel that has a closure, and so is not kept on the disk."""

    def double_(a: Any) -> Any:
        return a + a

    double = part(double_)

    def shift_(a: Any, by: Any) -> Any:
        return double(a) + by

    shift = part(shift_)

    def each_(a: Any) -> None:
        for i in range(a.size):
            a[i] = shift(a[i], 1.0)

    a = np.arange(3.0)
    kernel(each_)(a)
    assert a.tolist() == [1.0, 3.0, 5.0]
    named = [name for name in counted if "test_only_kernels" in name]
    assert len(named) == 1 and "each_" in named[0], named


def test_parts_that_python_may_call_have_machine_code(counted: list[str]) -> None:
    def double(a: float) -> float:
        return a + a

    assert part(double, bare=False)(2.0) == 4.0
    assert any("double" in name for name in counted)


def test_a_part_can_be_inlined_into_several_kernels(counted: list[str]) -> None:
    def double_(a: Any) -> Any:
        return a + a

    double = part(double_)

    def first_(a: Any) -> None:
        a[0] = double(a[0])

    def last_(a: Any) -> None:
        a[-1] = double(a[-1])

    a = np.ones(3)
    kernel(first_)(a)
    kernel(last_)(a)
    assert a.tolist() == [2.0, 1.0, 2.0]
    assert not any("double" in name for name in counted)
