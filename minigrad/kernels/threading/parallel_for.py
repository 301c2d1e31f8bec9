"""A loop over parts that threads share, called from compiled code: `share`.

Numba's own threads abort when two Python threads launch at once. These belong to a team: an array
of counters and addresses, see below, which kernels get as an argument. The others of a team, its
mates, never leave compiled code: one that has nothing to do watches for the next job for a while,
as to wake a thread takes some 50 us, and then sleeps. What there is to do is cut into parts by its
shape alone, so that the results have the same bits in any number of threads. Each thread begins
with its own range of the parts, which its cache may have from the job before, and then helps the
others with theirs. It takes the next part by an atomic counter, so that a mate that comes late, or
never, costs nothing but its help. A team does one job at a time: who finds it busy works alone.
"""

from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import cgutils as untyped_cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from ..jit.decorators import kernel, part

Team = NDArray[np.int64]
# For a kernel that has nobody to share with.
ALONE: Team = np.zeros(0, np.int64)

# What lies where, in lines of the cache of their own where several threads write. JOB: how often a
# job was begun or ended, so odd while one is open to mates. INSIDE: mates that may be at work.
# BUSY: 1 while somebody leads. STOP: 1 for mates to end.
JOB, INSIDE, BUSY, STOP = 0, 8, 16, 24
# The job, as C function and what it is given; how many mates; C functions that wait for a lock and
# that release one; how many values have found the mates awake since they were woken, how many
# more jobs wake nobody, and how many did so the last time.
CALL, GIVEN, MATES, ACQUIRE, RELEASE, FOUND, QUIET, LULL = 32, 33, 34, 35, 36, 37, 38, 39
# For each thread, the lead first: how many of its parts are taken. For mates: 1 while it sleeps, or
# is about to, and the lock that it waits for.
TAKEN, ASLEEP, LOCK, LINE = 40, 41, 42, 8
# Looks, 70 us in all: from a step's forward to its backward Python takes 20 or 30 us, and who
# watches for longer takes a core from others, such as the threads of a matrix product.
WATCH = 250_000
# Mates that fall asleep before so many values have come were not worth waking: the next job alone
# wakes nobody, then two, four, ..., up to LONGEST. A job of so many always wakes them. Beside
# products of matrices nothing else helps: for 20 ms their threads keep the cores on which mates
# wake, and a training step took 1.02 times as long, while BatchNorm again and again takes 0.6.
# With 2^20 for 2^19, BatchNorm of (16, 256, 14, 14), whose mates sleep between calls in a
# benchmark, took 1.5 to 2 times as long, and the step no less.
WORTH, LONGEST = 1 << 19, 64


def new_team(acquire: int, release: int, locks: list[int]) -> Team:
    """A team with a mate for each lock, all of which are taken; and the C functions, by address."""
    team = np.zeros(TAKEN + LINE * (1 + len(locks)), np.int64)
    team[MATES], team[ACQUIRE], team[RELEASE] = len(locks), acquire, release
    team[LOCK + LINE :: LINE] = locks
    return team


def locks_of(team: Team) -> list[int]:
    """What its mates wait for."""
    locks: list[int] = team[LOCK + LINE :: LINE].tolist()
    return locks


def _threads(team: Team) -> int:
    """How many may work on one job."""
    return 1 if team.size == 0 else 1 + team[MATES]


def alone(function: Any) -> Any:
    """What `sharing` makes, of Python: as Python, kernels have no threads."""

    def share(_team: Team, parts: int, _values: int, arguments: Any) -> None:
        for i in range(parts):
            function(i, 0, *arguments)

    return share


def sharing(function: Any) -> Any:
    """share(team, parts, values, arguments): function(part, thread, *arguments) for each part, by
    whom is open; thread: 0 leads, mates count from 1. values: what the job is about has so many.
    function: what `part` makes; it may not allocate."""
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return alone(function)

    def take(team: Team, parts: int, arguments: Any, thread: int) -> None:
        crew = team[MATES] + 1
        for i in range(crew):
            owner = thread + i if thread + i < crew else thread + i - crew
            start, end = parts * owner // crew, parts * (owner + 1) // crew
            k = start + fetch_add(team, TAKEN + LINE * owner, 1)
            while k < end:
                function(k, thread, *arguments)
                k = start + fetch_add(team, TAKEN + LINE * owner, 1)

    post = _posting(part(take))

    def share(team: Team, parts: int, values: int, arguments: Any) -> None:
        if team.size == 0 or parts < 2 or not begin(team, values):
            for i in range(parts):
                function(i, 0, *arguments)
            return
        post(team, parts, arguments)
        for i in range(team[MATES] + 1):
            exchange(team, TAKEN + LINE * i, 0)
        fetch_add(team, JOB, 1)
        for i in range(1, min(team[MATES] + 1, parts)):
            if exchange(team, ASLEEP + LINE * i, 0) != 0:
                call(team[RELEASE], team[LOCK + LINE * i], 0)
        call(team[CALL], team[GIVEN], 0)
        fetch_add(team, JOB, 1)
        while look(team, INSIDE) != 0:
            pass
        exchange(team, BUSY, 0)

    return part(share)


