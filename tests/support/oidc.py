"""A real OpenID Connect provider on loopback, as a process that can be ended and started again."""

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2

from tests.support.environments import bin_with

_READY = re.compile(r"Uvicorn running on http://127\.0\.0\.1:(\d+)")
CLIENT = "trunkline-tests"
_BACK = "http://127.0.0.1:1/back"


class OidcProvider:
    """``oidc-provider-mock``. Each start makes it a new key, under the same issuer."""

    def __init__(self, **users: dict[str, Any]) -> None:
        self._users = users
        self._port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def _command(self) -> list[str]:
        command = [str(bin_with("oidc") / "oidc-provider-mock"), "--port", str(self._port)]
        for name, claims in self._users.items():
            command += ["--user-claims", json.dumps({"sub": name} | claims)]
        return command

    def start(self) -> "OidcProvider":
        self._process = subprocess.Popen(
            self._command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self._process.stdout is not None
        seen = ""
        for line in self._process.stdout:
            seen += line
            if match := _READY.search(line):
                self._port = int(match[1])
                break
        else:
            raise AssertionError(f"the provider didn't start: {seen}")
        deadline = time.monotonic() + 10
        while True:
            try:
                httpx2.get(f"{self.issuer}/jwks", trust_env=False).raise_for_status()
                return self
            except httpx2.TransportError:
                assert time.monotonic() < deadline

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.communicate()
            self._process = None

    def token(self, user: str) -> str:
        """Sign a user in, as a browser and an application would; return the ID token."""
        with httpx2.Client(base_url=self.issuer, trust_env=False) as http:
            query = {
                "response_type": "code",
                "client_id": CLIENT,
                "redirect_uri": _BACK,
                "scope": "openid",
                "nonce": str(time.monotonic_ns()),
            }
            answer = http.post("/oauth2/authorize", params=query, data={"sub": user})
            (code,) = parse_qs(urlsplit(answer.headers["location"]).query)["code"]
            form = {"grant_type": "authorization_code", "code": code, "redirect_uri": _BACK}
            answer = http.post("/oauth2/token", data=form, auth=(CLIENT, "any"))
            return str(answer.json()["id_token"])


class StrictProvider(OidcProvider):
    """The same, with all the checks that :mod:`tests.support.strict_provider` adds."""

    def __init__(self, audience: str, token_s: int, **users: dict[str, Any]) -> None:
        """Take whom its access tokens are for, and how long they are good."""
        super().__init__(**users)
        self._options = {"audience": audience, "token_s": token_s, "users": users}

    def _command(self) -> list[str]:
        options = json.dumps({**self._options, "port": self._port})
        script = Path(__file__).with_name("strict_provider.py")
        return [str(bin_with("oidc") / "python"), "-P", str(script), options]

    def add_client(self, client_id: str, redirect_uri: str, secret: str = "") -> None:
        body = {"id": client_id, "secret": secret, "redirect_uris": [redirect_uri]}
        httpx2.post(f"{self.issuer}/tests/clients", json=body, trust_env=False).raise_for_status()

    def refresh_tokens(self) -> list[str]:
        """Return those that are good."""
        got = httpx2.get(f"{self.issuer}/tests/refresh-tokens", trust_env=False)
        return [str(token) for token in got.json()]
