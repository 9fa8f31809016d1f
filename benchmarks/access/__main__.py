"""What telling callers apart costs, and what a flood of bad tokens does to an open conversation.

Run as ``python -m benchmarks.access``. Costs are CPU time of this process, the least of many small
batches, beside OpenSSL's bare signature check in the same run. The flood goes against a whole
``trunkline up`` with its limits as they are and with them off.
"""

import argparse
import asyncio
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.support.report import console, machine, ratio, table
from trunkline.auth.claims import ClaimsMapping
from trunkline.auth.issuer import DevelopmentIssuer
from trunkline.auth.keys import FixedKeys
from trunkline.auth.providers import Provider
from trunkline.auth.settings import AuthSettings
from trunkline.auth.verify import TokenVerifier
from trunkline.protocol.errors import TrunklineError

ROOT = Path(__file__).parents[2]
ISSUER, AUDIENCE = "https://login.example", "https://ai.azure.com"
FRAME, PACE_S = b"v" * 640, 0.02
_BATCH, _BATCHES = 20, 60
_PIPELINE = 32


def _provider() -> Provider:
    return Provider(
        issuer=ISSUER, identity_issuer=ISSUER, discovery="", jwks_uri="",
        audiences=frozenset({AUDIENCE}), algorithms=frozenset({"RS256", "ES256"}), leeway_s=0,
        claims=ClaimsMapping(), fixed_claims={},
    )  # fmt: skip


async def _least_us(work: Callable[[int], Awaitable[object]]) -> float:
    """Return the CPU microseconds of one, in the batch that was disturbed least."""
    batches = []
    for batch in range(_BATCHES):
        began = time.thread_time_ns()
        for number in range(_BATCH):
            try:
                await work(batch * _BATCH + number)
            except TrunklineError:
                continue
        batches.append((time.thread_time_ns() - began) / _BATCH / 1000)
    return min(batches)


async def costs() -> list[list[str]]:
    """Measure verifying tokens of either kind of key."""
    rsa_key, ec_key = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
    jwks = [
        RSAAlgorithm(RSAAlgorithm.SHA256).to_jwk(rsa_key.public_key(), as_dict=True) | {"kid": "r"},
        ECAlgorithm(ECAlgorithm.SHA256).to_jwk(ec_key.public_key(), as_dict=True) | {"kid": "e"},
    ]
    signature = rsa_key.sign(FRAME, padding.PKCS1v15(), hashes.SHA256())
    ec_signature = ec_key.sign(FRAME, ec.ECDSA(hashes.SHA256()))
    rsa_public, ec_public = rsa_key.public_key(), ec_key.public_key()

    async def bare_rsa(_: int) -> None:
        rsa_public.verify(signature, FRAME, padding.PKCS1v15(), hashes.SHA256())

    async def bare_ec(_: int) -> None:
        ec_public.verify(ec_signature, FRAME, ec.ECDSA(hashes.SHA256()))

    rows = []
    for algorithm, key, kid, bare in (
        ("RS256", rsa_key, "r", bare_rsa), ("ES256", ec_key, "e", bare_ec),
    ):  # fmt: skip
        tokens = [
            jwt.encode(
                {"iss": ISSUER, "aud": AUDIENCE, "sub": f"user-{number}", "jti": number,
                 "exp": int(time.time()) + 3600, "roles": ["invoker@default", "reader"]},
                key, algorithm, headers={"kid": kid},
            )
            for number in range(_BATCH * _BATCHES)
        ]  # fmt: skip
        verifier = TokenVerifier(AuthSettings(), [(_provider(), FixedKeys({"keys": jwks}))])
        openssl = await _least_us(bare)
        kinds = {
            "a token that is new": lambda n, v=verifier, t=tokens: v.identify(f"Bearer {t[n]}"),
            "one that was seen": lambda n, v=verifier, t=tokens: v.identify(f"Bearer {t[n]}"),
            "a wrong signature": lambda n, v=verifier, t=tokens: v.identify(
                f"Bearer {t[n][:-20]}{'A' * 20}"
            ),
        }
        for kind, work in kinds.items():
            cost = await _least_us(work)
            rows.append(
                [f"{algorithm}: {kind}", f"{cost:.1f}", f"{openssl:.1f}", ratio(cost, openssl)]
            )

    async def garbage(n: int) -> object:
        return await verifier.identify(f"Bearer {n}.b.c")

    rows.append(["no token at all", f"{await _least_us(garbage):.1f}", "", ""])
    return rows


async def _speak(websocket: ClientConnection, seconds: float) -> list[float]:
    """Send frames at the pace of speech; return how long each took to come back, in ms."""
    sent: list[float] = []
    took: list[float] = []

    async def hear() -> None:
        async for _ in websocket:
            took.append((time.perf_counter() - sent[len(took)]) * 1000)

    hearing = asyncio.create_task(hear())
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        sent.append(time.perf_counter())
        await websocket.send(FRAME)
        await asyncio.sleep(PACE_S)
    await asyncio.sleep(1)
    hearing.cancel()
    return took


