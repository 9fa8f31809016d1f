"""Conversations of the ``responses`` protocol, described."""

from collections.abc import Iterator

from trunkline.platform.openapi.operation import (
    ENDPOINT,
    PAGE,
    Json,
    Operation,
    Resource,
    array,
    boolean,
    json_answer,
    json_body,
    obj,
    schema,
    seconds,
    text,
)

_METADATA: Json = {
    "type": ["object", "null"],
    "additionalProperties": text(maxLength=512),
    "propertyNames": text(minLength=1, maxLength=64),
    "maxProperties": 16,
}
_ITEM: Json = {
    "type": "object",
    "description": "An item as OpenAI's Conversations API has it. It may have any `type`.",
}


def _operations(base: str, prefix: str) -> Iterator[Operation]:
    one = f"{base}/{{conversation}}"
    items = f"{one}/items"
    conversation = json_answer("The conversation.", schema("Conversation"))
    listed = json_answer("The items.", schema("ConversationItemList"))
    yield Operation(
        method="POST",
        path=base,
        name=f"{prefix}create_conversation",
        says="A new conversation with the agent.",
        body=json_body(schema("CreateConversationRequest"), is_required=False),
        answers={200: conversation},
        refusals=(413,),
    )
    yield Operation(
        method="GET",
        path=one,
        name=f"{prefix}get_conversation",
        says="One conversation.",
        answers={200: conversation},
    )
    yield Operation(
        method="POST",
        path=one,
        name=f"{prefix}update_conversation",
        says="Replaces a conversation's metadata.",
        body=json_body(obj("What changes", optional={"metadata": _METADATA})),
        answers={200: conversation},
        refusals=(413,),
    )
    yield Operation(
        method="DELETE",
        path=one,
        name=f"{prefix}delete_conversation",
        says="Removes a conversation.",
        answers={
            200: json_answer(
                "It is gone.",
                obj(
                    "What became of it",
                    id=text(),
                    object={"const": "conversation.deleted"},
                    deleted={"const": True},
                ),
            )
        },
    )
    yield Operation(
        method="GET",
        path=items,
        name=f"{prefix}list_items",
        says="What was said.",
        query=PAGE,
        answers={200: listed},
    )
    yield Operation(
        method="POST",
        path=items,
        name=f"{prefix}create_items",
        says="Adds items to a conversation.",
        body=json_body(obj("What is added", items=schema("NewItems"))),
        answers={200: listed},
        refusals=(413,),
    )
    yield Operation(
        method="GET",
        path=f"{items}/{{item}}",
        name=f"{prefix}get_item",
        says="One item.",
        answers={200: json_answer("The item.", schema("ConversationItem"))},
    )
    yield Operation(
        method="DELETE",
        path=f"{items}/{{item}}",
        name=f"{prefix}delete_item",
        says="Removes an item.",
        answers={200: conversation},
    )


_BASE = f"{ENDPOINT}/protocols/openai"

RESOURCE = Resource(
    tag="conversations",
    says="What was said to an agent that speaks `responses`, and what it answered. Each path is "
    "there with and without `v1`.",
    operations=(
        *_operations(f"{_BASE}/conversations", ""),
        *_operations(f"{_BASE}/v1/conversations", "v1_"),
    ),
    schemas={
        "Conversation": obj(
            "A conversation",
            id=text(),
            object={"const": "conversation"},
            created_at=seconds("When it was made"),
            metadata={"type": "object", "additionalProperties": {"type": "string"}},
        ),
        "CreateConversationRequest": obj(
            "What it begins with",
            optional={
                "metadata": _METADATA,
                "items": {"anyOf": [array(_ITEM, maxItems=20), {"type": "null"}]},
            },
        ),
        "NewItems": array(_ITEM, minItems=1, maxItems=20),
        "ConversationItem": obj("An item", id=text(), type=text()),
        "ConversationItemList": obj(
            "A page of items",
            object={"const": "list"},
            data=array(schema("ConversationItem")),
            first_id={"type": ["string", "null"]},
            last_id={"type": ["string", "null"]},
            has_more=boolean(),
        ),
    },
)
