"""Many times, kept as counts of buckets that are one per cent wide each."""

import math
from collections import Counter

WIDTH = math.log(1.01)


class Percentiles:
    def __init__(self):
        self.buckets, self.count, self.longest_s = Counter(), 0, 0.0

    def add(self, seconds):
        self.buckets[math.floor(math.log(max(seconds, 1e-6)) / WIDTH)] += 1
        self.count += 1
        self.longest_s = max(self.longest_s, seconds)

    def at(self, share):
        """The time that this share of them did not exceed, in milliseconds."""
        passed = 0
        for bucket in sorted(self.buckets):
            passed += self.buckets[bucket]
            if passed >= share * self.count:
                return round(1_000 * math.exp((bucket + 1) * WIDTH), 2)
        return None

    def summary(self):
        shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
        return {**{name: self.at(share) for name, share in shares.items()}, "max": round(1_000 * self.longest_s, 2)}
