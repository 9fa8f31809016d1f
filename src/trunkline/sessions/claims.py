"""What the answers of the store mean to whoever wants to run a session here."""

from trunkline.protocol.errors import ConflictError, QuotaExceededError, UnavailableError
from trunkline.protocol.ids import SessionKey
from trunkline.sessions.elsewhere import SessionElsewhereError
from trunkline.store.records import Claim, ClaimOutcome


def insist(claim: Claim, key: SessionKey, most: int | None) -> None:
    """Return if the session may be run here.

    Args:
        claim: What the store answered.
        key: The session.
        most: How many sessions of its project may run.

    Raises:
        SessionElsewhereError: If another process of the platform runs it.
        TrunklineError: If nobody may run it.
    """
    match claim.outcome:
        case ClaimOutcome.OURS:
            return
        case ClaimOutcome.GONE:
            raise ConflictError(f"session {key.session_id!r} is being deleted; try again")
        case ClaimOutcome.FULL:
            raise QuotaExceededError(
                f"{most} sessions of project {key.project!r} run, and no more may "
                "(TRUNKLINE_SESSIONS_MAX_RUNNING); stop some, or try again later"
            )
        case ClaimOutcome.ELSEWHERE:
            assert claim.record is not None
            assert claim.record.holder is not None
            raise SessionElsewhereError(key, claim.record.holder)
        case ClaimOutcome.BURIED:
            raise UnavailableError("this process of the platform was taken for dead; connect again")
