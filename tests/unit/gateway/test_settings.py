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


def test_a_frame_limit_that_no_frame_can_reach_is_refused() -> None:
    # RFC 6455 section 5.2: 63 bits. The compiled relay counts in 64, mask included.
    assert GatewaySettings(max_frame_bytes=2**63 - 1).max_frame_bytes == 2**63 - 1
    with pytest.raises(ValueError, match=r"max_frame_bytes must be less than 2\*\*63"):
        GatewaySettings(max_frame_bytes=2**63)
