"""The threads that share a kernel's work, and how many there are."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ArgumentError
from minigrad.kernels import team, threads

compiled = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
jit = numba.njit(nogil=True)


@pytest.fixture(autouse=True)
def two_threads():
    """As many as are set in every test; back to the default afterwards."""
    before = threads.get_num_threads()
    threads.set_num_threads(2)
    yield
    threads.set_num_threads(before)


def _note(part, thread, counts, by):
    counts[part] += 1
    by[part] = thread


def _meet(_part, thread, met, by):
    """Done when another part is under way as well, or after some seconds."""
    place = team.fetch_add(met, 0, 1)
    by[place] = thread
    patience = 3_000_000_000
    while team.look(met, 0) < 2 and patience > 0:
        patience -= 1


def _wait(_part, _thread, begun, end):
    """Done when the caller says so."""
    team.fetch_add(begun, 0, 1)
    while team.look(end, 0) == 0:
        pass


def _nested(part, _thread, members, counts, by):
    share_in_kernel(members, 3, 3, (counts[part], by[part]))


def sharing(function):
    """What team.sharing makes, for Python to call: that of a compiled function is without a way
    in from Python."""
    share = team.sharing(jit(function))
    return jit(lambda members, parts, values, given: share(members, parts, values, given))


share_in_kernel = team.sharing(jit(_note))
share_note, share_meet, share_wait = sharing(_note), sharing(_meet), sharing(_wait)
share_nested = sharing(_nested)


def noted(parts, members=None):
    """How often each part was done, and by which thread."""
    counts, by = np.zeros(parts, np.int64), np.full(parts, -1)
    share_note(threads.team() if members is None else members, parts, parts, (counts, by))
    return counts.tolist(), set(by.tolist())


def met():
    """The threads that met at work."""
    by = np.full(2, -1)
    threads.team()[team.QUIET] = 0  # mates are woken, worth it or not
    share_meet(threads.team(), 2, 2, (np.zeros(1, np.int64), by))
    return by.tolist()


def slept():
    """The team, once its mate has fallen asleep."""
    members = threads.team()
    end = time.monotonic() + 20.0
    while not members[team.ASLEEP + team.LINE] and time.monotonic() < end:
        time.sleep(0.001)
    assert members[team.ASLEEP + team.LINE]
    return members


def test_each_part_is_done_once():
    for n in (1, 2, 3, 7):
        threads.set_num_threads(n)
        for parts in (0, 1, 2, 3, 10, 1000):
            counts, by = noted(parts)
            assert counts == [1] * parts
            assert by <= set(range(n))


@compiled
def test_the_caller_leads_and_others_help():
    """Both parts are under way at the same time."""
    assert sorted(met()) == [0, 1]


def test_one_part_is_for_the_caller():
    assert noted(1) == ([1], {0})


@compiled
@pytest.mark.sampled(2)
@pytest.mark.parametrize("pauses", [100, 2000])
def test_mates_sleep_and_wake(pauses):
    """Whether they still watch, sleep, or are about to: pauses around the time that they watch."""
    assert sorted(met()) == [0, 1]
    rng = np.random.default_rng(0)
    for pause in (0.2, 0.05, *rng.uniform(0.0, 3e-4, pauses)):
        end = time.perf_counter() + pause
        while time.perf_counter() < end:
            pass
        assert sorted(met()) == [0, 1]


@compiled
def test_mates_whom_waking_did_not_pay_are_left_to_sleep():
    """More and more jobs alone; until they find them awake again and again."""
    lulls = []
    for _ in range(40):
        members = slept()
        noted(10)
        lulls.append(int(members[team.LULL]))
    assert lulls == sorted(lulls) and 1 == lulls[0] < lulls[-1] <= team.LONGEST
    slept()
    members[team.QUIET], members[team.FOUND] = 0, team.WORTH  # as if it had paid
    noted(10)
    assert members[team.LULL] == members[team.QUIET] == 0


@compiled
def test_what_a_job_is_worth_is_its_values_in_however_few_parts():
    """Two parts of many values wake the mate, even where the jobs before did not pay."""
    by = np.full(2, -1)
    for values, helped in ((1, [0, 0]), (team.WORTH, [0, 1])):
        members = slept()
        members[team.QUIET] = team.LONGEST
        share = share_meet if values == team.WORTH else share_note
        share(members, 2, values, (np.zeros(2, np.int64), by))
        assert sorted(by.tolist()) == helped


@compiled
def test_many_mates_sleep_and_wake():
    """More than there are cores; each job is done whoever is awake."""
    threads.set_num_threads(5)
    for i in range(300):
        assert noted(40)[0] == [1] * 40
        time.sleep(1e-4 * (i % 5))


def test_a_job_within_a_job():
    """The inner ones are done by who meets them, as the team is busy."""
    counts, by = np.zeros((4, 3), np.int64), np.zeros((4, 3), np.int64)
    share_nested(threads.team(), 4, 4, (threads.team(), counts, by))
    assert counts.tolist() == [[1] * 3] * 4
    assert not by.any()


@compiled
def test_who_finds_the_team_busy_works_alone():
    begun, end = np.zeros(1, np.int64), np.zeros(1, np.int64)
    leader = threading.Thread(target=share_wait, args=(threads.team(), 2, 2, (begun, end)))
    leader.start()
    try:
        while begun[0] < 2:
            time.sleep(0.001)
        assert noted(5) == ([1] * 5, {0})
    finally:
        end[0] = 1
        leader.join()
    assert sorted(met()) == [0, 1]


@compiled
def test_several_lead_at_once():
    """Each job is whole, whoever gets the team."""

    def work(_):
        return [noted(20)[0] for _ in range(300)]

    with ThreadPoolExecutor(6) as pool:
        for results in pool.map(work, range(6)):
            assert results == [[1] * 20] * 300


def test_where_no_thread_can_be_started(monkeypatch):
    """The caller does it all; of the first few, those help that run."""

    def start(self):
        if self.name == "minigrad_2":
            raise RuntimeError("can't start new thread")
        begin(self)

    begin = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start)
    for n in (2, 4):
        threads.set_num_threads(n)
        assert noted(4)[0] == [1] * 4
        if not numba.config.DISABLE_JIT:
            assert threads.team()[team.MATES] == 1
    monkeypatch.setattr(
        threading.Thread, "start", lambda _: start(threading.Thread(name="minigrad_2"))
    )
    threads.set_num_threads(2)
    assert noted(4) == ([1] * 4, {0})


@compiled
def test_fetch_add_is_one_step():
    """Several threads that take turns get each number once."""

    @numba.njit(nogil=True)
    def take(turns, count, taken):
        for i in range(count):
            taken[i] = team.fetch_add(turns, 1, 1)

    count, turns = 200_000, np.zeros(2, np.int64)
    taken = np.zeros((4, count), np.int64)
    take(turns, 0, taken[0])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda row: take(turns, count, row), taken))
    np.testing.assert_array_equal(np.sort(taken.ravel()), np.arange(4 * count))
    np.testing.assert_array_equal(turns, [0, 4 * count])


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", None, True])
def test_set_num_threads_refuses(n):
    with pytest.raises(ArgumentError, match="set_num_threads: n must be an integer of at least 1"):
        mg.set_num_threads(n)
    assert mg.get_num_threads() == threads.get_num_threads() == 2


def test_set_num_threads():
    mg.set_num_threads(3)
    assert mg.get_num_threads() == threads.get_num_threads() == 3


def test_a_team_that_another_thread_dismisses_at_once_is_still_one(monkeypatch):
    """Between its beginning and its first use."""

    class Interrupted:
        def __enter__(self):
            pass

        def __exit__(self, *_):
            threads._team = None

    monkeypatch.setattr(threads, "_team", None)
    monkeypatch.setattr(threads, "_lock", Interrupted())
    found = threads.team()
    assert isinstance(found, np.ndarray)
    if found.size:
        threads._dismiss(found)


def test_there_is_a_most():
    """What get_num_threads tells is what works."""
    for n in (threads.MOST - 1, threads.MOST):
        mg.set_num_threads(n)
        assert mg.get_num_threads() == n
    mg.set_num_threads(10**9)
    assert mg.get_num_threads() == threads.MOST <= max(64, os.cpu_count())
    assert noted(1000)[0] == [1] * 1000
    assert len(workers()) < threads.MOST + 10  # some of those before may still be about to end


def workers():
    return {t for t in threading.enumerate() if t.name.startswith("minigrad")}


@compiled
@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_another_number_of_threads_ends_the_old_ones(pause):
    """Whether they watch or sleep."""
    before = workers()
    threads.set_num_threads(3)
    assert noted(3)[0] == [1] * 3
    old = workers() - before
    assert old
    time.sleep(pause)
    threads.set_num_threads(3)
    for worker in old:
        worker.join(timeout=10)
        assert not worker.is_alive()


@compiled
def test_a_team_that_is_dismissed_in_mid_job_ends_it():
    """Who leads goes on, with what help there is."""
    begun, end = np.zeros(1, np.int64), np.zeros(1, np.int64)
    old = threads.team()
    leader = threading.Thread(target=share_wait, args=(old, 5, 5, (begun, end)))
    leader.start()
    while begun[0] < 2:
        time.sleep(0.001)
    threads.set_num_threads(2)
    end[0] = 1
    leader.join(10)
    assert not leader.is_alive() and begun[0] == 5
    assert noted(4, old)[0] == [1] * 4
    assert sorted(met()) == [0, 1]


def in_a_child(job):
    """Run job in a forked process, and see that it ends well."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            job()
            code = 0
        finally:
            os._exit(code)
    pause = threading.Event()
    for _ in range(200):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            assert status == 0
            return
        pause.wait(0.05)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    pytest.fail("the child hangs")


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
# Fork in a process with threads.
quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def meet():
    """Two threads, or it breaks."""
    assert sorted(met()) == [0, 1]


