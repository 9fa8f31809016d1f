"""Every route the platform serves."""

import importlib
import inspect
import pkgutil
from typing import Any

from starlette.routing import Route

import trunkline.control
import trunkline.gateway
from trunkline.platform.app import build_app


def resource_routes() -> list[Route]:
    """Return the routes of every class in the control plane and the gateway that has some."""
    found: list[Route] = []
    for package in (trunkline.control, trunkline.gateway):
        for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(info.name)
            for thing in vars(module).values():
                if inspect.isclass(thing) and thing.__module__ == info.name:
                    routes = getattr(thing, "routes", None)
                    if routes is not None:
                        found += routes(object.__new__(thing))
    return found


def platform_routes() -> list[Route]:
    """Return the routes of the platform itself."""
    nothing: Any = None
    app = build_app([], health=nothing, metrics=nothing, issuer=nothing, peers=nothing)
    return [route for route in app.routes if isinstance(route, Route)]
