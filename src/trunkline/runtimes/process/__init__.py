"""Agents as processes of this machine, each version with a Python environment of its own.

``runtime`` is the door; ``instance`` keeps one process, ``environment`` makes what it runs in.
There is no sandbox here: an agent may do what the platform's own user may do.
"""
