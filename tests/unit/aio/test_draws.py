"""Random ids: none twice, also after a fork."""

import os
import re

import pytest

from trunkline.aio.draws import Draws


@pytest.mark.parametrize("size", [1, 7, 16, 24, 4096])
def test_ids_are_as_long_as_is_asked_for(size: int) -> None:
    draws = Draws()
    assert all(re.fullmatch(rf"[0-9a-f]{{{2 * size}}}", draws.hex(size)) for _ in range(5))


def test_no_digits_are_given_out_twice() -> None:
    draws = Draws()
    assert len({draws.hex(16 if number % 2 else 24) for number in range(2000)}) == 2000


def test_a_forked_process_draws_its_own() -> None:
    draws = Draws()
    draws.hex(16)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, draws.hex(16).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() != draws.hex(16)
