# mypy: ignore-errors
"""``oidc-provider-mock``, as strict as providers are. Runs in the environment of that package.

Its own checks are few. What Authlib, on which it is built, has for the rest is put in: PKCE with
S256 alone (RFC 7636), signed access tokens for the platform (RFC 9068), refresh tokens that are
good for one use, revocation (RFC 7009), and one client with one address to go back to.
"""

import json
import os
import re
import sys

import flask
import uvicorn
from authlib.oauth2.rfc6749 import InvalidGrantError, InvalidRequestError
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
from oidc_provider_mock import _app as mock
from oidc_provider_mock._storage import Client, User, storage

CHALLENGES = {}
METHODS = ["none", "client_secret_basic"]
OPTIONS = json.loads(sys.argv[1])


class S256Only(CodeChallenge):
    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)

    def validate_code_challenge(self, grant, redirect_uri):
        asked = grant.request.payload.data
        if asked.get("code_challenge_method") != "S256" or not asked.get("code_challenge"):
            raise InvalidRequestError("PKCE with S256 is required")
        if not asked.get("state") or not asked.get("nonce"):
            raise InvalidRequestError("state and nonce are required")
        return super().validate_code_challenge(grant, redirect_uri)

    def get_authorization_code_challenge(self, authorization_code):
        return CHALLENGES.pop(authorization_code.code)

    def get_authorization_code_challenge_method(self, authorization_code):
        return "S256"


class CodeGrant(mock.AuthorizationCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS

    def save_authorization_code(self, code, request):
        super().save_authorization_code(code, request)
        CHALLENGES[code] = request.payload.data["code_challenge"]


class RefreshGrant(mock.RefreshTokenGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS
    INCLUDE_NEW_REFRESH_TOKEN = True

    def revoke_old_credential(self, refresh_token):
        storage.remove_refresh_token(refresh_token.token)


class Revocation(RevocationEndpoint):
    CLIENT_AUTH_METHODS = METHODS

    def query_token(self, token, hint):
        found = storage.get_refresh_token(token)
        if found is None:
            raise InvalidGrantError
        return found

    def revoke_token(self, token, request):
        storage.remove_refresh_token(token.token)


class SignedTokens(JWTBearerTokenGenerator):
    def get_jwks(self):
        return storage.jwk.as_dict(is_private=True)

    def get_audiences(self, client, user, scope):
        return OPTIONS["audience"]

    def get_extra_claims(self, client, grant_type, user, scope):
        return user.claims

    def access_token_generator(self, client, grant_type, user, scope):
        self.issuer = flask.request.host_url.rstrip("/")
        return super().access_token_generator(client, grant_type, user, scope)


class Strict(mock.flask_oauth2.AuthorizationServer):
    def init_app(self, app, **rest):
        super().init_app(app, **rest)
        tokens = SignedTokens(
            "", refresh_token_generator=lambda *_, **__: mock.secrets.token_urlsafe(24),
            expires_generator=lambda *_: OPTIONS["token_s"],
        )  # fmt: skip
        self.register_token_generator("default", tokens)
        self.register_endpoint(Revocation)

    def register_grant(self, grant, extensions=None):
        if grant is mock.AuthorizationCodeGrant:
            super().register_grant(CodeGrant, [*extensions, S256Only(required=True)])
        else:
            super().register_grant(RefreshGrant, extensions)


User.get_user_id = lambda self: self.sub
mock.flask_oauth2.AuthorizationServer = Strict
app = mock.app(
    require_client_registration=True,
    require_nonce=True,
    user_claims=[User(sub=sub, claims=claims) for sub, claims in OPTIONS["users"].items()],
)
app.debug = False


@app.post("/oauth2/revoke")
def revoke():
    return mock.authorization.create_endpoint_response("revocation")


@app.post("/tests/clients")
def add_client():
    asked = flask.request.json
    client = Client(
        id=asked["id"],
        secret=asked["secret"],
        redirect_uris=asked["redirect_uris"],
        allowed_scopes=Client.SCOPES_SUPPORTED,
        token_endpoint_auth_method="client_secret_basic" if asked["secret"] else "none",
    )
    storage.store_client(client)
    return "", 204


@app.get("/tests/refresh-tokens")
def refresh_tokens():
    return flask.jsonify([each.token for each in storage.refresh_tokens()])


@app.after_request
def changed(answer):
    place, state = answer.headers.get("location", ""), flask.request.args.get("state")
    if "error=" in place and "state=" not in place and state:
        # RFC 6749 section 4.1.2.1: a refusal has the state, too.
        answer.headers["location"] = f"{place}&state={state}"
    if answer.mimetype == "text/html":
        # Tests talk to this machine alone, and its pages have a style sheet from elsewhere.
        answer.set_data(
            re.sub(r'<link[^>]*href="https://[^>]*>', "", answer.get_data(as_text=True))
        )
    if flask.request.path == "/.well-known/openid-configuration":
        body = {**answer.json, "revocation_endpoint": flask.request.host_url + "oauth2/revoke"}
        answer.set_data(json.dumps(body))
    return answer


os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
uvicorn.run(app, interface="wsgi", port=OPTIONS["port"], host="127.0.0.1")
