"""Talks to the LangGraph sample with OpenAI's client, as Microsoft's SDK hands it out.

Runs in an environment of its own, beside ``tests/conformance/sdk/common.py``, and prints what it
saw as JSON.
"""

import os
from typing import Any

from azure.ai.projects import AIProjectClient
from common import ENDPOINT, Credential, PlainBearer, check
from openai import BadRequestError, NotFoundError, OpenAI

#: One session is enough for all of it: each start of the agent imports LangGraph anew.
SESSION = {"agent_session_id": os.environ["SDK_SESSION"]}


def conversation(openai: OpenAI) -> None:
    """A conversation goes on, whole and streamed, and stops in the middle for a question."""
    talk = openai.conversations.create()
    found = openai.responses.create(
        input="Anything about whales?", conversation=talk.id, extra_body=SESSION
    )
    check("Moby-Dick" in found.output_text, found)
    asked = openai.responses.create(input="I'd like to borrow it.", conversation=talk.id)
    check(asked.output_text == "Shall I lend you Moby-Dick by Herman Melville?", asked)
    events = list(openai.responses.create(input="Yes.", conversation=talk.id, stream=True))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    check(deltas == ["Moby-Dick ", "is ", "yours. ", "Enjoy ", "it."], deltas)
    check([event.sequence_number for event in events] == list(range(len(events))), events)
    check(events[-1].type == "response.completed", events[-1])
    check(events[-1].response.output_text == "".join(deltas), events[-1])
    mine = openai.responses.create(input="What have I borrowed?", conversation=talk.id)
    check(mine.output_text == "You have Moby-Dick by Herman Melville.", mine)
    kept = list(openai.conversations.items.list(talk.id, order="asc"))
    check([item.role for item in kept] == ["user", "assistant"] * 4, kept)
    check(kept[3].content[0].text == asked.output_text, kept[3])

    other = openai.conversations.create()
    nothing = openai.responses.create(
        input="What have I borrowed?", conversation=other.id, extra_body=SESSION
    )
    check(nothing.output_text == "You have borrowed nothing.", nothing)


def chain(openai: OpenAI) -> None:
    """Responses follow one another by name, also from a place where another way was taken."""

    def say(words: Any, after: str | None) -> Any:
        session = None if after else SESSION
        return openai.responses.create(input=words, previous_response_id=after, extra_body=session)

    asked = say("Lend me Dracula, please.", None)
    lent = say("yes", asked.id)
    check(lent.output_text == "Dracula is yours. Enjoy it.", lent)
    declined = say("no", asked.id)
    check(declined.output_text == "As you like.", declined)
    mine = say("What have I borrowed?", declined.id)
    check(mine.output_text == "You have borrowed nothing.", mine)
    back = say("I return Dracula", lent.id)
    check(back.output_text == "Thank you for bringing Dracula back.", back)
    aside = say("What have I borrowed?", asked.id)
    check(aside.output_text == "You have borrowed nothing.", aside)
    check(openai.responses.retrieve(lent.id).output_text == lent.output_text, "retrieved")
    check(openai.responses.retrieve(lent.id).created_at <= declined.created_at, "time")


def history(openai: OpenAI) -> None:
    """A caller may bring the history itself."""
    answer = openai.responses.create(
        input=[
            {"role": "user", "content": "Hello."},
            {"role": "assistant", "content": "Hello. I lend books."},
            {"role": "user", "content": [{"type": "input_text", "text": "One about solitude?"}]},
        ],
        extra_body=SESSION,
    )
    check(answer.output_text == "I have Walden by Henry David Thoreau. "
          "Would you like to borrow it?", answer)  # fmt: skip


def refusals(openai: OpenAI) -> None:
    image = [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]
    for kind, code, arguments in (
        (BadRequestError, "unsupported_value", {"input": image}),
        (BadRequestError, "invalid_value", {"input": []}),
        (BadRequestError, "previous_response_not_found",
         {"input": "Hello.", "previous_response_id": "resp_1"}),
        (NotFoundError, "conversation_not_found", {"input": "Hello.", "conversation": "conv_1"}),
    ):  # fmt: skip
        try:
            openai.responses.create(**arguments, extra_body=SESSION)
        except kind as error:
            check(error.code == code, error)
        else:
            raise AssertionError(f"{code} was expected")


def main() -> None:
    project = AIProjectClient(
        endpoint=ENDPOINT, credential=Credential(), authentication_policy=PlainBearer(),
        retry_total=0,
    )  # fmt: skip
    with project, project.get_openai_client(agent_name="langgraph") as openai:
        for chapter in (conversation, chain, history, refusals):
            chapter(openai)
            print(chapter.__name__, "ok", flush=True)


if __name__ == "__main__":
    main()
