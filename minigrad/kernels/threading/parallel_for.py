"""Kernels call parallel loops, whose parts are shared among the threads of a pool.

A pool is an array of counters and addresses, described below, which a kernel gets as an argument.
Its threads are the caller of the kernel, which has number 0, and the workers, which never leave
compiled code. The shape alone determines the parts of a loop, so the results have the same bits for
any number of threads. Each thread begins with its own range of parts, whose data may still be in
its cache, and then takes parts from the ranges of the others. An atomic counter gives the next part
of a range, so no thread waits for a worker that wakes late. A pool runs one loop at a time: a
caller that finds it busy runs its loop alone.
"""

from collections.abc import Callable
from typing import TypeAlias

import numba
import numpy as np
from numba import types
from numba.core import cgutils as untyped_cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from ...types import Array, Number
from ..jit.decorators import F, device_function, kernel
from ..jit.numba_types import (
    Builder,
    Context,
    Dispatcher,
    Intrinsic,
    NumbaType,
    Signature,
    TypingContext,
    Untyped,
    Value,
    Values,
)

Pool: TypeAlias = NDArray[np.int64]  # memory of the threads; its positions are below
Arguments: TypeAlias = tuple[Array | Number, ...]  # what a loop passes on to each part
Part: TypeAlias = Callable[..., None]  # takes the number of the part, the thread, and Arguments
# loop(pool, parts, elements, arguments): see `parallel_for`.
Loop: TypeAlias = Callable[[Pool, int, int, Arguments], None]
# A pool without threads: the caller runs every part.
SERIAL: Pool = np.zeros(0, np.int64)
# The types of the arguments of `serve` and `share`.
SERVE_TYPES = types.int64[::1], types.int64
SHARE_TYPES = types.int64[::1], *[types.int64] * 4

# The positions of values in a pool. Counters that several threads write are a cache line apart.
# JOB: incremented when a loop is opened to workers and when it is closed, so it is odd in between.
# ACTIVE: the number of workers that may be running a loop. BUSY: 1 while a caller uses the pool.
# STOP: 1 to make the workers end.
JOB, ACTIVE, BUSY, STOP = 0, 8, 16, 24
# FUNCTION, ARGUMENT: the loop, as the addresses of a function and of its argument.
# WORKERS: the number of workers. ACQUIRE, RELEASE: C functions that acquire and release a lock.
FUNCTION, ARGUMENT, WORKERS, ACQUIRE, RELEASE = 32, 33, 34, 35, 36
# ELEMENTS: the number of elements in loops that found the workers awake, since the last waking.
# QUIET: loops left to run serially. LULL: length of the current back-off.
ELEMENTS, QUIET, LULL = 37, 38, 39
# YIELD, SLEEP: C functions that let other programs use the core, if one waits for it, or for a
# number of microseconds. PARTS: the number of parts of the loop. SHARE: the address of the machine
# code of `share`.
YIELD, SLEEP, PARTS, SHARE = 40, 41, 42, 43
# For each thread, at steps of LINE. TAKEN: the number of parts taken from its range. ASLEEP: 1 if
# it sleeps or is about to sleep. LOCK: the address of the lock that it then waits for.
TAKEN, ASLEEP, LOCK, LINE = 48, 49, 50, 8
# How often a worker looks for a loop before it sleeps: long enough for Python to go from a forward
# to a backward pass, but not so long that other programs lack the core. After each YIELDING looks,
# a program that waits for the core gets it.
SPINS, YIELDING = 250_000, 2000
# How often the caller of a loop looks whether the workers have finished, before it sleeps between
# looks, so that a worker whose core another program uses can get the caller's core.
PATIENCE = 100_000
# Waking paid off if the workers then ran loops with WORTHWHILE elements in all. Otherwise the next
# loop, then the next 2, 4, ..., LONGEST loops, do not wake them. A loop with WORTHWHILE elements
# always wakes them.
WORTHWHILE, LONGEST = 1 << 19, 64


