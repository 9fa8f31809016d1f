"""The code of a version as it was uploaded, checked against what the platform says of it."""

import asyncio
import hashlib
from dataclasses import dataclass
from typing import IO

from trunkline.client._errors import BadAnswerError
from trunkline.client._http import Http
from trunkline.protocol import headers


@dataclass(frozen=True, slots=True)
class DownloadedCode:
    """What was written."""

    version: str
    """Whose code it is; empty if the platform doesn't say."""
    sha256: str
    """Of the zip, in hexadecimal."""
    size: int
    """In bytes."""


async def download_code(
    http: Http, agent_url: str, version: str | None, into: IO[bytes]
) -> DownloadedCode:
    """Write the zip of a version's code to a file that is open here."""
    digest, size = hashlib.sha256(), 0
    query = {} if version is None else {"agent_version": version}
    async with http.stream("GET", f"{agent_url}/code:download", query) as answer:
        async for chunk in http.chunks(answer):
            digest.update(chunk)
            size += len(chunk)
            await asyncio.to_thread(into.write, chunk)
        promised = answer.headers.get(headers.CODE_SHA256, "").lower()
        found = digest.hexdigest()
        if promised and promised != found:
            raise BadAnswerError(
                f"the code arrived damaged: its SHA-256 is {found}, and should be {promised}"
            )
        return DownloadedCode(answer.headers.get(headers.AGENT_VERSION, ""), found, size)
