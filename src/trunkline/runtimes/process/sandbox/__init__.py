"""The sandbox of the process runtime.

``inside`` is what runs between the platform and the agent, on whichever interpreter; the other
modules run in the platform. ``levels`` says what this machine can do, ``child`` starts one agent
in it, ``view`` says which files it sees, ``cgroups`` and ``watch`` hold its limits, ``egress``
is its way out.
"""
