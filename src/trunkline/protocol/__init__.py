"""Facts of the wire, with no I/O: names, ids, errors, close codes, frame headers.

Everything else may import this package; it imports nothing of trunkline's.
"""
