"""Gets a session and a connection to its agent, also when the agent has just ended."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from trunkline.auth.caller import Caller
from trunkline.gateway.leases import Lease
from trunkline.gateway.services import GatewayServices
from trunkline.gateway.upstream import ConnectError
from trunkline.protocol.ids import SessionKey

_T = TypeVar("_T")
_EXIT_NOTICE_S = 5.0


async def reach(
    services: GatewayServices,
    key: SessionKey,
    caller: Caller,
    protocol: str,
    connect: Callable[[Lease], Awaitable[_T]],
    *,
    is_named: bool = True,
) -> tuple[Lease, _T]:
    """Acquire the session and connect to its agent; returning the lease is the caller's.

    Who hasn't named the session may get another one than is asked for.

    If nobody listens, the agent's process ended a moment ago and nobody has noticed yet. That
    is waited for, the session is started again, and the connection tried once more.

    Raises:
        TrunklineError: What acquiring or connecting raises. No lease is held then.
    """
    services.refuse_if_draining()
    lease = await services.sessions.acquire(key, caller, protocol=protocol, is_named=is_named)
    try:
        return lease, await connect(lease)
    except ConnectError as error:
        try:
            async with asyncio.timeout(_EXIT_NOTICE_S):
                await lease.wait_exited()
        except TimeoutError:
            # It lives, and doesn't listen: starting another wouldn't be it.
            raise error from None
        finally:
            lease.release()
    except BaseException:
        lease.release()
        raise
    lease = await services.sessions.acquire(lease.key, caller, protocol=protocol)
    try:
        return lease, await connect(lease)
    except BaseException:
        lease.release()
        raise
