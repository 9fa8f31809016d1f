"""Has what a process writes to from here on lie together, instead of between what is there.

A page is shared with a fork until one of them writes to it. Importing leaves small free places all
over the heap; a fork that puts its objects there gets a page of its own for each few of them.
Here these places are taken, for good.

Running code writes to it, too: it is counted who uses it, and Python adapts it to what it meets. So
the code that a fork will run is moved out of all that was imported with it.
"""

import gc
import types
from collections.abc import Container
from itertools import pairwise, repeat

#: Python's own allocator has a class of blocks for each of these sizes, in pools of 16 KiB or less.
_STEP = 16
_MOST = 512
_POOL_BYTES = 16 * 1024
#: So many of a pool's worth of blocks follow each other where nobody was before.
_ORDERED = 0.9
#: What an object of bytes takes beside them.
_HEAD_BYTES = 33
#: Larger ones come from the C library, and these sizes from between what it has given out already.
_LARGER = (65536, 32768, 16384, 8192, 4096, 3072, 2048, 1536, 1024, 768, 576)
#: More than a heap has free places of one size; it only has to end.
_MOST_BYTES = 8 * 1024 * 1024

_taken: list[object] = []


def take_free_places() -> None:
    """Take the free places of every size."""
    for size in range(_STEP, _MOST + 1, _STEP):
        _take_pools(size)
    for size in _LARGER:
        _take_chunks(size)


def gather_code(run: Container[int]) -> None:
    """Move code to beside each other, and beside nothing else.

    A function has the same code as before, at another place. What it was stays where it was: a
    hole there would be filled with what is written to.

    Args:
        run: The ids of the code that is run.
    """
    functions = [
        each
        for each in gc.get_objects()
        if type(each) is types.FunctionType and id(each.__code__) in run
    ]
    if not functions:
        return
    take_free_places()
    moved: dict[int, types.CodeType] = {}
    for function in functions:
        _taken.append(function.__code__)
        function.__code__ = _moved(function.__code__, run, moved)


def _moved(
    code: types.CodeType, run: Container[int], moved: dict[int, types.CodeType]
) -> types.CodeType:
    if (known := moved.get(id(code))) is None:
        # What it makes functions of is in there.
        constants = tuple(
            _moved(each, run, moved) if type(each) is types.CodeType and id(each) in run else each
            for each in code.co_consts
        )
        known = moved[id(code)] = code.replace(co_consts=constants)
    return known


def _take_pools(size: int) -> None:
    """Take blocks until a pool's worth of them comes one after the other: it is a fresh one."""
    count = _POOL_BYTES // size
    for _ in repeat(None, _MOST_BYTES // _POOL_BYTES):
        blocks = [_block(size) for _ in repeat(None, count)]
        _taken.append(blocks)
        if sum(id(after) - id(one) == size for one, after in pairwise(blocks)) > count * _ORDERED:
            return


def _block(size: int) -> object:
    if size > _HEAD_BYTES:
        return bytes(size - _HEAD_BYTES)
    return object() if size == _STEP else complex(size)


def _take_chunks(size: int) -> None:
    """Take chunks until one comes from beyond all others."""
    highest = 0
    for _ in repeat(None, _MOST_BYTES // size):
        chunk = bytes(size - _HEAD_BYTES)
        _taken.append(chunk)
        if id(chunk) > highest:
            if highest and id(chunk) - highest < 2 * size:
                return
            highest = id(chunk)
