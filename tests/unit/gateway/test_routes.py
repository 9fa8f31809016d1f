"""What an upgrade's path and query ask for."""

import pytest
from hypothesis import given, strategies as st

from trunkline.gateway import routes
from trunkline.gateway.routes import (
    PREVIEW_PATH,
    Projects,
    Target,
    is_websocket_path,
    match_websocket,
    without_consumed,
)
from trunkline.protocol.errors import (
    InvalidRequestError,
    NotFoundError,
    PreviewFeatureError,
    TrunklineError,
)

PROJECTS = Projects(("default", "agents"))
NEW = "/api/projects/default/agents/echo/endpoint/protocols/invocations_ws"
FLAG = "foundry_features=HostedAgents=V1Preview"


def match(path: str, query: str, features: str | None = None) -> Target:
    return match_websocket(path, query, features, PROJECTS)


def test_the_new_form() -> None:
    target = match(NEW, "api-version=v1&agent_session_id=s-1&x=%20a&y")
    assert target == Target("default", "echo", "s-1", "agent_session_id=s-1&x=%20a&y")


@pytest.mark.parametrize("alias", ["_default", "_project"])
def test_the_default_project_has_two_more_names(alias: str) -> None:
    assert match(NEW.replace("default", alias), "api-version=v1").project == "default"


@pytest.mark.parametrize("flag", [FLAG, "foundry_features=HostedAgents%3DV1Preview",
                                  "foundry_features=Other=V1,HostedAgents=V1Preview"])  # fmt: skip
def test_the_preview_form_with_the_flag_in_the_query(flag: str) -> None:
    target = match(PREVIEW_PATH, f"project_name=default&agent_name=echo&{flag}&k=v")
    assert target == Target("default", "echo", None, "k=v")


def test_the_preview_form_with_the_flag_in_a_header() -> None:
    query = "project_name=default&agent_name=echo&api-version=v1"
    target = match(PREVIEW_PATH, query, "A=B, HostedAgents=V1Preview")
    assert target == Target("default", "echo", None, "")


def test_the_preview_path_is_not_project_agents() -> None:
    with pytest.raises(NotFoundError, match="project_name and agent_name"):
        match(PREVIEW_PATH, FLAG)


@pytest.mark.parametrize("features", [None, "", "HostedAgents=V2", "HostedAgents"])
def test_the_preview_form_without_the_flag_names_it(features: str | None) -> None:
    with pytest.raises(PreviewFeatureError, match="HostedAgents=V1Preview") as caught:
        match(PREVIEW_PATH, "project_name=default&agent_name=echo", features)
    assert (caught.value.status, caught.value.code) == (404, "preview_feature_required")
    assert caught.value.param == "Foundry-Features"


@pytest.mark.parametrize("query", ["", "agent_session_id=s", "api-version=v9", "api-version="])
def test_the_new_form_needs_a_known_api_version(query: str) -> None:
    with pytest.raises(NotFoundError, match="api-version"):
        match(NEW, query)


def test_a_preview_api_version_is_checked_when_there_is_one() -> None:
    with pytest.raises(NotFoundError, match="api-version"):
        match(PREVIEW_PATH, f"project_name=default&agent_name=echo&{FLAG}&api-version=v0")


@pytest.mark.parametrize(
    "path",
    [NEW.replace("default", "nope"), NEW.replace("echo", "bad_name"), NEW.replace("echo", "a" * 64),
     NEW + "/", "/", NEW[:-3]],
)  # fmt: skip
def test_what_is_not_there(path: str) -> None:
    with pytest.raises(NotFoundError):
        match(path, "api-version=v1")


def test_a_session_id_may_be_256_characters_long() -> None:
    assert match(NEW, f"api-version=v1&agent_session_id={'a' * 256}").session_id == "a" * 256


@pytest.mark.parametrize("bad", ["a" * 257, "a%20b", "a%2Fb", "a%0a", "%C3%A9", "a+b"])
def test_a_bad_session_id_is_refused(bad: str) -> None:
    with pytest.raises(InvalidRequestError, match="1 to 256 characters") as caught:
        match(NEW, f"api-version=v1&agent_session_id={bad}")
    assert caught.value.param == "agent_session_id"


def test_two_sessions_are_one_too_many() -> None:
    with pytest.raises(InvalidRequestError, match="two sessions"):
        match(NEW, "api-version=v1&agent_session_id=a&agent_session_id=b")


def test_an_empty_session_id_counts_as_none() -> None:
    assert match(NEW, "api-version=v1&agent_session_id=").session_id is None


def test_only_api_version_is_kept_from_http_agents() -> None:
    assert without_consumed("api-version=v1&a=b&agent_session_id=s") == "a=b&agent_session_id=s"


def test_websocket_paths() -> None:
    assert is_websocket_path(NEW)
    assert is_websocket_path(PREVIEW_PATH)
    assert not is_websocket_path("/healthz")


_PIECES = st.sampled_from(
    [
        "api-version=v1", "api-version=v2", "agent_session_id=s-1", "agent_session_id=", FLAG,
        "agent_session_id=%2Fno", "project_name=default", "agent_name=echo", "x=%20a", "y", "&",
    ]
)  # fmt: skip


@given(
    path=st.sampled_from([NEW, PREVIEW_PATH, NEW.replace("echo", "e%20o"), "/", NEW + "/"]),
    query=st.lists(_PIECES, max_size=6).map("&".join),
    features=st.sampled_from([None, "", "HostedAgents=V1Preview", "Other"]),
    long=st.booleans(),
)
def test_what_is_remembered_is_what_would_be_found(
    path: str, query: str, features: str | None, long: bool
) -> None:
    def outcome(find: object, projects: Projects) -> object:
        try:
            return find(path, query, features, projects)  # type: ignore[operator]
        except TrunklineError as error:
            return type(error), str(error), error.status

    query += "&pad=" + "p" * 2000 if long else ""
    others = Projects(("others", "agents"))
    for _ in range(2):
        for projects in (PROJECTS, others):
            assert outcome(match_websocket, projects) == outcome(routes._match, projects)


def test_long_targets_are_not_remembered() -> None:
    before = routes._remembered.cache_info().currsize
    match(NEW, "api-version=v1&long=" + "x" * 2000)
    assert routes._remembered.cache_info().currsize == before
