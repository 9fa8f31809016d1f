"""One operation, and the parts that descriptions of operations are made of.

The words are those of the OpenAPI Specification 3.1 (sections 4.8.10 to 4.8.17).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Json = dict[str, Any]

PROJECT: Final = "/api/projects/{project}"
AGENT: Final = f"{PROJECT}/agents/{{agent}}"
ENDPOINT: Final = f"{AGENT}/endpoint"

#: What any operation on a project may be refused with.
_ALWAYS_REFUSED: Final = (400, 401, 403, 404, 429)
_IN_PATH = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What one method of one path does.

    Attributes:
        method: In capitals.
        path: As the route has it, parameters in braces.
        name: The ``operationId``.
        says: What it does, a sentence or more; the first becomes the summary.
        answers: Response objects by status; ``default`` for any other.
        query: Parameter objects of the query and of headers.
        body: Its request body object, if it takes one.
        refusals: Further statuses it is refused with.
        needs_token: Whether a bearer token and ``api-version`` are needed.
        needs_version: Whether ``api-version`` is, if a token is.
    """

    method: str
    path: str
    name: str
    says: str
    answers: Mapping[int | str, Json]
    query: tuple[Json, ...] = ()
    body: Json | None = None
    refusals: tuple[int, ...] = ()
    needs_token: bool = True
    needs_version: bool = True

    def to_openapi(self, tag: str) -> Json:
        """Return the Operation Object."""
        first, _, _ = self.says.partition(". ")
        made: Json = {
            "operationId": self.name,
            "summary": first.rstrip("."),
            "description": self.says,
            "tags": [tag],
            "parameters": self._parameters(),
            "responses": self._responses(),
        }
        if self.body is not None:
            made["requestBody"] = self.body
        if not self.needs_token:
            made["security"] = []
        return made

    def _parameters(self) -> list[Json]:
        named = [reference("parameters", name) for name in _IN_PATH.findall(self.path)]
        if self.needs_token and self.needs_version:
            named.append(reference("parameters", "api-version"))
        return [*named, *self.query]

    def _responses(self) -> Json:
        made = {str(status): answer for status, answer in self.answers.items()}
        # Where the agent answers, whatever it says, nothing can be said of single statuses.
        usual = _ALWAYS_REFUSED if self.needs_token and "default" not in made else ()
        for status in sorted({*usual, *self.refusals}):
            made.setdefault(str(status), reference("responses", f"refused-{status}"))
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """Operations that belong together: a tag of the document.

    Attributes:
        tag: Its name.
        says: What it is.
        operations: What can be done with it.
        schemas: What is sent and answered, by name.
    """

    tag: str
    says: str
    operations: tuple[Operation, ...]
    schemas: Mapping[str, Json] = field(default_factory=dict)


def reference(kind: str, name: str) -> Json:
    """Return a reference to one of the document's components."""
    return {"$ref": f"#/components/{kind}/{name}"}


def schema(name: str) -> Json:
    """Return a reference to a schema."""
    return reference("schemas", name)


def in_query(
    name: str, says: str, shape: Json, *, is_required: bool = False, example: Any = None
) -> Json:
    """Return a parameter of the query."""
    return _parameter("query", name, says, shape, is_required=is_required, example=example)


def in_header(name: str, says: str, shape: Json) -> Json:
    """Return a header that may be sent."""
    return _parameter("header", name, says, shape, is_required=False, example=None)


def _parameter(
    place: str, name: str, says: str, shape: Json, *, is_required: bool, example: Any
) -> Json:
    made: Json = {"name": name, "in": place, "description": says, "schema": shape}
    if is_required:
        made["required"] = True
    if example is not None:
        made["example"] = example
    return made


def flag_in_query(name: str, says: str, *, default: bool = False) -> Json:
    """Return a parameter that is ``true`` or ``false``."""
    return in_query(name, says, {"type": "boolean", "default": default})


def json_body(shape: Json, *, is_required: bool = True, kinds: tuple[str, ...] = ()) -> Json:
    """Return a request body of JSON."""
    content = {kind: {"schema": shape} for kind in ("application/json", *kinds)}
    return {"required": is_required, "content": content}


def json_answer(says: str, shape: Json) -> Json:
    """Return an answer of JSON."""
    return answer(says, {"application/json": {"schema": shape}})


def answer(
    says: str, content: Mapping[str, Json] | None = None, headers: Mapping[str, str] | None = None
) -> Json:
    """Return an answer.

    Args:
        says: What it means.
        content: Media type objects; none for an answer without a body.
        headers: What its own headers mean, by name.
    """
    made: Json = {
        "description": says,
        "headers": {"x-request-id": reference("headers", "x-request-id")},
    }
    for name, meaning in (headers or {}).items():
        made["headers"][name] = {"description": meaning, "schema": {"type": "string"}}
    if content is not None:
        made["content"] = dict(content)
    return made


def obj(says: str, /, *, optional: Mapping[str, Json] | None = None, **required: Json) -> Json:
    """Return the schema of an object; it may hold more than is said here."""
    made: Json = {
        "type": "object",
        "description": says,
        "properties": {**required, **(optional or {})},
    }
    if required:
        made["required"] = list(required)
    return made


def text(says: str = "", **limits: Any) -> Json:
    """Return the schema of a text."""
    return {"type": "string", **({"description": says} if says else {}), **limits}


def integer(says: str = "", **limits: Any) -> Json:
    """Return the schema of a whole number."""
    return {"type": "integer", **({"description": says} if says else {}), **limits}


def seconds(says: str) -> Json:
    """Return the schema of a time."""
    return integer(f"{says}, in Unix seconds", minimum=0)


def boolean(says: str = "") -> Json:
    """Return the schema of a truth value."""
    return {"type": "boolean", **({"description": says} if says else {})}


def array(of: Json, says: str = "", **limits: Any) -> Json:
    """Return the schema of a list."""
    made: Json = {"type": "array", "items": of, **limits}
    return {**made, "description": says} if says else made


def page(of: str, says: str) -> Json:
    """Return the schema of one page of a list."""
    return obj(
        says,
        object={"const": "list"},
        data=array(schema(of)),
        has_more=boolean("Whether there are more behind this page"),
        optional={
            "first_id": text("The first item's id"),
            "last_id": text("While there is more: what the next page comes `after`"),
            "pagination_token": text("The same as `last_id`"),
        },
    )


#: The query of a list.
PAGE: Final = (
    in_query("limit", "How many items.", integer(minimum=1, maximum=100, default=20)),
    in_query("order", "By age.", text(enum=["asc", "desc"], default="desc")),
    in_query("after", "An item's id: the page begins behind it.", text(maxLength=256)),
    in_query("before", "An item's id: the page ends before it.", text(maxLength=256)),
    in_query("pagination_token", "The same as `after`.", text(maxLength=256)),
)
