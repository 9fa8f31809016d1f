"""Lists that come page by page."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from trunkline.client._http import Http, json_of
from trunkline.client._models import Page

_PAGE = 100


async def pages(
    http: Http, url: str, query: Mapping[str, str] | None = None
) -> AsyncIterator[dict[str, Any]]:
    """Yield what a list has, asking for its next page when it is due."""
    asked = {"limit": str(_PAGE), **(query or {})}
    while True:
        page = Page.read(json_of(await http.get(url, asked)))
        for document in page.data:
            yield document
        # A page that names no last id, or the one asked after, has nothing after it.
        if not (page.has_more and page.last_id) or page.last_id == asked.get("after"):
            return
        asked["after"] = page.last_id
