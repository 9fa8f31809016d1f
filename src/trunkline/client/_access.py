"""Who may come in: a project's API keys, what it recorded, and the platform's revocations."""

from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import quote

from trunkline.client._http import Http, json_of
from trunkline.client._models import ApiKey, AuditEntry, NewApiKey, Revocation
from trunkline.client._pages import pages


class ProjectAccess:
    """What a project's admins do about who comes in; every method raises as ``Project``'s do."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._keys = f"{http.endpoint.url}/api-keys"
        self._revocations = f"{http.endpoint.base}/api/revocations"

    async def create_key(
        self, name: str, roles: Sequence[str], *, expires_in_days: float | None = None
    ) -> NewApiKey:
        """Make an API key for a machine. The answer alone has the key: it can't be shown again.

        Args:
            name: What people know it by.
            roles: What it may do: ``ROLE`` or ``ROLE@PROJECT/AGENT``, in this project alone.
            expires_in_days: When it ends; the platform decides if None.
        """
        body: dict[str, Any] = {"name": name, "roles": list(roles)}
        if expires_in_days is not None:
            body["expires_in_days"] = expires_in_days
        return NewApiKey.read(json_of(await self._http.request("POST", self._keys, json=body)))

    async def list_keys(self) -> list[ApiKey]:
        """Return the project's API keys, without what they are used with."""
        body = json_of(await self._http.get(self._keys))
        return [ApiKey.read(each) for each in body.get("data", ())]

    async def revoke_key(self, key_id: str) -> None:
        """Revoke an API key: it lets nobody in, and whoever came in with it is cut off."""
        await self._http.request("DELETE", f"{self._keys}/{quote(key_id, safe='')}")

    async def revoke(self, issuer: str, subject: str) -> Revocation:
        """Revoke all that an identity was issued so far, at every project of the platform."""
        body = {"issuer": issuer, "subject": subject}
        answer = await self._http.request("POST", self._revocations, json=body)
        return Revocation.read(json_of(answer))

    async def list_revocations(self) -> list[Revocation]:
        """Return the platform's revocations."""
        body = json_of(await self._http.get(self._revocations))
        return [Revocation.read(each) for each in body.get("data", ())]

    async def list_audit(
        self,
        *,
        agent: str | None = None,
        session_id: str | None = None,
        identity: str | None = None,
        action: str | None = None,
        in_all_projects: bool = False,
    ) -> AsyncIterator[AuditEntry]:
        """Yield what was recorded in the project, the newest first.

        Args:
            agent: Only what was about this agent.
            session_id: Only what was about a session of this id.
            identity: Only what this identity did, ``ISSUER|SUBJECT``.
            action: Only this action, such as ``connect`` or ``create_session``.
            in_all_projects: What was recorded in any project, and what is about none.
        """
        wanted = {
            "agent": agent, "agent_session_id": session_id, "identity": identity, "action": action,
        }  # fmt: skip
        query = {name: value for name, value in wanted.items() if value is not None}
        endpoint = self._http.endpoint
        url = f"{endpoint.base}/api/audit" if in_all_projects else f"{endpoint.url}/audit"
        async for document in pages(self._http, url, query):
            yield AuditEntry.read(document)