def _begin(team: Team, values: int) -> bool:
    """Whether the caller may lead a job, and mates are awake or to be woken."""
    if exchange(team, BUSY, 1) != 0:
        return False
    if look(team, ASLEEP + LINE) == 0:
        team[FOUND] += values
        return True
    if team[QUIET] > 0 and values < WORTH:
        team[QUIET] -= 1
        exchange(team, BUSY, 0)
        return False
    team[LULL] = min(max(2 * team[LULL], 1), LONGEST) if team[FOUND] < WORTH else 0
    team[QUIET], team[FOUND] = team[LULL], 0
    return True


def _serve(team: Team, mate: int) -> None:
    """What a mate, of 1, 2, ..., does until it is told to stop."""
    done, asleep = 0, ASLEEP + LINE * mate
    while look(team, STOP) == 0:
        looks, job = WATCH, look(team, JOB)
        while looks > 0 and (job == done or job & 1 == 0):
            looks, job = looks - 1, look(team, JOB)
        if looks > 0:
            fetch_add(team, INSIDE, 1)
            if look(team, JOB) == job:  # or it is closed, and what team tells may change
                call(team[CALL], team[GIVEN], mate)
            fetch_add(team, INSIDE, -1)
            done = job
        else:
            exchange(team, asleep, 1)
            news = look(team, JOB) != job or look(team, STOP) != 0
            if not (news and exchange(team, asleep, 0) == 1):
                call(team[ACQUIRE], team[LOCK + LINE * mate], 1)


# --- what Numba has not ---------------------------------------------------------------------------


def _place(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """The address of arguments[0][arguments[1]]."""
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    return builder.gep(array.data, [arguments[1]])


def _atomic(operation: str) -> Any:
    """One instruction of the processor on team[i], which also orders reads and writes around it."""

    @intrinsic
    def atomic(_context: Any, team: Any, _i: Any, _value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            place = _place(context, builder, signature, arguments)
            return builder.atomic_rmw(operation, place, arguments[2], "seq_cst")

        return types.int64(team, types.int64, types.int64), generate

    return atomic


@intrinsic
def _load(_context: Any, team: Any, _i: Any) -> Any:
    """team[i], as another thread has left it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_place(context, builder, signature, arguments), "seq_cst", 8)

    return types.int64(team, types.int64), generate


cgutils: Any = untyped_cgutils
ir = cgutils.ir  # llvmlite's, which comes with Numba
POINTER, INT64 = ir.IntType(8).as_pointer(), ir.IntType(64)
# What `call` calls; a result is ignored, and who takes one argument does not see the other.
C_FUNCTION = ir.FunctionType(ir.VoidType(), [POINTER, INT64])


@intrinsic
def _call(_context: Any, _function: Any, _given: Any, _number: Any) -> Any:
    """The C function at an address, of another address and a number."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        function = builder.inttoptr(arguments[0], C_FUNCTION.as_pointer())
        builder.call(function, [builder.inttoptr(arguments[1], POINTER), arguments[2]])
        return ir.Constant(INT64, 0)

    return types.int64(types.int64, types.int64, types.int64), generate


def _posting(take: Any) -> Any:
    """post(team, parts, arguments): team[CALL] calls take(team, parts, arguments, thread), given
    team[GIVEN], which is valid until the caller returns, and thread."""

    @intrinsic
    def post(typing: Any, team: Any, parts: Any, arguments: Any) -> Any:
        given = team, types.int64, arguments
        signature = types.Dispatcher(take).get_call_type(typing, (*given, types.int64), {})

        def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
            compiled = take.get_compile_result(signature)
            context.active_code_library.add_linking_library(compiled.library)
            struct = ir.LiteralStructType([value.type for value in values])
            place = cgutils.alloca_once_value(builder, cgutils.pack_struct(builder, values))
            taker = ir.Function(builder.module, C_FUNCTION, builder.module.get_unique_name("taker"))
            taker.linkage = "internal"
            inside = ir.IRBuilder(taker.append_basic_block())
            kept = inside.load(inside.bitcast(taker.args[0], struct.as_pointer()))
            kept = [*cgutils.unpack_tuple(inside, kept), taker.args[1]]
            types_of = compiled.signature
            context.call_internal_no_propagate(inside, compiled.fndesc, types_of, kept)
            inside.ret_void()
            counters = context.make_array(team)(context, builder, values[0]).data
            for i, value in ((CALL, taker), (GIVEN, place)):
                address = builder.ptrtoint(value, INT64)
                builder.store(address, builder.gep(counters, [ir.Constant(INT64, i)]))
            return context.get_dummy_value()

        return types.void(*given), generate

    return post


fetch_add: Any = _atomic("add")
exchange: Any = _atomic("xchg")
look: Any = _load
call: Any = _call
threads, begin = part(_threads), part(_begin)
serve = kernel(_serve)
