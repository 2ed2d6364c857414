"""Runs of three durable steps that do nothing, with DBOS: one after the other, then 32 at a time.

Arguments: address of an empty PostgreSQL database, how many runs.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from dbos import DBOS, DBOSConfig

url, number = sys.argv[1], int(sys.argv[2])
config: DBOSConfig = {"name": "bench", "system_database_url": url, "log_level": "ERROR", "run_admin_server": False}
DBOS(config=config)


@DBOS.step()
def nothing():
    return None


@DBOS.workflow()
def three():
    for _ in range(3):
        nothing()
    return "done"


DBOS.launch()


def once(_=0):
    begin = time.perf_counter()
    if three() != "done":
        raise SystemExit("it gave no answer")
    return (time.perf_counter() - begin) * 1000


def say(word, **value):
    """Whoever measures reads what both processes have used at each word."""
    print(json.dumps({"word": word, **value}), flush=True)
    sys.stdin.readline()


for _ in range(20):
    once()
say("begin")
latencies = [once() for _ in range(number)]
say("middle", latencies=latencies)
together = (number + 31) // 32 * 4 * 32
begin = time.perf_counter()
with ThreadPoolExecutor(32) as pool:
    list(pool.map(once, range(together)))
say("end", together=together, seconds=time.perf_counter() - begin)
DBOS.destroy()
