"""Writes `reference.tsv`: due times by cronsim (PyPI, BSD-3-Clause), which does as Debian's cron does.

    pip install cronsim==2.8 tzdata==2025.2 && PYTHONTZPATH= python3 reference.py > reference.tsv

Zones change their clocks by whole hours: elsewhere cronsim passes over an hour of patterns with `*`. Patterns with seconds have a `*`,
since without one they are not as in Debian's cron, which has no seconds.

Each line: zone, pattern, how many times are due after 2021-01-01 until 2026-01-01 (UTC), SHA-256 of them as seconds, a line each.
"""

import hashlib
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

from cronsim import CronSim

ZONES = """America/New_York America/Santiago Europe/London Antarctica/Troll Africa/Cairo Africa/Casablanca Asia/Tehran
Asia/Kolkata Pacific/Chatham Pacific/Auckland""".split()
PATTERNS = """30 2 * * *
0 0 * * *
15 1,2,3 * * *
0 1-4 * * *
30 23 * * 6
45 * * * *
*/20 1-3 * * *
0 */2 * * *
5 0 L * *
0 12 * * 5#2
20 2 * * 0L
0 3 LW * *
30 1 13 * FRI
0 4 */10 * MON
0 2 29 2 *
10 */30 1-3 * * *""".splitlines()
START, END = 1609459200, 1767225600

for zone in ZONES:
    for pattern in PATTERNS:
        due, lines = CronSim(pattern, datetime.fromtimestamp(START, ZoneInfo(zone))), []
        while (at := int(next(due).astimezone(timezone.utc).timestamp())) <= END:
            if at > START:
                lines.append(f"{at}\n")
        print(zone, pattern, len(lines), hashlib.sha256("".join(lines).encode()).hexdigest(), sep="\t")
