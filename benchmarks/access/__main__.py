"""What telling callers apart costs, and what a flood of bad tokens does to an open conversation.

Run as ``python -m benchmarks.access``. Costs are CPU time of this process, the least of many small
batches, beside OpenSSL's bare signature check in the same run. The flood goes against a whole
``trunkline up`` with its limits as they are and with them off.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.support.processes import Children
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
#: What is measured: the call of one number.
Work = Callable[[int], Awaitable[object]]
_BATCH, _BATCHES, _ROUNDS = 20, 60, 5
#: How often quiet and flood take turns: a machine's other work falls on both.
_TURNS = 5


def _provider() -> Provider:
    return Provider(
        issuer=ISSUER, identity_issuer=ISSUER, discovery="", jwks_uri="",
        audiences=frozenset({AUDIENCE}), algorithms=frozenset({"RS256", "ES256"}), leeway_s=0,
        claims=ClaimsMapping(), fixed_claims={},
    )  # fmt: skip


async def _least_us(works: Mapping[str, Work]) -> dict[str, float]:
    """Return the CPU microseconds of one of each, in the batch that was disturbed least.

    They take turns, batch by batch: whatever else slows the machine falls on all of them.
    """
    least = dict.fromkeys(works, float("inf"))
    for batch in range(_BATCHES):
        for name, work in works.items():
            began = time.thread_time_ns()
            for number in range(_BATCH):
                try:
                    await work(batch * _BATCH + number)
                except TrunklineError:
                    continue
            took = (time.thread_time_ns() - began) / _BATCH / 1000
            least[name] = min(least[name], took)
    return least


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
        openssl, kinds = "OpenSSL alone", dict[str, float]()
        for _ in range(_ROUNDS):
            # Another that has seen none of them.
            verifier = TokenVerifier(AuthSettings(), [(_provider(), FixedKeys({"keys": jwks}))])
            works: dict[str, Work] = {
                openssl: bare,
                "a token that is new": lambda n, v=verifier, t=tokens: v.identify(f"Bearer {t[n]}"),
                "one that was seen": lambda n, v=verifier, t=tokens: v.identify(f"Bearer {t[n]}"),
                "a wrong signature": lambda n, v=verifier, t=tokens: v.identify(
                    f"Bearer {t[n][:-20]}{'A' * 20}"
                ),
            }
            for kind, cost in (await _least_us(works)).items():
                kinds[kind] = min(cost, kinds.get(kind, cost))
        alone = kinds.pop(openssl)
        rows += [
            [f"{algorithm}: {kind}", f"{cost:.1f}", f"{alone:.1f}", ratio(cost, alone)]
            for kind, cost in kinds.items()
        ]

    async def garbage(n: int) -> object:
        return await verifier.identify(f"Bearer {n}.b.c")

    rows.append(["no token at all", f"{(await _least_us({'': garbage}))['']:.1f}", "", ""])
    return rows


class Voice:
    """Speech that is echoed: frames at its pace, and how long each took to come back."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket

    async def speak(self, seconds: float) -> list[float]:
        """Speak; return how long each frame took, in ms."""
        sent: deque[float] = deque()
        took: list[float] = []

        async def hear() -> None:
            while isinstance(await self._websocket.recv(), bytes):
                took.append((time.perf_counter() - sent.popleft()) * 1000)

        hearing = asyncio.create_task(hear())
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            sent.append(time.perf_counter())
            await self._websocket.send(FRAME)
            await asyncio.sleep(PACE_S)
        await self._websocket.send("over")
        await hearing
        return took


async def under_flood(seconds: float, per_s: float, **settings: str) -> list[str]:
    """Measure one conversation without and with a flood, in turns."""
    with (
        tempfile.TemporaryDirectory(prefix="trunkline-bench-") as name,
        Children(Path(name)) as children,
    ):
        state = Path(name) / "state"
        clean = [f"-u{name}" for name in os.environ if name.startswith("TRUNKLINE_")]
        command = ["env", *clean, *(f"{name}={value}" for name, value in settings.items())]
        command += [sys.executable, "-m", "trunkline"]
        platform = children.start(
            "platform", *command, "up", "--port", "0", "--state-dir", str(state)
        )
        url = platform.read_line().split()[1]
        endpoint = ["--endpoint", url, "--state-dir", str(state)]
        subprocess.run([*command, "deploy", str(ROOT / "samples/echo"), *endpoint],
                       check=True, capture_output=True)  # fmt: skip
        token = DevelopmentIssuer.open(state).issue("bench")
        port = url.rpartition(":")[2]
        flood = children.start_python("flood", "benchmarks.access.flood", port, str(per_s))
        flood.tell(token)
        place = "/api/projects/default/agents/echo/endpoint/protocols/invocations_ws"
        quiet: list[float] = []
        loud: list[float] = []
        counts: Counter[str] = Counter()
        cpu_ns = 0
        async with connect(
            f"{url.replace('http', 'ws', 1)}{place}?api-version=v1", proxy=None, open_timeout=60,
            additional_headers={"Authorization": f"Bearer {token}"}, max_size=None,
        ) as websocket:  # fmt: skip
            voice = Voice(websocket)
            await voice.speak(1)
            for _ in range(_TURNS):
                quiet += await voice.speak(seconds / _TURNS)
                flood.ask(do="go")
                began_ns = platform.cpu_ns()
                loud += await voice.speak(seconds / _TURNS)
                cpu_ns += platform.cpu_ns() - began_ns
                counts.update(flood.ask(do="pause")["counts"])
    p99 = [statistics.quantiles(each, n=100)[98] for each in (quiet, loud)]
    told = sorted((status, n) for status, n in counts.items() if status.isdigit())
    return [
        f"{counts['sent'] / seconds:.0f}", f"{counts['connections'] / seconds:.0f}",
        f"{sum(n for _, n in told) / seconds:.0f}",
        " ".join(f"{status}: {n}" for status, n in told), f"{cpu_ns / seconds / 1e9:.2f}",
        f"{p99[0]:.2f}", f"{p99[1]:.2f}", ratio(p99[1], p99[0]),
    ]  # fmt: skip


async def measure(seconds: float, per_s: float) -> None:
    """Measure and print all of it."""
    out = console()
    out.print(f"[bold]callers[/bold]: {machine()}")
    out.print(
        table("CPU µs of verifying", ["", "trunkline", "OpenSSL alone", "ratio"], await costs())
    )
    off = {f"TRUNKLINE_RATES_{name}": "0" for name in ("FAILURES_PER_ADDRESS", "CALLS_PER_ADDRESS")}
    rows = [
        ["limits as they are", *await under_flood(seconds, per_s)],
        ["limits off", *await under_flood(seconds, per_s, **off)],
    ]
    out.print(
        table(
            f"a conversation, p99 of 640 bytes there and back; {per_s:g} bad tokens a second",
            ["", "sent/s", "connections/s", "answered/s", "answers", "processors", "without, ms",
             "with, ms", "ratio"],
            rows,
        )
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--per-s", type=float, default=10_000)
    given = parser.parse_args()
    asyncio.run(measure(given.seconds, given.per_s))


if __name__ == "__main__":
    main()
