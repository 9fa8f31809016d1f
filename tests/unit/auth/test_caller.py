"""Whom a caller acts for, and whom its sessions belong to."""

from collections.abc import Mapping
from typing import Any

import pytest

from trunkline.auth.caller import Caller, acting_for, isolates_by_header
from trunkline.auth.grants import Grants, Permission
from trunkline.auth.identity import Identity
from trunkline.protocol.errors import ForbiddenError, InvalidRequestError
from trunkline.protocol.ids import AgentName, ProjectName

PROJECT, AGENT = ProjectName("default"), AgentName("echo")
SERVICE = Identity("https://one.example", "service")
HEADER: Mapping[str, Any] = {
    "authorization_schemes": [{"type": "Entra", "isolation_key_source": {"kind": "Header"}}]
}
ENTRA: Mapping[str, Any] = {
    "authorization_schemes": [{"type": "Entra", "isolation_key_source": {"kind": "Entra"}}]
}


def test_the_callers_own_sessions_are_its_own() -> None:
    for endpoint in ({}, ENTRA, {"authorization_schemes": [{"type": "Entra"}]}):
        assert Caller(identity=SERVICE).owner_of(endpoint) == SERVICE.owner


def test_a_user_who_is_only_named_shares_the_callers_sessions() -> None:
    caller = Caller(identity=SERVICE, acting_for="u-1")
    assert caller.owner_of(ENTRA) == SERVICE.owner
    assert caller.user != SERVICE


def test_where_a_header_isolates_each_named_user_owns_their_own() -> None:
    assert isolates_by_header(HEADER)
    one, two = (Caller(identity=SERVICE, acting_for=user) for user in ("u-1", "u-2"))
    assert one.owner_of(HEADER) != two.owner_of(HEADER)
    with pytest.raises(InvalidRequestError, match="x-ms-user-identity") as caught:
        Caller(identity=SERVICE).owner_of(HEADER)
    assert caught.value.status == 400


def test_a_named_user_is_nobody_who_signs_in_and_nobody_elses() -> None:
    other = Identity("https://two.example", "service")
    named = Caller(identity=SERVICE, acting_for="olga")
    assert named.user.owner != Identity(SERVICE.issuer, "olga").owner
    assert named.user.owner != Caller(identity=other, acting_for="olga").user.owner


def test_acting_for_others_takes_a_role_of_its_own() -> None:
    admin = Grants.parse(["admin"])
    Caller(identity=SERVICE, grants=admin).require(Permission.USE, PROJECT, AGENT)
    with pytest.raises(ForbiddenError, match="act for other users"):
        Caller(identity=SERVICE, grants=admin, acting_for="u").require(
            Permission.USE, PROJECT, AGENT
        )
    both = Grants.parse(["invoker", "impersonator@default/echo"])
    Caller(identity=SERVICE, grants=both, acting_for="u").require(Permission.USE, PROJECT, AGENT)


@pytest.mark.parametrize(
    "name", ["x-ms-user-identity", "x-ms-user-isolation-key", "x-session-isolation-key"]
)
def test_each_name_of_the_header_names_the_user(name: str) -> None:
    assert acting_for({name: "u-1@example.org"}.get) == "u-1@example.org"


def test_the_same_user_under_two_names_is_one() -> None:
    both = {"x-ms-user-identity": "u", "x-session-isolation-key": "u"}
    assert acting_for(both.get) == "u"
    with pytest.raises(InvalidRequestError, match="two users"):
        acting_for((both | {"x-session-isolation-key": "v"}).get)


@pytest.mark.parametrize("user", ["", " ", "a b", "a\nb", "ü", "a|b", "a/b", "a" * 257, "a, b"])
def test_a_name_that_nobody_can_have(user: str) -> None:
    with pytest.raises(InvalidRequestError, match="must be 1 to 256 characters"):
        acting_for({"x-ms-user-identity": user}.get)
