"""``trunkline invoke``: one HTTP call to an agent."""

import base64
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from trunkline.cli import options, output
from trunkline.cli.polling import is_accepted, wait_until_over
from trunkline.cli.running import run
from trunkline.cli.sse import EVENT_STREAM, EventText, text_of_response
from trunkline.cli.state import SessionMemory
from trunkline.cli.target import Where
from trunkline.cli.target_options import takes_where
from trunkline.client import Invocation, Project, RefusedError
from trunkline.protocol.errors import SessionNotReadyError, TrunklineError

app = options.command_app()

_JSON, _TEXT = "application/json", "text/plain"
_CLIENT_HEADER = "x-client-"


class Protocol(StrEnum):
    """What an agent may be called by over HTTP."""

    INVOCATIONS = "invocations"
    RESPONSES = "responses"


class Shape(StrEnum):
    """How an answer is printed."""

    TEXT = "text"
    JSON = "json"
    RAW = "raw"


class AgentSaidError(TrunklineError):
    """The agent's answer says that it failed."""

    code = "agent_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What to send, and how to show what comes."""

    agent: str
    content: bytes
    protocol: Protocol
    session_id: str | None
    version: str | None
    conversation_id: str | None
    is_new_conversation: bool
    is_waiting: bool
    header: Mapping[str, str]
    timeout_s: float
    shape: Shape


@app.command(
    epilog=options.examples(
        'trunkline invoke echo \'{"text": "hello"}\'',
        "trunkline invoke echo --input-file question.json --output raw",
        "trunkline invoke writer --protocol responses 'Tell me a story'",
        "trunkline invoke echo hi --version 2 --client-header 'x-client-trace: 1'",
    )
)
@takes_where
def invoke(  # noqa: PLR0913 - one parameter per option
    agent: options.AgentArgument,
    body: Annotated[str | None, typer.Argument(metavar="BODY", help="What to send.")] = None,
    *,
    input_file: Annotated[
        str | None,
        typer.Option("--input-file", "-f", metavar="F", help="Send a file; - is stdin."),
    ] = None,
    protocol: Annotated[
        Protocol,
        typer.Option("--protocol", "-p", help="How to call it. For responses BODY is the input."),
    ] = Protocol.INVOCATIONS,
    session_id: options.SessionOption = None,
    version: Annotated[
        str | None,
        typer.Option("--version", metavar="V", help="In a new session of this version."),
    ] = None,
    conversation_id: Annotated[
        str | None,
        typer.Option("--conversation-id", metavar="ID", help="Go on with it (responses only)."),
    ] = None,
    new_conversation: Annotated[
        bool,
        typer.Option(
            "--new-conversation", help="Begin a conversation, and tell its id (responses only)."
        ),
    ] = False,
    client_header: Annotated[
        list[str] | None,
        typer.Option("--client-header", metavar="'x-client-N: V'", help="A header the agent sees."),
    ] = None,
    timeout_s: Annotated[
        float,
        typer.Option(
            "--timeout-s", "-t", metavar="S", min=1, help="How long the agent may be silent."
        ),
    ] = 1800,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait/--no-wait",
            help="When the agent goes on after its answer (202), ask until it is done.",
        ),
    ] = True,
    where: Where,
    shape: Annotated[
        Shape,
        typer.Option("--output", "-o", help="How to print the answer; raw: head and body."),
    ] = Shape.TEXT,
) -> None:
    """Call an agent once over HTTP, and print its answer as it comes.

    The body is sent as application/json if it is JSON, else as text/plain. Of a stream of events
    the text is printed.
    """
    if version is not None and session_id is not None:
        raise typer.BadParameter(
            "a session has its version already: give --version or --session-id"
        )
    for name, is_given in (
        ("--conversation-id", conversation_id is not None),
        ("--new-conversation", new_conversation),
    ):
        if is_given and protocol is not Protocol.RESPONSES:
            raise typer.BadParameter(f"{name} needs --protocol responses")
    if new_conversation and conversation_id is not None:
        raise typer.BadParameter("give --conversation-id or --new-conversation, not both")
    call = Call(
        agent=agent,
        content=_content(body, input_file),
        protocol=protocol,
        session_id=session_id,
        version=version,
        conversation_id=conversation_id,
        is_new_conversation=new_conversation,
        is_waiting=wait,
        header=_headers(client_header or []),
        timeout_s=timeout_s,
        shape=shape,
    )

    async def work() -> None:
        async with where.open() as project:
            await _call(project, call, where.memory())

    run(work())


def _content(body: str | None, input_file: str | None) -> bytes:
    if input_file is None:
        return (body or "").encode()
    if body is not None:
        raise typer.BadParameter("give either BODY or --input-file, not both")
    if input_file == "-":
        return sys.stdin.buffer.read()
    return Path(input_file).read_bytes()


def _headers(given: list[str]) -> dict[str, str]:
    found = {}
    for line in given:
        name, colon, value = line.partition(":")
        name = name.strip().lower()
        if not colon or not name.startswith(_CLIENT_HEADER) or name == _CLIENT_HEADER:
            raise typer.BadParameter(
                f"{line!r}: agents see headers that begin with {_CLIENT_HEADER}; "
                f"write '{_CLIENT_HEADER}NAME: VALUE'",
                param_hint="--client-header",
            )
        found[name] = value.strip()
    return found


