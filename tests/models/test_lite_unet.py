from __future__ import annotations

import pytest
import torch

from earthloom.models.measuring import receptive_field
from earthloom.models.networks.segment.lite_unet import LiteUnet
from earthloom.models.networks.torchvision_ops import define_missing_ops
from earthloom.tiling.errors import CardError


def test_its_encoder_is_that_of_timm() -> None:
    define_missing_ops()
    import timm

    torch.manual_seed(0)
    theirs = timm.create_model("tf_efficientnet_lite0", features_only=True).eval()
    ours = LiteUnet(in_channels=3, classes=2).encoder.eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=False)))
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        coarsest, skips = ours(x)
        for own, their in zip([*skips, coarsest], theirs(x), strict=False):
            torch.testing.assert_close(own, their)


def test_it_sees_206_px_and_repeats_every_16() -> None:
    torch.manual_seed(0)
    module = LiteUnet(in_channels=3, classes=2).eval()
    assert receptive_field.total_stride(module, 3, 16) == 16
    assert receptive_field.support(module, 3, 16) == 206


def test_other_bands_and_widths() -> None:
    module = LiteUnet(in_channels=5, classes=4, decoder=(32, 24, 16, 8)).eval()
    with torch.no_grad():
        assert module(torch.zeros(2, 5, 32, 48)).shape == (2, 4, 32, 48)


@pytest.mark.parametrize("decoder", [(32, 16), (32, 16, 8, 0), (32, 16, 8, "8")])
def test_a_decoder_of_another_depth_is_refused(decoder: tuple[int, ...]) -> None:
    with pytest.raises(CardError, match="4 decoder stages"):
        LiteUnet(in_channels=3, classes=2, decoder=decoder)
