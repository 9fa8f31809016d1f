"""trunkline hosts real-time AI agents behind one WebSocket.

Agents import :mod:`trunkline.agentserver`; people use the ``trunkline`` command.
"""

#: The version of the package, as the newest heading of the changelog has it.
__version__ = "0.1.0"
