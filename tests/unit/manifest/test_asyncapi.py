"""What is an AsyncAPI document, and what isn't."""

import json

import pytest

from trunkline.manifest.asyncapi import asyncapi_fault

INFO = {"title": "Echo", "version": "1"}


@pytest.mark.parametrize(
    "document",
    [
        {"asyncapi": "3.0.0", "info": INFO},
        {"asyncapi": "3.1.0-rc.1", "info": INFO, "channels": {"ws": {}}, "x-more": [1]},
        {"asyncapi": "2.6.0", "info": INFO, "channels": {}},
    ],
)
def test_documents(document: object) -> None:
    text = json.dumps(document).encode()
    assert asyncapi_fault(text, is_yaml=False) is None
    # JSON is YAML.
    assert asyncapi_fault(text, is_yaml=True) is None


def test_yaml_with_a_reference_to_itself() -> None:
    text = b"asyncapi: 3.0.0\ninfo: &i {title: Echo, version: '1'}\nx: *i\n"
    assert asyncapi_fault(text, is_yaml=True) is None


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"\xff", "UTF-8"),
        (b"{", "it isn't JSON: "),
        (b"[" * 100_000, "it can't be read"),
        (b"[]", "it isn't an object"),
        (b'{"info": {}}', "asyncapi must be"),
        (b'{"asyncapi": 3}', "asyncapi must be"),
        (b'{"asyncapi": "1.2.0"}', "asyncapi must be"),
        (b'{"asyncapi": "3.0.0"}', "info must be"),
        (b'{"asyncapi": "3.0.0", "info": {"version": "1"}}', "info.title"),
        (b'{"asyncapi": "3.0.0", "info": {"title": "a", "version": 1}}', "info.version"),
        (b'{"asyncapi": "2.0.0", "info": {"title": "a", "version": "1"}}', "channels"),
    ],
)
def test_what_isn_t_one(document: bytes, words: str) -> None:
    assert words in str(asyncapi_fault(document, is_yaml=False))


def test_what_isn_t_yaml() -> None:
    assert "it isn't YAML: " in str(asyncapi_fault(b"a: [", is_yaml=True))
    assert "it isn't YAML: " in str(asyncapi_fault(b"a: !!python/name:os.system x", is_yaml=True))
    # It grows to nothing much: what is named again is the same.
    bomb = "a0: &a0 [x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40)
    )
    assert "asyncapi must be" in str(asyncapi_fault(bomb.encode(), is_yaml=True))
