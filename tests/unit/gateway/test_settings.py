"""What an operator can't mean is refused at start, by the setting's name."""

import pytest

from trunkline.gateway.settings import GatewaySettings


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_the_relays_share_of_a_processor_is_a_share(share: float) -> None:
    with pytest.raises(ValueError, match="relay_realtime_share must be between 0 and 1"):
        GatewaySettings(relay_realtime_share=share)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_none_and_all_of_one_are_shares(share: float) -> None:
    assert GatewaySettings(relay_realtime_share=share).relay_realtime_share == share
