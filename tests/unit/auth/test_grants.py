"""What each role allows, and where."""

import pytest

from trunkline.auth.grants import PERMISSIONS, Grant, Grants, Permission, Role
from trunkline.protocol.errors import ForbiddenError
from trunkline.protocol.ids import AgentName, ProjectName

ONE, TWO = ProjectName("one"), ProjectName("two")
A, B = AgentName("a"), AgentName("b")


@pytest.mark.parametrize(
    "text", ["reader", "invoker@one", "deployer@one/a", "admin@*/a", "impersonator@one/*"]
)
def test_a_grant_reads_back_as_the_same(text: str) -> None:
    assert Grant.parse(str(Grant.parse(text))) == Grant.parse(text)


@pytest.mark.parametrize(
    "text",
    ["", "root", "Reader", "reader@", "reader/a", "reader@one/", "reader@one/a/b", "reader @one",
     "reader@one\n", "*", "reader@one/../two", "reader@one/a b"],
)  # fmt: skip
def test_what_is_not_a_grant_grants_nothing(text: str) -> None:
    with pytest.raises(ValueError, match="isn't a grant"):
        Grant.parse(text)
    assert Grants.parse_known([text, None, 7, ["admin"]]) == Grants()


def test_nobody_may_do_anything_without_a_grant() -> None:
    for permission in Permission:
        assert not Grants().allow(permission, ONE, A)
        assert not Grants().allow_somewhere(permission, ONE)


def test_a_grant_holds_where_it_says() -> None:
    grants = Grants.parse(["invoker@one/a", "reader@two"])
    assert grants.allow(Permission.USE, ONE, A)
    assert not grants.allow(Permission.USE, ONE, B)
    assert not grants.allow(Permission.USE, TWO, A)
    # An agent isn't its project.
    assert not grants.allow(Permission.USE, ONE)
    assert grants.allow_somewhere(Permission.USE, ONE)
    assert not grants.allow_somewhere(Permission.USE, TWO)
    assert grants.allow(Permission.SEE, TWO, A)
    assert grants.allow(Permission.SEE, TWO)
    assert not grants.allow(Permission.SEE, ONE, A)


@pytest.mark.parametrize("role", Role)
def test_a_role_allows_what_the_table_says_and_no_more(role: Role) -> None:
    grants = Grants(frozenset({Grant(role)}))
    allowed = {p for p in Permission if grants.allow(p, ONE, A)}
    assert allowed == PERMISSIONS[role]


def test_only_its_own_role_lets_anybody_act_for_others() -> None:
    assert [r for r in Role if Permission.ACT_FOR in PERMISSIONS[r]] == [Role.IMPERSONATOR]


def test_a_refusal_names_the_roles_that_would_do() -> None:
    with pytest.raises(ForbiddenError, match="takes the role deployer or admin") as caught:
        Grants.parse(["reader"]).require(Permission.DEPLOY, ONE, A)
    assert caught.value.status == 403
