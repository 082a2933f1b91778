"""A store that was used before a fork."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

# The child's exit status tells what it found; a child that hangs is killed.
HEAD = """
import asyncio, concurrent.futures, gc, logging, os, signal, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # fork and threads, 3.12
warnings.simplefilter("error", ResourceWarning)
sys.unraisablehook = lambda raised: os._exit(3)
from tornado_mcsession import MemcachedStore, MemoryStore
logging.basicConfig(stream=sys.stdout, format="%(name)s: %(message)s")

def locks_of(thing, seen):
    # Every lock of an object, and of those that it is made of, whatever their names.
    module = type(thing).__module__.partition(".")[0]
    if isinstance(thing, type(threading.Lock())):
        yield thing
    elif id(thing) not in seen and module in ("tornado_mcsession", "pymemcache"):
        seen.add(id(thing))
        for part in vars(thing).values() if hasattr(thing, "__dict__") else ():
            for one in part.values() if isinstance(part, dict) else (part,):
                yield from locks_of(one, seen)

def in_child(work, meanwhile=lambda: None):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        work()
        gc.collect()
        sys.stdout.flush()
        os._exit(0)
    meanwhile()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, f"the child ended with {status}"
"""


def run(script: str, *args: str) -> str:
    """What ``script`` printed; it must have ended well."""
    ran = subprocess.run(
        [sys.executable, "-c", HEAD + textwrap.dedent(script), *args],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_forked_memory_store_says_so_once():
    """A child's MemoryStore works, by itself, and warns a single time."""
    output = run("""
        store = MemoryStore()
        asyncio.run(store.add("key", b"1", 100))

        def work():
            for _ in range(3):
                assert asyncio.run(store.get("key")).data == b"1"
            asyncio.run(store.delete("key"))
            asyncio.run(store.close())

        with store._lock:  # as another thread may hold it at the fork
            in_child(work)
        assert asyncio.run(store.get("key")).data == b"1"
    """)
    assert output.count("\n") == 1
    assert output.startswith("tornado_mcsession: MemoryStore is used after a fork")


@pytest.mark.integration
@pytest.mark.parametrize("executor", ["own threads", "a given executor"])
def test_a_forked_memcached_store_works_in_both(memcached, executor):
    """Parent and child read and write at the same time, each its own answers."""
    run(
        """
        url, executor = sys.argv[1:]
        pool = None
        if executor != "own threads":
            pool = concurrent.futures.ThreadPoolExecutor(2)
        store = MemcachedStore(url, threads=4, timeout=10, executor=pool)

        async def use(name):
            keys = [f"{name}{n}" for n in range(100)]
            for key in keys:
                await store.add(key, key.encode(), 100)
            for _ in range(20):
                for key, entry in (await store.get_many(keys)).items():
                    assert entry.data == key.encode()
                got = await asyncio.gather(*map(store.get, keys))
                assert [entry.data.decode() for entry in got] == keys

        def work():
            asyncio.run(use("child"))
            asyncio.run(store.close())

        asyncio.run(use("before"))
        in_child(work, meanwhile=lambda: asyncio.run(use("parent")))
        asyncio.run(use("after"))
        asyncio.run(store.close())
        if pool:
            assert pool.submit(int).result(5) == 0  # not shut down by close
        """,
        f"127.0.0.1:{memcached.port}",
        executor,
    )


@pytest.mark.integration
@pytest.mark.parametrize("verb", ["close", "get"])
def test_a_fork_in_the_middle_of_work_holds_up_nothing(own_memcached, verb):
    """Locks and threads that the parent was using do not block the child."""
    own_memcached.set("key", b"1")
    output = run(
        """
        port, verb = sys.argv[1:]
        store = MemcachedStore(f"localhost:{port}", timeout=10)

        async def use():
            store.stats()
            if verb == "get":
                assert (await store.get("key")).data == b"1"
            await store.close()
            print("done")

        def work():
            # In a thread: this one is in the parent's loop, whose pipe is shared.
            thread = threading.Thread(target=lambda: asyncio.run(use()))
            thread.start()
            thread.join()

        async def main():
            task = asyncio.ensure_future(store.get("key"))
            await asyncio.sleep(0)
            held = [one for one in locks_of(store, set()) if one.acquire(False)]
            assert len(held) >= 4
            in_child(work)
            for lock in held:
                lock.release()
            assert (await task).data == b"1"
            await store.close()

        asyncio.run(main())
        """,
        str(own_memcached.port),
        verb,
    )
    assert output == "done\n"
