"""What several tests of the gateway have in common."""

import pytest

from trunkline.gateway import carrier


@pytest.fixture(params=["compiled", "python"])
def relay_of(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold for the compiled relay and for the event loop's alike."""
    if request.param == "compiled":
        assert carrier.IS_BUILT, "the compiled relay wasn't built; make setup says why"
    else:
        monkeypatch.setattr(carrier, "IS_BUILT", False)
