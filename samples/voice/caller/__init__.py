"""A caller for the demo: where its speech comes from, how it speaks and what it measures.

Needs ``websockets`` and nothing else, so it can serve as a start for a client of your own.
"""