def new_pool(functions: dict[int, int], locks: list[int]) -> Pool:
    """Return a pool with one worker for each lock, which must be held.

    functions: the addresses of C functions, by position; locks: the addresses of C locks.
    """
    pool = np.zeros(TAKEN + LINE * (1 + len(locks)), np.int64)
    pool[WORKERS] = len(locks)
    pool[list(functions)] = list(functions.values())
    pool[LOCK + LINE :: LINE] = locks
    return pool


def locks_of(pool: Pool) -> list[int]:
    """Return the addresses of the locks that the workers wait for."""
    locks: list[int] = pool[LOCK + LINE :: LINE].tolist()
    return locks


def _threads(pool: Pool) -> int:
    """Return how many threads may run one loop."""
    return 1 if pool.size == 0 else 1 + pool[WORKERS]


def serial_for(function: Part) -> Loop:
    """Return the loop of `parallel_for` in plain Python, without threads."""

    def loop(_pool: Pool, parts: int, _elements: int, arguments: Arguments) -> None:
        for i in range(parts):
            function(i, 0, *arguments)

    return loop


def parallel_for(function: Part) -> Loop:
    """Return loop(pool, parts, elements, arguments), a device function.

    It runs function(part, thread, *arguments) once per part on whichever workers are free; thread 0
    is the caller. elements: the number of elements that the loop works on.
    function: a device function, which may not allocate.
    """
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return serial_for(function)

    share_parts = _sharing(function)

    def loop(pool: Pool, parts: int, elements: int, arguments: Arguments) -> None:
        if pool.size == 0 or parts < 2 or not share_parts(pool, parts, elements, arguments):
            for i in range(parts):
                function(i, 0, *arguments)

    return device_function(_named_after(function, loop))


def _named_after(function: Dispatcher, inner: F) -> F:
    """Name an inner function after the function of a loop, and return the inner function.

    Without this, the inner functions of all loops would have one name. Numba would distinguish them
    by a counter only, which repeats in other processes, and could link the wrong one into a kernel
    (numba#10486).
    """
    python = function.py_func
    inner.__module__ = python.__module__
    inner.__qualname__ = f"{python.__qualname__}.{inner.__name__}"
    return inner


def _begin(pool: Pool, elements: int) -> bool:
    """Return whether the caller may use the pool, whose workers are awake or will be woken."""
    if exchange(pool, BUSY, 1) != 0:
        return False
    if atomic_load(pool, ASLEEP + LINE) == 0:
        pool[ELEMENTS] += elements
        return True
    if pool[QUIET] > 0 and elements < WORTHWHILE:
        pool[QUIET] -= 1
        exchange(pool, BUSY, 0)
        return False
    pool[LULL] = min(max(2 * pool[LULL], 1), LONGEST) if pool[ELEMENTS] < WORTHWHILE else 0
    pool[QUIET], pool[ELEMENTS] = pool[LULL], 0
    return True


def _share(pool: Pool, parts: int, elements: int, function: int, argument: int) -> bool:
    """Run function(argument, part, thread) for each part, or return False if the pool is not free.

    function, argument: addresses. One machine code serves all loops, which find it in the pool, so
    that it is compiled only if a pool has workers.
    """
    if not begin(pool, elements):
        return False
    pool[FUNCTION], pool[ARGUMENT], pool[PARTS] = function, argument, parts
    for i in range(pool[WORKERS] + 1):
        exchange(pool, TAKEN + LINE * i, 0)
    fetch_add(pool, JOB, 1)
    for i in range(1, min(pool[WORKERS] + 1, parts)):
        if exchange(pool, ASLEEP + LINE * i, 0) != 0:
            call_address(pool[RELEASE], pool[LOCK + LINE * i], 0)
    run_parts(pool, 0)
    fetch_add(pool, JOB, 1)
    spins = PATIENCE
    while atomic_load(pool, ACTIVE) != 0:
        spins -= 1
        if spins < 0:
            call_address(pool[SLEEP], 1, 0)
    exchange(pool, BUSY, 0)
    return True


