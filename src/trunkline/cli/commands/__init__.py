"""A module per command, imported by :mod:`trunkline.cli.table` when its command is run."""
