"""What does following frame headers in Python cost per read?

1.1 µs for a read that is one whole frame of 640 bytes, 2.1 for half a frame, on a day on which
a round trip, two such reads, cost nginx 17 to 24 µs.
"""

import timeit

from benchmarks.support.frames import masked_frame
from trunkline.protocol.frames import FrameScanner

RUNS = 20_000


def us_a_read(reads: list[bytes]) -> float:
    scanner = FrameScanner(2**20)

    def feed() -> None:
        for data in reads:
            scanner.feed(data)

    return timeit.timeit(feed, number=RUNS) / RUNS / len(reads) * 1e6


def main() -> None:
    for size in (640, 16 * 1024):
        frame = masked_frame(bytes(size))
        whole, halves = [frame] * 10, [frame[: size // 2], frame[size // 2 :]] * 5
        print(
            f"{size} bytes: {us_a_read(whole):.2f} µs a read of one frame, "
            f"{us_a_read(halves):.2f} of half a frame"
        )


if __name__ == "__main__":
    main()