def _run_parts(pool: Pool, thread: int) -> None:
    """Run parts of the current loop until none is left, first those of the thread's own range."""
    n, parts = pool[WORKERS] + 1, pool[PARTS]
    for i in range(n):
        owner = thread + i if thread + i < n else thread + i - n
        start, end = parts * owner // n, parts * (owner + 1) // n
        k = start + fetch_add(pool, TAKEN + LINE * owner, 1)
        while k < end:
            call_part(pool[FUNCTION], pool[ARGUMENT], k, thread)
            k = start + fetch_add(pool, TAKEN + LINE * owner, 1)


def _serve(pool: Pool, worker: int) -> None:
    """Run loops as a worker, numbered from 1, until the pool is stopped."""
    done, asleep = 0, ASLEEP + LINE * worker
    while atomic_load(pool, STOP) == 0:
        spins, job = SPINS, atomic_load(pool, JOB)
        while spins > 0 and (job == done or job & 1 == 0):
            spins, job = spins - 1, atomic_load(pool, JOB)
            if spins % YIELDING == 0:
                call_address(pool[YIELD], 0, 0)
        if spins > 0:
            fetch_add(pool, ACTIVE, 1)
            if atomic_load(pool, JOB) == job:  # otherwise the loop is already closed
                run_parts(pool, worker)
            fetch_add(pool, ACTIVE, -1)
            done = job
        else:
            exchange(pool, asleep, 1)
            is_needed = atomic_load(pool, JOB) != job or atomic_load(pool, STOP) != 0
            if not (is_needed and exchange(pool, asleep, 0) == 1):
                call_address(pool[ACQUIRE], pool[LOCK + LINE * worker], 1)


# --- instructions that Numba lacks ----------------------------------------------------------------


def _place(context: Context, builder: Builder, signature: Signature, arguments: Values) -> Value:
    """Return the address of arguments[0][arguments[1]]."""
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    return builder.gep(array.data, [arguments[1]])


def _atomic(operation: str) -> Dispatcher:
    """Return f(pool, i, value): an atomic operation on pool[i], which returns the old value.

    Reads and writes are never moved across it.
    """

    @intrinsic
    def atomic(
        _context: TypingContext, pool: NumbaType, _i: NumbaType, _value: NumbaType
    ) -> Intrinsic:
        def generate(
            context: Context, builder: Builder, signature: Signature, arguments: Values
        ) -> Value:
            place = _place(context, builder, signature, arguments)
            return builder.atomic_rmw(operation, place, arguments[2], "seq_cst")

        return types.int64(pool, types.int64, types.int64), generate

    return atomic


@intrinsic
def _load(_context: TypingContext, pool: NumbaType, _i: NumbaType) -> Intrinsic:
    """Return pool[i] by an atomic read, which sees what other threads wrote."""

    def generate(
        context: Context, builder: Builder, signature: Signature, arguments: Values
    ) -> Value:
        return builder.load_atomic(_place(context, builder, signature, arguments), "seq_cst", 8)

    return types.int64(pool, types.int64), generate


cgutils: Untyped = untyped_cgutils
ir = cgutils.ir  # llvmlite's, which comes with Numba
POINTER, INT64 = ir.IntType(8).as_pointer(), ir.IntType(64)
# The type of all called functions. The result is ignored, and a function with one parameter ignores
# the second argument.
C_FUNCTION = ir.FunctionType(ir.VoidType(), [POINTER, INT64])
# The type of the function of a loop, which takes an address, a part and a thread.
PART_FUNCTION = ir.FunctionType(ir.VoidType(), [POINTER, INT64, INT64])


