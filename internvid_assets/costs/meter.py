"""What this process uses up: processor and GPU seconds, and bytes that the media store took or fetched."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass

_bytes: Counter[str] = Counter()
_lock = threading.Lock()


def count_bytes(item: str, amount: int) -> None:
    """Add to `bytes_stored` or `bytes_fetched` of this process."""
    with _lock:
        _bytes[item] += amount


@dataclass(frozen=True)
class Reading:
    """What the process, and the children that it waited for, have used since they began."""

    wall: float
    cpu: float
    bytes: dict[str, int]

    @classmethod
    def now(cls) -> Reading:
        """A reading; costs a microsecond or two."""
        times = os.times()
        with _lock:
            held = dict(_bytes)
        return cls(time.perf_counter(), times.user + times.system + times.children_user + times.children_system, held)

    def costs(self) -> dict[str, float]:
        """What was used since this reading, by item; what is zero is left out.

        `gpu_seconds` is wall time times the GPUs on which this process holds memory: an allocated GPU is paid for, busy or not.
        Of children it says nothing; who starts a training adds what that reports.
        """
        later = Reading.now()
        used = {
            "cpu_seconds": later.cpu - self.cpu,
            "gpu_seconds": (later.wall - self.wall) * _gpus_in_use(),
            **{item: amount - self.bytes.get(item, 0) for item, amount in later.bytes.items()},
        }
        return {item: amount for item, amount in used.items() if amount > 0}


def _gpus_in_use() -> int:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    return sum(torch.cuda.memory_reserved(device) > 0 for device in range(torch.cuda.device_count()))
