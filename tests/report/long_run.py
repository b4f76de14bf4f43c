# SPDX-License-Identifier: MIT
"""A run as of a GPU: two launches a day apart, many batches with figures of the device, in the ledger of a small one."""
import random
import sqlite3

START, PAUSE, BATCHES_A_SHARD = 1_790_000_000, 90_000, 200


def batch(number, launch, seconds, rng):
    hot = 100 <= number % 1000 < 160
    return {"number": number, "epoch": launch, "problems": 16, "rows": 70, "tokens": 16384 - rng.randrange(800), "squared_lengths": 1e6,
            "prepare_seconds": 0.02 * seconds, "wait_seconds": 0.01 * seconds, "compute_seconds": seconds * (1.5 if hot else 1),
            "write_seconds": 0.05 * seconds, "predicted_seconds": seconds, "score": 0.4 if hot else 0.02 * rng.random(),
            "memory_bytes": 60 << 30, "overflowed": 0, "upload_seconds": 0.001, "device_seconds": 0.97 * seconds,
            "download_seconds": 0.002, "memory_used": 60 << 30, "process_memory": 59 << 30, "utilization": 97, "sm_clock": 1200 if hot else 1700,
            "power": 600 + rng.randrange(80), "temperature": 80 if hot else 62, "throttle_reasons": 0, "pcie_received": 1e8,
            "pcie_sent": 1e8, "xid": 0}


def insert(ledger, table, row):
    ledger.execute(f"INSERT INTO {table}({', '.join(row)}) VALUES({', '.join('?' * len(row))})", list(row.values()))


def lengthen(folder):
    """Gives the run in FOLDER such a past; returns its launches as (number, start, end)."""
    rng = random.Random(1)
    with sqlite3.connect(folder / "ledger.sqlite") as ledger:
        shards = ledger.execute("SELECT number, checkpoint FROM shard ORDER BY number").fetchall()
        for table in ("batch", "launch"):
            ledger.execute(f"DELETE FROM {table}")
        now, launch, launches = START, 1, [[1, START, 0]]
        for shard, checkpoint in shards:
            if shard == len(shards) // 2:
                launches[-1][2] = int(now)
                now += PAUSE
                launch += 1
                launches.append([launch, int(now), 0])
            for i in range(BATCHES_A_SHARD):
                row = batch(shard * BATCHES_A_SHARD + i, launch, 30 + rng.random(), rng)
                now += row["compute_seconds"] + row["wait_seconds"]
                insert(ledger, "batch", {**row, "checkpoint": checkpoint})
            ledger.execute("UPDATE shard SET first_batch = ?, batches = ?, sealed_at = ? WHERE number = ?",
                           (shard * BATCHES_A_SHARD, BATCHES_A_SHARD, int(now), shard))
        launches[-1][2] = int(now)
        for number, start, end in launches:
            insert(ledger, "launch", {"epoch": number, "started": start, "ended": end, "exit_code": 75 if number < launch else 0, "threads": 16,
                                      "process": 4000 + number, "host": f"gpu-node-{number}", "reason": "stopped by SIGTERM", "worked": 1})
        for i in range(20):
            insert(ledger, "event", {"at": START + 600 * i, "epoch": 1, "kind": "drift", "text": f'{{"batch": {i}}} ' + "a long word or two " * 8})
        ledger.execute("UPDATE progress SET epoch = ?, updated = ?, utilization = 97, sm_clock = 1700, power = 640, temperature = 66,"
                       " memory_used = 64000000000, process_memory = 63000000000, throttle_reasons = 4, xid = 0, upload_seconds = 0.001,"
                       " device_seconds = 30, download_seconds = 0.002, pcie_received = 1e8, pcie_sent = 1e8", (launch, int(now)))
    return [tuple(one) for one in launches]