@intrinsic
def _call(
    _context: TypingContext, _function: NumbaType, _argument: NumbaType, _number: NumbaType
) -> Intrinsic:
    """Call the C function at an address with another address and a number."""

    def generate(_: Context, builder: Builder, _signature: Signature, arguments: Values) -> Value:
        function = builder.inttoptr(arguments[0], C_FUNCTION.as_pointer())
        builder.call(function, [builder.inttoptr(arguments[1], POINTER), arguments[2]])
        return ir.Constant(INT64, 0)

    return types.int64(types.int64, types.int64, types.int64), generate


@intrinsic
def _call_number(_context: TypingContext, _function: NumbaType) -> Intrinsic:
    """Call the C function without parameters at an address, and return its int."""

    def generate(_context: Context, builder: Builder, _: Signature, arguments: Values) -> Value:
        kind = ir.FunctionType(ir.IntType(32), [])
        function = builder.inttoptr(arguments[0], kind.as_pointer())
        return builder.sext(builder.call(function, []), INT64)

    return types.int64(types.int64), generate


@intrinsic
def _call_part(
    _context: TypingContext,
    _function: NumbaType,
    _argument: NumbaType,
    _part: NumbaType,
    _thread: NumbaType,
) -> Intrinsic:
    """Call the function of a loop, at an address, for a part."""

    def generate(_: Context, builder: Builder, _signature: Signature, arguments: Values) -> Value:
        function = builder.inttoptr(arguments[0], PART_FUNCTION.as_pointer())
        builder.call(function, [builder.inttoptr(arguments[1], POINTER), *arguments[2:]])
        return ir.Constant(INT64, 0)

    return types.int64(*[types.int64] * 4), generate


def _sharing(function: Dispatcher) -> Dispatcher:
    """Return share_parts(pool, parts, elements, arguments), which calls `share` by its address.

    The function that it shares calls function(part, thread, *arguments).
    """

    @intrinsic
    def share_parts(
        typing: TypingContext,
        pool: NumbaType,
        parts: NumbaType,
        elements: NumbaType,
        arguments: NumbaType,
    ) -> Intrinsic:
        kinds = types.int64, types.int64, *arguments.types
        signature = types.Dispatcher(function).get_call_type(typing, kinds, {})

        def generate(context: Context, builder: Builder, _: Signature, values: Values) -> Value:
            compiled = function.get_compile_result(signature)
            context.active_code_library.add_linking_library(compiled.library)
            place = cgutils.alloca_once_value(builder, values[3])
            name = builder.module.get_unique_name("part")
            part = ir.Function(builder.module, PART_FUNCTION, name)
            part.linkage = "internal"
            body = ir.IRBuilder(part.append_basic_block())
            stored = body.load(body.bitcast(part.args[0], values[3].type.as_pointer()))
            passed = [*part.args[1:], *cgutils.unpack_tuple(body, stored)]
            context.call_internal_no_propagate(body, compiled.fndesc, compiled.signature, passed)
            body.ret_void()
            counters = context.make_array(pool)(context, builder, values[0]).data
            address = builder.load(builder.gep(counters, [ir.Constant(INT64, SHARE)]))
            convention = context.call_conv
            kind = convention.get_function_type(types.boolean, SHARE_TYPES)
            shared = builder.inttoptr(address, kind.as_pointer())
            given = [*values[:3], *(builder.ptrtoint(x, INT64) for x in (part, place))]
            _, done = convention.call_function(builder, shared, types.boolean, SHARE_TYPES, given)
            return done

        return types.boolean(pool, types.int64, types.int64, arguments), generate

    return share_parts


fetch_add: Dispatcher = _atomic("add")
exchange: Dispatcher = _atomic("xchg")
atomic_load: Dispatcher = _load
call_address: Dispatcher = _call
call_number: Dispatcher = _call_number
call_part: Dispatcher = _call_part
threads, begin = device_function(_threads), device_function(_begin)
run_parts = device_function(_run_parts)
serve, share = kernel(_serve), kernel(_share, bare=True)
