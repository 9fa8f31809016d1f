"""The processes that take upgrades and relay, if there is more than one.

The main process keeps sessions, the store and the control plane, and listens to nobody. Each of
its workers accepts connections on the same port, looks at heads and tokens, relays WebSockets on a
core of its own, and gives everything else to the main process. ``fleet`` is the main process's
side of all of them, ``desk`` of one; ``process`` is a worker, ``remote`` whom it asks.
"""