def content_type_of(content: bytes) -> str:
    """Return what to declare a body as."""
    try:
        json.loads(content)
    except ValueError:
        return _TEXT
    return _JSON


async def _call(project: Project, call: Call, memory: SessionMemory) -> None:
    session_id = call.session_id
    if call.version is not None:
        session = await project.create_session(call.agent, version=call.version)
        session_id = session.agent_session_id
    content, content_type = call.content, content_type_of(call.content)
    protocol, header = "invocations", dict(call.header)
    if call.protocol is Protocol.RESPONSES:
        conversation_id = call.conversation_id
        if call.is_new_conversation:
            conversation_id = await project.create_conversation(call.agent)
            output.note(f"conversation {conversation_id}")
        content, content_type = _response_request(call, session_id, conversation_id), _JSON
        protocol = "openai/responses"
        session_id = None
    if call.shape is Shape.RAW:
        header["accept-encoding"] = "identity"
    before_s = time.monotonic()
    try:
        async with project.invoke(
            call.agent,
            content,
            content_type=content_type,
            session_id=session_id,
            timeout_s=call.timeout_s,
            protocol=protocol,
            header=header,
        ) as answer:
            _tell(answer)
            if answer.session_id:
                memory.remember(project.endpoint.url, call.agent, answer.session_id)
            if call.is_waiting and call.shape is not Shape.RAW and is_accepted(answer):
                await _show_when_over(project, call, answer, before_s)
            else:
                await _show(answer, call.shape, before_s)
    except RefusedError as exc:
        if exc.session_id and exc.code == SessionNotReadyError.code:
            memory.remember(project.endpoint.url, call.agent, exc.session_id)
        raise


async def _show_when_over(
    project: Project, call: Call, accepted: Invocation, before_s: float
) -> None:
    await accepted.read()
    output.note("accepted; waiting until it is done (Ctrl-C stops the waiting, not the agent)")
    last = await wait_until_over(project, call.agent, accepted, timeout_s=call.timeout_s)
    if call.shape is Shape.JSON:
        output.put_json(_as_json(last.answer, last.body))
    else:
        _write(last.body)
        if sys.stdout.isatty():
            output.put("")
    output.note(f"{last.status} after {time.monotonic() - before_s:.2f} s")
    if last.status != "completed":
        raise AgentSaidError(f"the invocation ended as {last.status}")


def _response_request(call: Call, session_id: str | None, conversation_id: str | None) -> bytes:
    text = call.content.decode(errors="replace")
    document: dict[str, Any] = {"input": text, "stream": call.shape is not Shape.JSON}
    if session_id is not None:
        document["agent_session_id"] = session_id
    if conversation_id is not None:
        document["conversation"] = {"id": conversation_id}
    return json.dumps(document, ensure_ascii=False).encode()


def _tell(answer: Invocation) -> None:
    for name, value in (
        ("session", answer.session_id),
        ("invocation", answer.invocation_id),
        ("request", answer.request_id),
    ):
        if value:
            output.note(f"{name} {value}")


async def _show(answer: Invocation, shape: Shape, before_s: float) -> None:
    first_s: float | None = None
    if shape is Shape.JSON:
        output.put_json(_as_json(answer, await answer.read()))
        return
    if shape is Shape.RAW:
        _put_head(answer)
    events = EventText() if _is_stream(answer) and shape is Shape.TEXT else None
    last, kept = b"\n", b""
    async for chunk in answer:
        if first_s is None:
            first_s = time.monotonic()
        if events is None:
            _write(chunk)
            kept = chunk[-1:] or kept
        else:
            text = "".join(events.receive_data(chunk)).encode()
            _write(text)
            kept = text[-1:] or kept
    last = kept or last
    if events is not None:
        _write(events.end().encode())
        last = b"\n"
    if last != b"\n" and sys.stdout.isatty():
        output.put("")
    now_s = time.monotonic()
    output.note(
        f"Server responded in {now_s - before_s:.2f} s "
        f"(first byte: {(first_s or now_s) - before_s:.2f} s)"
    )
    if events is not None and events.error:
        raise AgentSaidError(f"the agent failed: {events.error}")


def _is_stream(answer: Invocation) -> bool:
    return answer.content_type.partition(";")[0].strip() == EVENT_STREAM


def _put_head(answer: Invocation) -> None:
    output.put(f"HTTP/1.1 {answer.status}")
    for name, value in answer.headers:
        output.put(f"{name}: {value}")
    output.put("")


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _as_json(answer: Invocation, body: bytes) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "status": answer.status,
        "session_id": answer.session_id,
        "invocation_id": answer.invocation_id,
        "content_type": answer.content_type,
    }
    if (text_found := text_of_response(body)) is not None:
        facts["text"] = text_found
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return {**facts, "base64": base64.b64encode(body).decode()}
    try:
        return {**facts, "body": json.loads(text)}
    except ValueError:
        return {**facts, "body": text}
