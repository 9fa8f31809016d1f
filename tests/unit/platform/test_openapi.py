"""The OpenAPI document is whole."""

from tests.support.routes import platform_routes, resource_routes
from trunkline.platform.openapi import document


def operations():
    return [operation for resource in document.RESOURCES for operation in resource.operations]


def test_every_route_is_in_it_and_everything_in_it_has_a_route() -> None:
    served = {
        (method, route.path)
        for route in (*resource_routes(), *platform_routes())
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {(operation.method, operation.path) for operation in operations()}
    assert described - served == set()
    assert served - described == set()


def test_no_two_operations_share_a_name_and_all_have_a_summary() -> None:
    names = [operation.name for operation in operations()]
    assert len(names) == len(set(names))
    assert all(operation.says.endswith(".") for operation in operations())


def test_every_reference_leads_somewhere() -> None:
    components = document.build()["components"]
    todo, seen = [document.build()], 0
    while todo:
        part = todo.pop()
        if isinstance(part, list):
            todo += part
        elif isinstance(part, dict):
            if isinstance(reference := part.get("$ref"), str):
                _, _, kind, name = reference.split("/")
                assert name in components[kind], reference
                seen += 1
            todo += part.values()
    assert seen > 100
