"""Calls of compiled functions that are under way while a test does something else."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from minigrad.compiler.runtime import executable


@contextlib.contextmanager
def call_in_progress(compiled: Any, *arguments: Any) -> Iterator[None]:
    """Keep another thread in a call of a compiled function, which was traced, inside the block."""
    inside, leave, pool_for = threading.Event(), threading.Event(), executable.pool_for
    caller = threading.Thread(target=compiled, args=arguments)

    def wait(elements: int) -> Any:  # a call asks for the pool just before it runs generated code
        if threading.current_thread() is caller:
            inside.set()
            leave.wait(30)
        return pool_for(elements)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executable, "pool_for", wait)
        caller.start()
        try:
            assert inside.wait(30)
            yield
        finally:
            leave.set()
            caller.join()
