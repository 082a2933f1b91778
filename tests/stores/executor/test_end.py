"""The executor of a node: how it ends, and loops and pools that end before it.

It is tested by itself: no server holds a thread at the moment that a test needs.
"""

from __future__ import annotations

import asyncio
import ctypes
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tornado_mcsession import StoreUnavailable

from .work import LONG, outcomes, run, submit, threads


@pytest.mark.gen_test
async def test_stop_loses_nothing(make, work):
    """What was submitted before stop ends well, handed over or not."""
    executor = make()
    futures = [submit(executor, "holding", "hold")]
    await work.wait_until_held()
    futures.append(submit(executor, "handed over"))
    await asyncio.sleep(0)
    futures.append(submit(executor, "of this turn"))
    asyncio.get_running_loop().call_later(0.05, work.release)
    await executor.stop()
    assert [future.result() for future in futures] == [
        "holding done",
        "handed over done",
        "of this turn done",
    ]
    assert threads() == []


@pytest.mark.gen_test
async def test_stop_loses_nothing_of_its_own_turn(make):
    """A first call, submitted in the very turn of stop, is run."""
    executor = make()
    future = submit(executor, "a")
    await executor.stop()
    assert future.result() == "a done"
    assert threads() == []


@pytest.mark.gen_test
async def test_a_loop_that_wakes_up_after_stop_starts_nothing(make):
    """Calls that a sleeping loop hands over after the end fail, without a thread."""
    executor = make(timeout=0.3)
    sleeping = asyncio.new_event_loop()

    def in_thread(work):
        return asyncio.to_thread(work)

    async def begin():
        return asyncio.ensure_future(outcomes(submit(executor, "late")))

    def one_turn():
        task = sleeping.create_task(begin())
        sleeping.call_soon(sleeping.stop)
        sleeping.run_forever()
        return task.result()

    late = await in_thread(one_turn)
    await executor.stop()
    assert threads() == []
    (error,) = await in_thread(lambda: sleeping.run_until_complete(late))
    assert isinstance(error, StoreUnavailable)
    assert threads() == []
    sleeping.close()


@pytest.mark.gen_test
async def test_stop_loses_nothing_of_another_loop(make, work):
    """Stop waits for calls that another thread's loop has submitted."""
    executor = make()
    answers = []

    async def elsewhere():
        answers.append(await submit(executor, "elsewhere", "hold"))

    thread = threading.Thread(target=run, args=(elsewhere,))
    thread.start()
    await work.wait_until_held()
    asyncio.get_running_loop().call_later(0.05, work.release)
    await executor.stop()
    await asyncio.to_thread(thread.join, LONG)
    assert answers == ["elsewhere done"]


@pytest.mark.gen_test
async def test_stop_has_a_deadline_too(make, work):
    """Stop waits for what hangs no longer than a call may take."""
    executor = make(timeout=0.3)
    hanging = submit(executor, "hanging", "hold")
    await work.wait_until_held()
    await asyncio.wait_for(executor.stop(), 5)
    assert isinstance((await outcomes(hanging))[0], StoreUnavailable)


@pytest.mark.gen_test
async def test_after_stop_calls_are_refused(make):
    """A stopped executor, used before or not, takes no more; stop may come twice."""
    used, unused = make(), make()
    await submit(used, "a")
    for executor in (used, unused):
        await executor.stop()
        await executor.stop()
        with pytest.raises(StoreUnavailable, match="closed"):
            await submit(executor, "b")


@pytest.mark.gen_test
async def test_a_given_executor_is_used_and_left_alone(make):
    """Calls run on the executor that was given, which stop does not shut down."""
    with ThreadPoolExecutor(1, thread_name_prefix="given") as given:
        executor = make(given=given)
        assert await submit(executor, "a") == "a done"
        assert threads() == []
        await executor.stop()
        assert given.submit(int).result(LONG) == 0


