"""One turn of a conversation: what was said goes into the graph, and events come out.

Every protocol uses this, and adds only its own spelling.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from weakref import WeakValueDictionary

from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, StateSnapshot

_MOST_STEPS = 12


@dataclass(frozen=True, slots=True)
class Step:
    """The model calls a tool."""

    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Partial:
    """The next piece of the answer, and the answer so far."""

    piece: str
    text: str


@dataclass(frozen=True, slots=True)
class Final:
    """The whole answer, after which it is the other side's turn."""

    text: str
    is_question: bool
    """The graph has stopped in the middle, and goes on with the next turn."""


Event = Step | Partial | Final


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer that was given before, and when."""

    answer: Final
    at: datetime


@dataclass(slots=True)
class Library:
    """The graph, and its conversations ("threads" in LangGraph's words)."""

    graph: CompiledStateGraph[Any]
    _locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    async def say(
        self, thread: str, said: list[AnyMessage], response_id: str = ""
    ) -> AsyncIterator[Event]:
        """Yield what one turn brings. Turns of one thread come one after the other.

        Whoever stops iterating stops the turn; what it did until then is kept.

        Args:
            thread: The conversation, new or not.
            said: What was said since its last turn; the last of it answers a question, if one
                is open.
            response_id: A name by which :meth:`thread_after` finds this turn again.
        """
        lock = self._locks.setdefault(thread, asyncio.Lock())
        async with lock:
            config: RunnableConfig = {
                "configurable": {"thread_id": thread},
                "metadata": {"response_id": response_id},
                "recursion_limit": _MOST_STEPS,
            }
            state = await self.graph.aget_state(config)
            inputs: Any = {"messages": said}
            if state.interrupts:
                inputs = Command(resume=said[-1].text)
            text = ""
            async for mode, data in self.graph.astream(
                inputs, config, stream_mode=["messages", "updates"]
            ):
                if mode == "updates":
                    for step in _steps_in(data):
                        yield step
                elif piece := _piece_in(data):
                    text += piece
                    yield Partial(piece, text)
            yield _final(await self.graph.aget_state(config))

    async def find(self, response_id: str) -> Kept | None:
        """Return the answer that was given under a name, or None."""
        config = await self._end_of(response_id)
        if config is None:
            return None
        state = await self.graph.aget_state(config)
        return Kept(_final(state), datetime.fromisoformat(str(state.created_at)))

    async def thread_after(self, response_id: str) -> str | None:
        """Put a thread back to where it was after a turn, and return it; None: no such turn.

        What was said since then stays on disk, as a branch that nobody is on.
        """
        config = await self._end_of(response_id)
        if config is None:
            return None
        state = await self.graph.aget_state(config)
        copy = await self.graph.aupdate_state(config, None, as_node="__copy__")
        if state.next:
            # It asked something. The answer is kept beside the question, so it has to be asked
            # anew: the copy has the question only.
            await self.graph.ainvoke(None, copy)
        return str(config["configurable"]["thread_id"])

    async def _end_of(self, response_id: str) -> RunnableConfig | None:
        # Each step is kept with the metadata of its turn, and the newest comes first.
        wanted = {"response_id": response_id}
        async for found in self.graph.checkpointer.alist(None, filter=wanted, limit=1):
            return {"configurable": {**found.config["configurable"]}}
        return None


def _steps_in(update: dict[str, Any]) -> list[Step]:
    messages = (update.get("librarian") or {}).get("messages", [])
    return [
        Step(call["name"], call["args"])
        for message in messages
        if isinstance(message, AIMessage)
        for call in message.tool_calls
    ]


def _piece_in(data: tuple[Any, dict[str, Any]]) -> str:
    message, _about = data
    return message.text if isinstance(message, AIMessageChunk) else ""


def _final(state: StateSnapshot) -> Final:
    if state.interrupts:
        return Final(str(state.interrupts[0].value), is_question=True)
    return Final(state.values["messages"][-1].text, is_question=False)
