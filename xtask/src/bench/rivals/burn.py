"""Burn-down of queued jobs that do nothing, with awa.

Arguments: address of an empty PostgreSQL database, how many jobs.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass

from awa import AsyncClient

url, number = sys.argv[1], int(sys.argv[2])


@dataclass
class Nothing:
    number: int


async def main():
    client = AsyncClient(url)
    await client.migrate()
    done, all_done = 0, asyncio.Event()

    @client.task(Nothing, queue="bench")
    async def nothing(job):
        nonlocal done
        done += 1
        if done == number:
            all_done.set()

    begin = time.perf_counter()
    for first in range(0, number, 1000):
        jobs = [Nothing(n) for n in range(first, min(first + 1000, number))]
        await client.insert_many_copy(jobs, queue="bench")
    queued = time.perf_counter() - begin
    print(json.dumps({"word": "begin"}), flush=True)
    sys.stdin.readline()
    begin = time.perf_counter()
    await client.start([("bench", 256)])
    await all_done.wait()
    while True:
        stats = [s for s in await client.queue_stats() if s.queue == "bench"]
        if not any(s.total_queued or s.available or s.running for s in stats):
            break
        await asyncio.sleep(0.05)
    seconds = time.perf_counter() - begin
    print(json.dumps({"word": "end", "queue_s": queued, "seconds": seconds, "together": number}), flush=True)
    sys.stdin.readline()
    await client.shutdown()


asyncio.run(main())
