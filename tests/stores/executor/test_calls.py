"""The executor of a node: batches on a few threads, deadlines and limits.

It is tested by itself: no server holds a thread at the moment that a test needs.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from tornado_mcsession import StoreUnavailable
from tornado_mcsession.stores.memcached.executor import BATCH

from .work import LONG, outcomes, submit, threads


@pytest.mark.gen_test
async def test_calls_of_one_turn_share_a_batch(make, work):
    """What is submitted in one turn of the loop is run together, in its order."""
    executor = make(threads=4)
    names = [str(number) for number in range(10)]
    answers = await asyncio.gather(*(submit(executor, name) for name in names))
    assert answers == [f"{name} done" for name in names]
    assert work.batches == [names]
    assert executor.pending == 0


@pytest.mark.gen_test
async def test_calls_that_wait_for_a_thread_share_a_batch(make, work):
    """What comes while the threads are busy is run together when one is free."""
    executor = make()
    first = submit(executor, "first", "hold")
    await work.wait_until_held()
    later = []
    for number in range(3):
        later.append(submit(executor, str(number)))
        await asyncio.sleep(0)
    assert executor.pending == 4
    work.release()
    await asyncio.gather(first, *later)
    assert work.batches == [["first"], ["0", "1", "2"]]


@pytest.mark.gen_test
async def test_a_batch_has_a_limit(make, work):
    """More calls than a batch holds are run in several."""
    executor = make()
    count = 2 * BATCH + 1
    await asyncio.gather(*(submit(executor, str(n)) for n in range(count)))
    assert [len(batch) for batch in work.batches] == [BATCH, BATCH, 1]


@pytest.mark.gen_test
@pytest.mark.parametrize("count", [1, 2, 3])
async def test_there_are_no_more_threads_than_allowed(make, work, count):
    """However many calls there are, so many run at the same time, and no more."""
    executor = make(threads=count)
    before = len(threads())
    futures = []
    for number in range(3 * count):
        futures.append(submit(executor, str(number), "hold"))
        await asyncio.sleep(0)
    await work.wait_until_held(count)
    assert len(threads()) - before == count
    assert not work.held.acquire(blocking=False)
    work.release()
    await asyncio.gather(*futures)


@pytest.mark.gen_test
async def test_a_given_executor_is_not_filled(make, work):
    """Of an executor with many threads no more are taken than allowed."""
    with ThreadPoolExecutor(8) as given:
        executor = make(threads=2, given=given)
        futures = []
        for number in range(6):
            futures.append(submit(executor, str(number), "hold"))
            await asyncio.sleep(0)
        await work.wait_until_held(2)
        assert given.submit(int).result(LONG) == 0
        assert not work.held.acquire(blocking=False)
        work.release()
        await asyncio.gather(*futures)


@pytest.mark.gen_test
async def test_what_has_ended_is_let_go(make, work):
    """A call that has ended is not remembered for longer than the next ones."""
    executor = make()
    first = weakref.ref(submit(executor, "first"))
    await first()
    for number in range(3):
        await submit(executor, str(number))
    assert first() is None


@pytest.mark.gen_test
async def test_no_thread_before_the_first_call_and_none_after_stop(make):
    """Making starts nothing; stop leaves nothing."""
    before = threads()
    executor = make(threads=3)
    assert threads() == before
    await submit(executor, "a")
    assert len(threads()) == len(before) + 1
    await executor.stop()
    assert threads() == before


@pytest.mark.gen_test
async def test_outcomes_are_each_calls_own(make):
    """An error of one call is not that of its neighbours."""
    executor = make()
    good, bad, other = await outcomes(
        submit(executor, "a"), submit(executor, "b", "fail"), submit(executor, "c")
    )
    assert (good, other) == ("a done", "c done")
    assert isinstance(bad, OSError)


@pytest.mark.gen_test
async def test_a_crash_ends_its_batch_and_no_more(make):
    """What the batch raises is the outcome of those without one; the thread goes on."""
    executor = make()
    crashed = await outcomes(submit(executor, "a"), submit(executor, "b", "crash"))
    assert crashed[0] == "a done"
    assert isinstance(crashed[1], StoreUnavailable)
    assert await submit(executor, "c") == "c done"
    assert executor.pending == 0


@pytest.mark.gen_test
async def test_a_call_ends_in_time_whether_it_runs_or_waits(make, work):
    """After the timeout a call ends, and tells whether it had begun."""
    executor = make(timeout=0.3)
    running = submit(executor, "running", "hold")
    await work.wait_until_held()
    await asyncio.sleep(0.02)
    waiting = submit(executor, "waiting")
    started = time.monotonic()
    ran, waited = await outcomes(running, waiting)
    assert time.monotonic() - started < 5
    assert isinstance(ran, StoreUnavailable)
    assert ran.outcome_unknown
    assert isinstance(waited, StoreUnavailable)
    assert not waited.outcome_unknown


@pytest.mark.gen_test
async def test_what_waited_too_long_is_not_run(make, work):
    """A call whose time is over in the queue is never done."""
    executor = make(timeout=0.3)
    late = [submit(executor, "holding", "hold"), submit(executor, "same batch")]
    await work.wait_until_held()
    late.append(submit(executor, "queued"))
    await outcomes(*late)
    work.release()
    assert await submit(executor, "later") == "later done"
    assert work.ran == ["holding", "later"]


@pytest.mark.gen_test
async def test_a_call_that_nobody_waits_for_is_not_run(make, work):
    """A call that was cancelled in the queue is not done; its neighbours are."""
    executor = make()
    holding = submit(executor, "holding", "hold")
    await work.wait_until_held()
    handed_over, other = submit(executor, "handed over"), submit(executor, "other")
    await asyncio.sleep(0)
    handed_over.cancel()
    submit(executor, "of this turn").cancel()
    await asyncio.sleep(0)
    work.release()
    await asyncio.gather(holding, other)
    assert work.ran == ["holding", "other"]


@pytest.mark.gen_test
async def test_a_call_that_is_cancelled_while_it_runs_disturbs_nobody(make, work):
    """The outcome of a cancelled call is dropped."""
    executor = make()
    holding, other = submit(executor, "holding", "hold"), submit(executor, "other")
    await work.wait_until_held()
    holding.cancel()
    work.release()
    assert await other == "other done"


@pytest.mark.gen_test
async def test_too_many_calls_are_refused_at_once(make, work):
    """Above max_pending a call is refused; when others end, there is room again."""
    executor = make(max_pending=3)
    futures = [submit(executor, "holding", "hold")]
    await work.wait_until_held()
    futures.append(submit(executor, "handed over"))
    await asyncio.sleep(0)
    futures.append(submit(executor, "of this turn"))
    with pytest.raises(StoreUnavailable, match="too many"):
        await submit(executor, "one more")
    work.release()
    await asyncio.gather(*futures)
    assert await submit(executor, "again") == "again done"


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize("is_given", [False, True], ids=["own threads", "given"])
async def test_no_call_is_left_behind(make, is_given):
    """What is submitted at the moment when a thread finds no more work is run, too."""
    with ThreadPoolExecutor(2) as given:
        executor = make(threads=2, **({"given": given} if is_given else {}))
        for number in range(3000):
            asked = [submit(executor, "a")]
            if number % 3 == 0:
                await asyncio.sleep(0)
                asked.append(submit(executor, "b"))
            async with asyncio.timeout(5):
                await asyncio.gather(*asked)
