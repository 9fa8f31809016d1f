"""Who a request comes from, once its token is verified."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """One caller.

    Attributes:
        issuer: Who vouches for the caller.
        subject: The caller's stable name at that issuer.
    """

    issuer: str
    subject: str

    @property
    def owner(self) -> str:
        """The caller as one string, as sessions record their owner."""
        return f"{self.issuer}|{self.subject}"
