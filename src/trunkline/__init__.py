"""trunkline hosts real-time AI agents behind one WebSocket.

Agents import :mod:`trunkline.agentserver`; people use the ``trunkline`` command.
"""
