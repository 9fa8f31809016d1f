from typing import Final, final

#: Of `_pump.c`; `gateway.carrier` says which one it needs.
INTERFACE: Final[int]

#: Descriptor, bytes left of the frame under way, frames so far, bytes so far.
_Given = tuple[int, int, int, int]
#: Frames, bytes, bytes left of the frame under way, what was read and not followed, what waits to
#: be sent to the other socket; how many of the frames since it was given were control frames.
_Taken = tuple[int, int, int, bytes, bytes, int]
#: Frames, bytes, bytes that wait to be sent to the other socket; control frames as above.
_Counters = tuple[int, int, int, int]

@final
class Pump:
    def __init__(
        self,
        *,
        max_frame_bytes: int,
        read_bytes: int,
        realtime_share: float = 0,
        realtime_s: float = 1,
    ) -> None: ...
    def add(self, one: _Given, other: _Given, /) -> int: ...
    def remove(self, pair: int, /) -> tuple[_Taken, _Taken]: ...
    def counters(self, pair: int, /) -> tuple[_Counters, _Counters]: ...
    def take_out(self) -> list[int]: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...
