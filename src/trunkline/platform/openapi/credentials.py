"""API keys and revocations, described."""

from trunkline.platform.openapi.operation import (
    PROJECT,
    Operation,
    Resource,
    answer,
    array,
    in_query,
    integer,
    json_answer,
    json_body,
    obj,
    schema,
    seconds,
    text,
)

_GRANT = r"^(reader|invoker|deployer|admin|impersonator)$"


def _list(of: str) -> dict[str, object]:
    return obj("All of them, the newest first", object={"const": "list"}, data=array(schema(of)))


_AUDIT_QUERY = (
    in_query("limit", "How many.", integer(minimum=1, maximum=100, default=20)),
    in_query("after", "An entry's `id`: those before it in time.", text()),
    in_query("agent", "Those about an agent.", text()),
    in_query("agent_session_id", "Those about a session.", text()),
    in_query("identity", "Those of an identity: `issuer|subject`.", text()),
    in_query("action", "Those of an action, as `connect`.", text()),
)

RESOURCE = Resource(
    tag="credentials",
    says="What callers come in with, for admins.",
    operations=(
        Operation(
            method="POST",
            path=f"{PROJECT}/api-keys",
            name="create_api_key",
            says="A new API key. It may do no more than whoever makes it.",
            body=json_body(schema("CreateApiKeyRequest")),
            answers={201: json_answer("The key, shown this once.", schema("NewApiKey"))},
            refusals=(413,),
        ),
        Operation(
            method="GET",
            path=f"{PROJECT}/api-keys",
            name="list_api_keys",
            says="The project's API keys, without the keys themselves.",
            answers={200: json_answer("The keys.", schema("ApiKeyList"))},
        ),
        Operation(
            method="DELETE",
            path=f"{PROJECT}/api-keys/{{key}}",
            name="delete_api_key",
            says="Revokes an API key.",
            answers={204: answer("It lets nobody in any more.")},
        ),
        Operation(
            method="GET",
            path=f"{PROJECT}/secrets",
            name="list_secrets",
            says="The names of the project's secrets.",
            answers={200: json_answer("The names.", schema("SecretList"))},
        ),
        Operation(
            method="PUT",
            path=f"{PROJECT}/secrets/{{secret}}",
            name="put_secret",
            says="Sets a secret, which nobody is shown again. Sessions that start from then on get "
            "it where their agent's environment names it.",
            body=json_body(schema("PutSecretRequest")),
            answers={204: answer("It is set.")},
            refusals=(413,),
        ),
        Operation(
            method="DELETE",
            path=f"{PROJECT}/secrets/{{secret}}",
            name="delete_secret",
            says="Removes a secret.",
            answers={204: answer("It is gone.")},
        ),
        Operation(
            method="GET",
            path=f"{PROJECT}/audit",
            name="list_audit",
            says="Who did what in the project, the newest first.",
            query=_AUDIT_QUERY,
            answers={200: json_answer("The entries.", schema("AuditList"))},
        ),
        Operation(
            method="GET",
            path="/api/audit",
            name="list_all_audit",
            says="Who did what in all projects and in none, the newest first: also who was refused "
            "before a project was known, and who revoked what.",
            query=_AUDIT_QUERY,
            answers={200: json_answer("The entries.", schema("AuditList"))},
            needs_version=False,
        ),
        Operation(
            method="POST",
            path="/api/revocations",
            name="revoke",
            says="Makes worthless what an identity has been issued so far, and closes its "
            "connections.",
            body=json_body(schema("RevokeRequest")),
            answers={201: json_answer("The revocation.", schema("Revocation"))},
            refusals=(413,),
            needs_version=False,
        ),
        Operation(
            method="GET",
            path="/api/revocations",
            name="list_revocations",
            says="Whose credentials were revoked, and when.",
            answers={200: json_answer("The revocations.", schema("RevocationList"))},
            needs_version=False,
        ),
    ),
    schemas={
        "ApiKey": obj(
            "An API key, without the key",
            id=text("Its id"),
            name=text("What its maker calls it"),
            roles=array(text()),
            created_by=text("Who made it"),
            created_at=seconds("When it was made"),
            expires_at=seconds("When it ends"),
        ),
        "NewApiKey": {
            "allOf": [schema("ApiKey"), obj("The key", key=text("For `Authorization: Bearer`"))]
        },
        "ApiKeyList": _list("ApiKey"),
        "CreateApiKeyRequest": obj(
            "What the key is for",
            name=text("What to call it", minLength=1, maxLength=128, pattern="^[!-~]+$"),
            roles=array(
                text("`ROLE` or `ROLE@PROJECT/AGENT`", pattern=_GRANT), minItems=1, maxItems=100
            ),
            optional={
                "expires_in_days": {"type": "number", "exclusiveMinimum": 0, "maximum": 366},
            },
        ),
        "Secret": obj(
            "A secret, without its value",
            name=text("Its name"),
            updated_at=seconds("When it was set"),
        ),
        "SecretList": _list("Secret"),
        "PutSecretRequest": obj(
            "The secret", value=text("Its value, without U+0000", maxLength=65536)
        ),
        "AuditEntry": obj(
            "Who did what, to what, from where, with what result",
            id=text("Its id"),
            at=text("When", format="date-time"),
            action=text("What was asked for"),
            status=integer("The answer's status"),
            address=text("From where"),
            request_id=text("The request's id"),
        ),
        "AuditList": obj(
            "Some of them, the newest first",
            object={"const": "list"},
            data=array(schema("AuditEntry")),
            has_more={"type": "boolean"},
            optional={"last_id": text("While there is more: what the next page comes `after`")},
        ),
        "Revocation": obj(
            "Whose credentials are worth nothing that were issued before a time",
            issuer=text("Who vouched for the identity"),
            subject=text("The identity's name there"),
            revoked_at=seconds("When"),
            revoked_by=text("By whom"),
        ),
        "RevocationList": _list("Revocation"),
        "RevokeRequest": obj(
            "The identity",
            issuer=text("Who vouches for it", minLength=1, maxLength=1024),
            subject=text("Its name there", minLength=1, maxLength=1024),
        ),
    },
)