@pytest.mark.gen_test
async def test_a_dead_executor_is_an_error_not_a_timeout(make):
    """Where no thread can be had, calls end at once, and leave nothing behind."""
    given = ThreadPoolExecutor(1)
    given.shutdown()
    executor = make(given=given, max_pending=3)
    for _ in range(5):
        futures = [submit(executor, "a"), submit(executor, "b")]
        ended = await asyncio.wait_for(outcomes(*futures), 5)
        for error in ended:
            assert isinstance(error, StoreUnavailable)
            assert "no thread" in str(error)
    assert executor.pending == 0


def test_a_closed_loop_holds_up_nobody(make, work):
    """Calls that a closed loop submitted, flushed or not, are dropped."""
    executor = make(max_pending=10)
    for turns in (0, 1, 2):
        loop = asyncio.new_event_loop()
        for _ in range(5):
            loop.call_soon(submit, executor, "left behind")
        for _ in range(1 + turns):
            loop.call_soon(loop.stop)
            loop.run_forever()
        loop.close()

        async def use():
            return await asyncio.wait_for(submit(executor, "next"), 5)

        assert run(use) == "next done"
    assert executor.pending == 0


def test_loops_are_let_go(make):
    """Of a hundred loops that have come and gone, few are remembered."""
    executor = make()

    async def use():
        return await submit(executor, "a")

    for _ in range(100):
        assert run(use) == "a done"
    assert len(executor._waiters) <= 2


def test_loops_at_once_get_their_own_answers(make, work):
    """Outcomes go to the loop of their future, when many submit at once."""
    executor = make(threads=2)
    failures = []

    async def use(name):
        for _ in range(20):
            names = [f"{name}{number}" for number in range(20)]
            answers = await asyncio.gather(*(submit(executor, one) for one in names))
            assert answers == [f"{one} done" for one in names]

    def in_thread(name):
        try:
            run(lambda: use(name))
        except BaseException as error:
            failures.append(error)

    users = [threading.Thread(target=in_thread, args=(name,)) for name in "abcd"]
    for user in users:
        user.start()
    for user in users:
        user.join(LONG)
    assert failures == []
    assert len(work.ran) == 4 * 20 * 20


def interrupt(thread: threading.Thread, error: type[BaseException]) -> None:
    """Raise ``error`` in ``thread``, as a debugger or a time-out decorator does."""
    set_error = ctypes.pythonapi.PyThreadState_SetAsyncExc
    assert set_error(ctypes.c_ulong(thread.ident), ctypes.py_object(error)) == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("is_given", [False, True], ids=["own threads", "given"])
async def test_what_ends_a_thread_ends_no_more(make, is_given):
    """SystemExit in each thread, several times: each call is told, the next are run."""
    with ThreadPoolExecutor(2) as given:
        executor = make(threads=2, **({"given": given} if is_given else {}))
        for number in range(6):
            (error,) = await asyncio.wait_for(
                outcomes(submit(executor, "a", "exit")), LONG
            )
            assert isinstance(error, StoreUnavailable)
            assert "SystemExit" in error.reason
            assert error.outcome_unknown
            assert await submit(executor, f"b{number}") == f"b{number} done"
        assert executor.pending == 0
        await executor.stop()
        assert threads() == []


@pytest.mark.gen_test
@pytest.mark.parametrize("error", [SystemExit, ValueError])
async def test_a_thread_that_is_interrupted_at_rest_is_replaced(make, work, error):
    """The call that wakes it finds another thread, and so do all that follow."""
    executor = make(threads=2)
    for number in range(10):
        await asyncio.gather(submit(executor, "a"), submit(executor, "b"))
        await asyncio.sleep(0.02)  # until they rest
        for thread in threads():
            interrupt(thread, error)
        # It is raised when the thread runs next.
        name = f"next{number}"
        assert await asyncio.wait_for(submit(executor, name), LONG) == f"{name} done"
    assert executor.pending == 0
    await executor.stop()
    async with asyncio.timeout(LONG):
        while threads():  # noqa: ASYNC110 # those that were interrupted last
            await asyncio.sleep(0.001)
