import os

import pytest

from trunkline.runtimes.process.commands import Redactor, tool_environment


def test_tools_get_what_they_need_and_no_more() -> None:
    given = {
        "PATH": "/bin",
        "HOME": "/home/me",
        "UV_INDEX_URL": "https://u:p@example.org",
        "UV_FIND_LINKS": "/w",
        "UV_PYTHON_DOWNLOADS": "never",
        "HTTPS_PROXY": "http://proxy",
        "no_proxy": "localhost",
        "SSL_CERT_FILE": "/certs",
        "XDG_CACHE_HOME": "/c",
    }
    kept_out = {
        "TRUNKLINE_DATABASE_URL": "postgresql://u:p@db",
        "AWS_SECRET_ACCESS_KEY": "x",
        "VIRTUAL_ENV": "/venv",
        "PYTHONPATH": "/x",
        "UV_PYTHON": "3.9",
        "UV_PROJECT_ENVIRONMENT": "/x",
        "UV_WORKING_DIR": "/x",
        "UV_PUBLISH_TOKEN": "x",
    }
    assert tool_environment(given | kept_out) == given


def test_tools_always_have_a_path() -> None:
    assert tool_environment({}) == {"PATH": os.defpath}


@pytest.mark.parametrize(
    ("line", "clean"),
    [
        ("nothing here", "nothing here"),
        ("from https://me:pass@example.org/simple ok", "from https://***@example.org/simple ok"),
        ("git+ssh://git@example.org", "git+ssh://***@example.org"),
        ("token hunter22 and hunter2", "token *** and ***"),
        ("short abc stays", "short abc stays"),
    ],
)
def test_secrets_are_taken_out(line: str, clean: str) -> None:
    env = {
        "UV_INDEX_MINE_PASSWORD": "hunter2",
        "UV_TOKEN": "hunter22",
        "UV_INDEX_MINE_USERNAME": "abc",
        "UV_INDEX_URL": "stays",
    }
    assert Redactor(env).clean(line) == clean
