"""The lending desk as a graph: a model that may call tools, and a question before it lends."""

import json
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode, ToolRuntime
from langgraph.types import Command, interrupt

from books import books_about, find_book

YES = frozenset({"yes", "y", "yes please", "please", "please do", "sure", "ok", "okay", "do"})
NO = frozenset({"no", "n", "no thanks", "no thank you", "don't", "not now", "never mind"})


class Desk(MessagesState):
    """What is known in one conversation: what was said, and which books are lent."""

    loans: list[str]


@tool
def find_books(about: str) -> str:
    """Find books by subject, author or title."""
    return json.dumps([_told(book.title) for book in books_about(about)])


@tool
def loans(runtime: ToolRuntime) -> str:
    """List the books that are lent."""
    return json.dumps([_told(title) for title in _lent(runtime.state)])


@tool
def borrow(title: str, runtime: ToolRuntime) -> Command[Any]:
    """Lend a book."""
    book = find_book(title)
    if book is None:
        return _answer(runtime, f"There is no book called {title!r} here.")
    lent = _lent(runtime.state)
    if book.title in lent:
        return _answer(runtime, f"You have {book.title} already.", book.title)
    return _answer(runtime, f"{book.title} is yours. Enjoy it.", book.title, [*lent, book.title])


@tool
def give_back(title: str, runtime: ToolRuntime) -> Command[Any]:
    """Take a book back."""
    book, lent = find_book(title), _lent(runtime.state)
    if book is None or book.title not in lent:
        return _answer(runtime, f"You haven't borrowed {book.title if book else title}.")
    left = [title for title in lent if title != book.title]
    return _answer(runtime, f"Thank you for bringing {book.title} back.", book.title, left)


TOOLS: tuple[BaseTool, ...] = (find_books, loans, borrow, give_back)


def build(model: BaseChatModel, saver: BaseCheckpointSaver[Any]) -> CompiledStateGraph[Any]:
    """Return the graph.

    Args:
        model: What decides and answers.
        saver: Where each step is kept, so that a conversation goes on where it stopped.
    """
    with_tools = model.bind_tools(TOOLS)

    async def librarian(state: Desk) -> dict[str, Any]:
        return {"messages": [await with_tools.ainvoke(state["messages"])]}

    graph = StateGraph(Desk)
    graph.add_node("librarian", librarian)
    graph.add_node("confirm", _confirm)
    graph.add_node("tools", ToolNode(TOOLS))
    graph.add_edge(START, "librarian")
    graph.add_conditional_edges("librarian", _what_next, ["confirm", "tools", END])
    graph.add_edge("tools", "librarian")
    return graph.compile(checkpointer=saver)


def _what_next(state: Desk) -> str:
    call = _call_in(state)
    if call is None:
        return END
    book = find_book(str(call["args"].get("title", ""))) if call["name"] == "borrow" else None
    # Only what is going to change something is worth a question.
    return "confirm" if book is not None and book.title not in _lent(state) else "tools"


def _confirm(state: Desk) -> Command[Literal["tools", "librarian"]]:
    """Ask, and stop the graph until somebody answers: a moment later, or after a week."""
    call = _call_in(state)
    assert call is not None
    book = find_book(call["args"]["title"])
    assert book is not None
    answer = str(interrupt(f"Shall I lend you {book.title} by {book.author}?")).strip()
    plain = answer.lower().strip(".,!? ").replace(",", "")
    if plain in YES:
        return Command(goto="tools")
    said = json.dumps({"says": "As you like.", "title": book.title})
    refusal = ToolMessage(said, name=call["name"], tool_call_id=call["id"])
    # Whoever talks of something else has answered, too: not this book.
    aside = [] if plain in NO else [HumanMessage(answer)]
    return Command(goto="librarian", update={"messages": [refusal, *aside]})


def _call_in(state: Desk) -> Any:
    last = state["messages"][-1]
    return last.tool_calls[0] if isinstance(last, AIMessage) and last.tool_calls else None


def _lent(state: Any) -> list[str]:
    # Before the first book the state has no list of them.
    return state.get("loans") or []


def _told(title: str) -> dict[str, str]:
    book = find_book(title)
    assert book is not None
    return {"title": book.title, "author": book.author}


def _answer(
    runtime: ToolRuntime, says: str, title: str = "", lent: list[str] | None = None
) -> Command[Any]:
    result = json.dumps({"says": says, "title": title or None})
    update: dict[str, Any] = {
        "messages": [ToolMessage(result, tool_call_id=runtime.tool_call_id)],
    }
    if lent is not None:
        update["loans"] = lent
    return Command(update=update)
