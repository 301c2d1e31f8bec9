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
    inside, leave, current_pool = threading.Event(), threading.Event(), executable.current_pool
    caller = threading.Thread(target=compiled, args=arguments)

    def wait() -> Any:  # a call asks for the pool just before it runs generated code
        if threading.current_thread() is caller:
            inside.set()
            leave.wait(30)
        return current_pool()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executable, "current_pool", wait)
        caller.start()
        try:
            assert inside.wait(30)
            yield
        finally:
            leave.set()
            caller.join()
