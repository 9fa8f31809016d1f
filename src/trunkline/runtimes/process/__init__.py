"""Agents as processes of this machine, each version with a Python environment of its own.

``runtime`` is the door; ``instance`` keeps one process, ``environment`` makes what it runs in,
``sandbox`` is what is around it where the machine allows.
"""
