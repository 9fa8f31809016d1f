"""The rules as a chat model of LangChain: what a graph takes, a language model or these.

Put another chat model here, and the graph stays as it is.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import uuid4

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

from rules import Call, Decision, decide, phrase, title_in


class RuleModel(BaseChatModel):
    """Decides by rules, and answers a word at a time."""

    @property
    def _llm_type(self) -> str:
        return "rules"

    def bind_tools(
        self, tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool], **_: Any
    ) -> Runnable[Any, Any]:
        """Return itself: the rules know the tools by name."""
        return self

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **_: Any,
    ) -> Iterator[ChatGenerationChunk]:
        decision = _decide(messages)
        if isinstance(decision, Call):
            yield ChatGenerationChunk(message=_calling(decision))
            return
        # Each word with the space after it, so that the pieces add up to the sentence.
        for word in decision.replace(" ", " \0").split("\0"):
            chunk = ChatGenerationChunk(message=AIMessageChunk(word))
            if run_manager is not None:
                run_manager.on_llm_new_token(word, chunk=chunk)
            yield chunk

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        first, *rest = self._stream(messages, stop, run_manager, **kwargs)
        whole = sum(rest, start=first)
        return ChatResult(generations=[ChatGeneration(message=whole.message)])


def _decide(messages: list[BaseMessage]) -> Decision:
    last = messages[-1]
    if isinstance(last, ToolMessage):
        return phrase(last.name or "", last.text)
    if not isinstance(last, HumanMessage):
        return "What can I do for you?"
    told = [message for message in messages if isinstance(message, ToolMessage)]
    titles = (title_in(message.name or "", message.text) for message in reversed(told))
    return decide(last.text, next((title for title in titles if title), None))


def _calling(call: Call) -> AIMessageChunk:
    arguments = json.dumps(call.arguments)
    return AIMessageChunk(
        "",
        tool_call_chunks=[
            {"name": call.tool, "args": arguments, "id": f"call_{uuid4().hex}", "index": 0,
             "type": "tool_call_chunk"},
        ],
    )  # fmt: skip
