"""The ``trunkline`` command: parsing, printing and exit codes. The work is done elsewhere."""