@forks
@quiet
@compiled
def test_a_forked_child_has_workers_of_its_own():
    meet()  # the parent's are running
    in_a_child(meet)


@forks
@quiet
@compiled
def test_a_fork_while_another_thread_leads():
    begun, end = np.zeros(1, np.int64), np.zeros(1, np.int64)
    leader = threading.Thread(target=share_wait, args=(threads.team(), 2, 2, (begun, end)))
    leader.start()
    try:
        while begun[0] < 2:
            time.sleep(0.001)
        in_a_child(meet)
    finally:
        end[0] = 1
        leader.join()
    meet()


@forks
@quiet
@compiled
def test_a_fork_while_mates_begin(monkeypatch):
    """They do not hold Numba's lock, compiling what they do, when the child comes to be."""
    serve = jit(team.serve.py_func)
    monkeypatch.setattr(threads, "serve", serve)
    threads.set_num_threads(2)
    threads.team()
    time.sleep(0.02)
    in_a_child(lambda: jit(lambda: 1)())
    meet()
    assert len(serve.signatures) == 1


@forks
@quiet
@compiled
def test_a_fork_while_another_thread_holds_the_lock():
    """That thread is not there in the child to release it."""
    held, done = threading.Event(), threading.Event()

    def hold():
        with threads._lock:
            held.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert held.wait(10)
        in_a_child(meet)
    finally:
        done.set()
        holder.join()
    meet()  # the parent's lock is as it was


@compiled
def test_an_interrupt_while_mates_are_started_leaves_none_behind(monkeypatch):
    start = threading.Thread.start

    def interrupted(thread):
        start(thread)
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threads.set_num_threads(3)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(threading.Thread, "start", interrupted)
            threads.team()
    finally:
        signal.signal(signal.SIGINT, before)
    assert threads.team().size > 1
    threads.set_num_threads(1)
    until = time.monotonic() + 30.0
    while any(t.name.startswith("minigrad_") for t in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.01)
