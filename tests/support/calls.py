"""Calls of compiled functions that are under way while a test does something else."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest


@contextlib.contextmanager
def call_in_progress(compiled: Any, *arguments: Any) -> Iterator[None]:
    """Keep another thread in a call of a compiled function, which was traced, inside the block."""
    inside, leave, executable = threading.Event(), threading.Event(), compiled._latest()
    call, caller = executable.call, threading.Thread(target=compiled, args=arguments)

    def wait(*given: Any) -> Any:
        if threading.current_thread() is caller:
            inside.set()
            leave.wait(30)
        return call(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executable, "call", wait)
        caller.start()
        try:
            assert inside.wait(30)
            yield
        finally:
            leave.set()
            caller.join()
