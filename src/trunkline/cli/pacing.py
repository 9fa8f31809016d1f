"""When each frame of a stream is due. No I/O, no clock of its own."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schedule:
    """Frames due at equal intervals from a start.

    Each frame's time is counted from the start, not from the frame before it, so that lateness
    doesn't add up: after a pause the frames that are overdue go out at once.
    """

    start_s: float
    interval_s: float

    def wait_s(self, index: int, now_s: float) -> float:
        """Return how long to wait before sending the frame with that index; 0 if it is due."""
        return max(0.0, self.start_s + index * self.interval_s - now_s)
