"""A provider of tokens as most are: it signs with RS256, and publishes its keys on loopback."""

import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from trunkline.auth.issuer import DEFAULT_AUDIENCE

ALGORITHM = "RS256"
_LIFETIME_S = 3600
_KEY_ID = "one"
#: What the gateway is told of it, as whoever runs a platform writes it.
_CONFIGURATION = """
[[provider]]
issuer = "{issuer}"
jwks_uri = "{issuer}/keys"
algorithms = ["{algorithm}"]
default_grants = ["invoker"]
"""


class Provider:
    """One with one key; it serves until it is closed, or the program ends."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)
        public = RSAAlgorithm(RSAAlgorithm.SHA256).to_jwk(self._key.public_key(), as_dict=True)
        document = json.dumps({"keys": [public | {"kid": _KEY_ID}]}).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(document)))
                self.end_headers()
                self.wfile.write(document)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.issuer = f"http://127.0.0.1:{self._server.server_port}"

    def configure(self, path: Path) -> Path:
        """Write what the gateway is told of it; return where that is."""
        path.write_text(_CONFIGURATION.format(issuer=self.issuer, algorithm=ALGORITHM))
        return path

    def issue(self, user: str) -> str:
        """Return a token that nobody has had before."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": DEFAULT_AUDIENCE,
            "sub": user,
            "iat": now,
            "nbf": now,
            "exp": now + _LIFETIME_S,
            "jti": secrets.token_hex(8),
        }
        return jwt.encode(claims, self._key, ALGORITHM, headers={"kid": _KEY_ID})

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