async def flood(port: int, token: str, per_s: float) -> None:
    """Send distinct bad tokens until told to stop; print how many were answered, with what."""
    head, body, signature = token.split(".")
    pad = len(signature) - 22
    loop = asyncio.get_running_loop()
    answered: dict[str, int] = {}

    async def one(share: float) -> None:
        due = loop.time()
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                while True:
                    writer.write(
                        b"".join(
                            f"GET /api/projects/default/agents?api-version=v1 HTTP/1.1\r\n"
                            f"host: x\r\nauthorization: Bearer {head}.{body}."
                            f"{secrets.token_urlsafe(16)}{signature[-pad:]}\r\n\r\n".encode()
                            for _ in range(_PIPELINE)
                        )
                    )
                    for _ in range(_PIPELINE):
                        answer = await reader.readuntil(b"\r\n\r\n")
                        status = answer[9:12].decode()
                        length = int(answer.lower().split(b"content-length: ")[1].split(b"\r")[0])
                        await reader.readexactly(length)
                        answered[status] = answered.get(status, 0) + 1
                    due += _PIPELINE / share
                    await asyncio.sleep(max(due - loop.time(), 0))
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(one(per_s / 16)) for _ in range(16)]
    await loop.run_in_executor(None, sys.stdin.readline)
    for task in tasks:
        task.cancel()
    sys.stdout.write(json.dumps(answered) + "\n")


async def under_flood(folder: Path, seconds: float, per_s: float, **settings: str) -> list[str]:
    """Measure one conversation without and with a flood."""
    state = folder / secrets.token_hex(4)
    env = {k: v for k, v in os.environ.items() if not k.startswith("TRUNKLINE_")} | settings
    command = [sys.executable, "-m", "trunkline"]
    platform = subprocess.Popen(
        [*command, "up", "--port", "0", "--state-dir", str(state)], env=env,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert platform.stdout is not None
        url = platform.stdout.readline().split()[1]
        where = {"TRUNKLINE_ENDPOINT": url, "TRUNKLINE_HOME": str(state)}
        subprocess.run([*command, "deploy", str(ROOT / "samples/echo")], env=env | where,
                       check=True, capture_output=True)  # fmt: skip
        token = DevelopmentIssuer.open(state).issue("bench")
        place = "/api/projects/default/agents/echo/endpoint/protocols/invocations_ws"
        async with connect(
            f"{url.replace('http', 'ws', 1)}{place}?api-version=v1", proxy=None, open_timeout=60,
            additional_headers={"Authorization": f"Bearer {token}"}, max_size=None,
        ) as websocket:  # fmt: skip
            await _speak(websocket, 2)
        quiet, loud, answered = await _both(url, place, token, seconds, per_s)
    finally:
        platform.terminate()
        platform.wait()
    p99 = [statistics.quantiles(each, n=100)[98] for each in (quiet, loud)]
    rate = sum(answered.values()) / seconds
    return [
        f"{rate:.0f}", " ".join(f"{status}: {n}" for status, n in sorted(answered.items())),
        f"{p99[0]:.2f}", f"{p99[1]:.2f}", ratio(p99[1], p99[0]),
    ]  # fmt: skip


async def _both(
    url: str, place: str, token: str, seconds: float, per_s: float
) -> tuple[list[float], list[float], dict[str, int]]:
    async with connect(
        f"{url.replace('http', 'ws', 1)}{place}?api-version=v1", proxy=None, open_timeout=60,
        additional_headers={"Authorization": f"Bearer {token}"}, max_size=None,
    ) as websocket:  # fmt: skip
        quiet = await _speak(websocket, seconds)
    async with connect(
        f"{url.replace('http', 'ws', 1)}{place}?api-version=v1", proxy=None, open_timeout=60,
        additional_headers={"Authorization": f"Bearer {token}"}, max_size=None,
    ) as websocket:  # fmt: skip
        flooding = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.access", "--flood", url.rpartition(":")[2], token,
             str(per_s)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        await asyncio.sleep(1)
        loud = await _speak(websocket, seconds)
        told, _ = flooding.communicate("stop\n")
    return quiet, loud, json.loads(told)


async def measure(seconds: float, per_s: float) -> None:
    """Measure and print all of it."""
    out = console()
    out.print(f"[bold]callers[/bold]: {machine()}")
    out.print(
        table("CPU µs of verifying", ["", "trunkline", "OpenSSL alone", "ratio"], await costs())
    )
    off = {f"TRUNKLINE_RATES_{name}": "0" for name in ("FAILURES_PER_ADDRESS", "CALLS_PER_ADDRESS")}
    with tempfile.TemporaryDirectory(prefix="trunkline-bench-") as folder:
        rows = [
            ["limits as they are", *await under_flood(Path(folder), seconds, per_s)],
            ["limits off", *await under_flood(Path(folder), seconds, per_s, **off)],
        ]
    out.print(
        table(
            f"a conversation, p99 of 640 bytes there and back; {per_s:g} bad tokens a second",
            ["", "answered/s", "answers", "without, ms", "with, ms", "ratio"],
            rows,
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--per-s", type=float, default=10_000)
    parser.add_argument(
        "--flood", nargs=3, metavar=("PORT", "TOKEN", "PER_S"), help=argparse.SUPPRESS
    )
    given = parser.parse_args()
    if given.flood:
        port, token, per_s = given.flood
        asyncio.run(flood(int(port), token, float(per_s)))
    else:
        asyncio.run(measure(given.seconds, given.per_s))


if __name__ == "__main__":
    main()
