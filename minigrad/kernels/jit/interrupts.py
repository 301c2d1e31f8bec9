"""Ctrl-C is deferred while work is done that must not be cut in two."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def defer_interrupts() -> Iterator[None]:
    """Handle each Ctrl-C that arrives in the meantime at the end, by the handler in force before.

    Python handles signals in its main thread only, so in other threads there is nothing to defer.
    """
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    deferred: list[tuple[Any, Any]] = []
    signal.signal(signal.SIGINT, lambda *arguments: deferred.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        for arguments in deferred:
            handler(*arguments)
