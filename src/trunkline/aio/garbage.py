"""How often Python looks for objects that only refer to each other, where many connections are.

Each connection keeps some dozens of objects. By default Python looks through the last few
connections' again and again while others are set up, and now and then through all there are, with
everything that was imported: of 890 µs of CPU that a connection took from its set-up to its end 32
went into that, and each look at everything stopped the event loop for 40 ms. What was imported is
never garbage, and what a connection keeps is let go of by counting. So it takes 8 µs.
"""

import gc
from typing import Final

#: New objects after which the new ones are looked through: a hundred connections' or so.
_NEW: Final = 5000
#: How many such looks come before one at the older ones, too: as by default.
_OLDER: Final = 10


def collect_seldom() -> None:
    """Have this process look for garbage seldom, and never among what there is already.

    It is for the beginning of a process that serves, when everything is imported.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW, _OLDER, _OLDER)
