"""The network against the released code, and its shapes."""

import dataclasses
import importlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from rmgn import PRESETS, RMGN, ModelConfig, checkpoint
from rmgn.checkpoint import CheckpointError
from rmgn.config import paper_formulas
from rmgn.convert import released
from rmgn.model import colour_range
from rmgn.palette import Palette

State = dict[str, torch.Tensor]
TINY = dataclasses.replace(
    PRESETS["lite"],
    encoder_widths=(4, 4, 6, 8, 8),
    pyramid_width=4,
    flow_widths=(4, 4),
    coarse_flow_widths=(5, 4),
    finest_flow_widths=(4, 3),
    extractor_widths=(2, 4, 4, 6, 8),
    fusion_widths=(10, 8, 6, 4, 3),
    unet_widths=(4, 4, 6, 8, 8),
    preserve=False,
    palette=0,
)
PALETTE = dataclasses.replace(TINY, preserve=True, palette=3)


def inputs(batch: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    person, garment = 2 * torch.rand(2, batch, 3, height, width, generator=generator) - 1
    mask = (torch.rand(batch, 1, height, width, generator=generator) > 0.3).float()
    return person, garment, mask


def test_rmgn_matches_the_released_code(
    released_state: Callable[[str], State], released_inputs: State, released_outputs: dict[str, np.ndarray]
) -> None:
    model = released(released_state("rmgn_warp"), released_state("rmgn_generator"))
    with torch.no_grad():
        result = model(**released_inputs, regional_masks=True)
    expected = released_outputs

    pixels = (result.flow.numpy() - expected["flow_grid"]) * np.array([96, 128]).reshape(1, 2, 1, 1)
    assert np.hypot(pixels[:, 0], pixels[:, 1]).mean() <= 0.01
    np.testing.assert_allclose(result.tryon, expected["tryon"], atol=2e-3)
    # The others are stored in half: their own rounding adds up to 5e-4.
    for name in ("warped_garment", "warped_mask", "rendered", "composite_mask"):
        np.testing.assert_allclose(getattr(result, name), expected[name], atol=2.5e-3, err_msg=name)
    np.testing.assert_allclose(result.regional_masks[-1], expected["last_regional_mask"], atol=2.5e-3)
    shapes = [list(mask.shape) for mask in result.regional_masks]
    assert shapes == expected["regional_mask_shapes"].tolist()


def test_pfafn_matches_the_released_code(
    released_state: Callable[[str], State], released_inputs: State, released_outputs: dict[str, np.ndarray]
) -> None:
    model = released(released_state("rmgn_warp"), released_state("pfafn_generator"))
    assert model.config.generator == "pfafn"
    with torch.no_grad():
        result = model(**released_inputs, regional_masks=True)
    np.testing.assert_allclose(result.tryon, released_outputs["pfafn_tryon"], atol=2.5e-3)
    assert result.regional_masks == ()


def test_paper_preset_has_the_published_size() -> None:
    with torch.device("meta"):
        model = RMGN(PRESETS["paper"])
    millions = [sum(p.numel() for p in part.parameters()) / 1e6 for part in (model.warp, model.generator)]
    assert [round(m, 2) for m in millions] == [29.30, 69.25]


@pytest.mark.parametrize("size", [(32, 32), (64, 32), (96, 160)], ids=str)
@pytest.mark.parametrize(
    "config",
    [
        TINY,
        paper_formulas(TINY),
        dataclasses.replace(TINY, generator="pfafn"),
        dataclasses.replace(TINY, regional_mask=False),
        dataclasses.replace(TINY, composite=False, pixel_rule="corners"),
        dataclasses.replace(TINY, preserve=True),
        dataclasses.replace(TINY, composite=False, preserve=True),
        PALETTE,
    ],
    ids=[
        "release",
        "paper formulas",
        "pfafn",
        "no regional masks",
        "no composite",
        "preserves",
        "preserves alone",
        "palette",
    ],
)
def test_any_size_any_batch_any_variant(config: ModelConfig, size: tuple[int, int]) -> None:
    """A batch gives what its samples give alone, and a cached pyramid what a computed one gives."""
    torch.manual_seed(0)
    model = RMGN(config).eval()
    if config.palette:
        torch.nn.init.normal_(model.generator.palette.mask[-1].weight)
    person, garment, mask = inputs(3, *size)
    with torch.no_grad():
        batch = model(person, garment, mask, regional_masks=True)
        alone = model(person[1:2], garment[1:2], mask[1:2], model.encode_garment(garment[1:2], mask[1:2]))
    assert batch.tryon.shape == person.shape
    assert batch.flow.shape == (3, 2, *size)
    assert len(batch.regional_masks) == (0 if config.generator == "pfafn" else 18)
    for name in ("tryon", "rendered", "composite_mask", "warped_garment", "warped_mask", "flow"):
        # Instance norm multiplies the rounding of nearly flat planes (one pixel at 32x32) by up to 316.
        torch.testing.assert_close(getattr(batch, name)[1:2], getattr(alone, name), atol=2e-2, rtol=0)
    m = batch.composite_mask
    torch.testing.assert_close(batch.tryon, m * batch.warped_garment + (1 - m) * batch.rendered)
    assert (m <= batch.warped_mask + 1e-6).all()
    assert batch.composite_mask.any() == config.composite
    assert batch.preserve_mask.any() == config.preserve


def test_a_preserve_mask_of_one_leaves_the_person_as_she_is() -> None:
    """And of zero what the network without one draws, in a picture whose mean is 0 and deviation 1."""
    torch.manual_seed(0)
    model = RMGN(dataclasses.replace(TINY, preserve=True)).eval()
    plain = RMGN(TINY).eval()
    weights = {
        name: value[:4] if name.startswith("generator.final.") else value
        for name, value in model.state_dict().items()
    }
    plain.load_state_dict(weights)
    final = model.generator.final
    _, garment, mask = inputs(2, 64, 64)
    order = torch.randn(2, 3, 64 * 64).argsort(dim=-1).view(2, 3, 64, 64)
    person = 2.0 * (order % 2) - 1
    with torch.no_grad():
        final.weight[4] = 0
        final.bias[4] = 100
        kept = model(person, garment, mask)
        final.bias[4] = -100
        drawn, expected = model(person, garment, mask), plain(person, garment, mask)
    torch.testing.assert_close(kept.rendered, person)
    torch.testing.assert_close(drawn.tryon, expected.tryon)
    torch.testing.assert_close(kept.composite_mask, expected.composite_mask)


def test_colours_are_those_of_each_channel_of_each_picture() -> None:
    rng = np.random.default_rng(0)
    picture = rng.normal(
        rng.uniform(-0.6, 0.6, (2, 3, 1, 1)), rng.uniform(0.05, 0.3, (2, 3, 1, 1)), (2, 3, 9, 7)
    )
    picture[1, 2] = 1.0  # white, without any spread
    centre, spread = colour_range(torch.from_numpy(picture))
    mean = np.minimum(picture.mean(axis=(2, 3)), 0.95)
    np.testing.assert_allclose(centre[..., 0, 0], np.arctanh(mean))
    np.testing.assert_allclose(spread[..., 0, 0], picture.std(axis=(2, 3)) / (1 - mean**2), atol=1e-12)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_a_palette_holds_means_of_the_persons_colours(seed: int) -> None:
    torch.manual_seed(seed)
    palette = Palette(5, 4, 3)
    h, person_map = torch.randn(2, 5, 4, 6), torch.randn(2, 4, 4, 6)
    person = 2 * torch.rand(2, 3, 16, 24) - 1
    mean = person.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(palette(h, person_map, person), mean.expand(2, 3, 4, 6))  # untrained

    last = palette.mask[-1]
    assert isinstance(last, torch.nn.Conv2d)
    torch.nn.init.normal_(last.weight, std=3)
    with torch.no_grad():
        found = palette(h, person_map, person)
        mask, weight = palette.mask(person_map).exp().numpy(), palette.weight(h).exp().numpy()
    seen = person.view(2, 3, 4, 4, 6, 4).mean(dim=(3, 5)).numpy()  # 4×4 pixels a spot
    for b in range(2):
        colours = [(seen[b] * m).sum(axis=(1, 2)) / m.sum() for m in mask[b]]
        for y, x in ((0, 0), (3, 1), (2, 5)):
            expected = np.average(colours, axis=0, weights=weight[b, :, y, x])
            np.testing.assert_allclose(found[b, :, y, x], expected, atol=1e-5)


def test_what_is_drawn_is_drawn_around_the_palettes_colours() -> None:
    """A network that draws nothing and keeps nothing shows them, enlarged."""
    torch.manual_seed(0)
    model = RMGN(PALETTE).eval()
    torch.nn.init.normal_(model.generator.palette.mask[-1].weight, std=30)
    with torch.no_grad():
        model.generator.final.weight.zero_()
        model.generator.final.bias.zero_()
        model.generator.final.bias[4] = -100  # of the preserve mask
        mixed: list[torch.Tensor] = []
        model.generator.palette.register_forward_hook(lambda *call: mixed.append(call[-1]))
        shown = model(*inputs(2, 64, 96)).rendered
    (colour,) = mixed
    assert colour.shape == (2, 3, 16, 24)
    assert colour.std(dim=(2, 3)).min() > 1e-3
    torch.testing.assert_close(shown, torch.nn.functional.interpolate(colour, (64, 96), mode="bilinear"))


def test_the_coarsest_levels_alone_are_those_of_all() -> None:
    torch.manual_seed(0)
    model = RMGN(TINY).eval()
    person, garment, mask = inputs(2, 64, 96)
    with torch.no_grad():
        every = model.estimate_flow(person, model.encode_garment(garment, mask))
    model.warp.train_coarsest(2)
    some = model.estimate_flow(person, model.encode_garment(garment, mask))
    assert [tuple(flow.shape[2:]) for flow in some.flows] == [(4, 6), (8, 12)]
    for flow, expected in zip(some.flows, every.flows, strict=False):
        torch.testing.assert_close(flow, expected)
    torch.stack([flow.square().mean() for flow in some.flows]).sum().backward()  # type: ignore[no-untyped-call]
    of_a_level = re.compile(r"(lateral|smooth|match|refine)\.(\d)\.")
    for name, parameter in model.warp.named_parameters():
        level = of_a_level.search(name)
        finer = level is not None and int(level[2]) >= 2
        assert parameter.requires_grad != finer, name
        # Encoders reach the flow by their two deepest stages, which all others lie before.
        assert (parameter.grad is None) == finer, name


def test_the_finest_levels_alone_learn_where_the_coarsest_are_held() -> None:
    model = RMGN(TINY).train()
    model.warp.hold_coarsest(2)
    person, garment, mask = inputs(2, 64, 96)
    flows = model.estimate_flow(person, model.encode_garment(garment, mask)).flows
    assert [flow.requires_grad for flow in flows] == [False, False, True, True, True]
    torch.stack([flow.square().mean() for flow in flows]).sum().backward()  # type: ignore[no-untyped-call]
    of_a_level = re.compile(r"(lateral|smooth|match|refine)\.(\d)\.")
    for name, parameter in model.warp.named_parameters():
        level = of_a_level.search(name)
        finer = level is not None and int(level[2]) >= 2
        assert (parameter.grad is not None) == finer, name


def test_the_network_compiles_as_one_graph() -> None:
    torch.manual_seed(0)
    model = RMGN(TINY).eval()
    person, garment, mask = inputs(1, 64, 64)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(person, garment, mask).tryon, model(person, garment, mask).tryon)


@pytest.mark.parametrize("config", [TINY, PALETTE], ids=["tiny", "palette"])
def test_every_parameter_gets_a_gradient(config: ModelConfig) -> None:
    torch.manual_seed(0)
    model = RMGN(config).train()
    if config.palette:
        torch.nn.init.normal_(model.generator.palette.mask[-1].weight)
    person, garment, mask = inputs(2, 64, 64)
    result = model(person, garment, torch.ones_like(mask))
    (result.tryon.square().mean() + result.flow.square().mean()).backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # Convolutions before an instance norm lose their bias, and β of the last level has no norm behind it.
    assert not [name for name in dead if not (name.startswith("generator.") and "bias" in name)], dead


@pytest.mark.parametrize("size", [(100, 96), (96, 33)], ids=str)
def test_sizes_off_the_grid_are_refused(size: tuple[int, int]) -> None:
    person, garment, mask = inputs(1, *size)
    with pytest.raises(ValueError, match=f"multiples of 32, not {size[0]}x{size[1]}"):
        RMGN(TINY)(person, garment, mask)


def test_mismatched_inputs_are_refused() -> None:
    person, garment, mask = inputs(1, 64, 64)
    with pytest.raises(ValueError, match="must have the same batch, height and width"):
        RMGN(TINY)(person, garment[:, :, :32], mask)
    other = inputs(2, 96, 64)
    model = RMGN(TINY)
    with pytest.raises(ValueError, match=r"of 2 garments of 96x64, persons are \(1, 3, 64, 64\)"):
        model(person, garment, mask, model.encode_garment(*other[1:]))


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    model = RMGN(paper_formulas(TINY)).eval()
    checkpoint.save(model, tmp_path / "new" / "tiny.safetensors")
    again = checkpoint.load(tmp_path / "new" / "tiny.safetensors")
    assert again.config == model.config
    person, garment, mask = inputs(1, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(person, garment, mask).tryon, model(person, garment, mask).tryon)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["tiny.safetensors"]


@pytest.mark.parametrize("value", [1e5, float("nan"), float("inf")])
def test_weights_that_half_precision_does_not_hold_are_not_halved(value: float, tmp_path: Path) -> None:
    model = RMGN(TINY)
    with torch.no_grad():
        model.generator.final.weight[0, 0, 0, 0] = value
    with pytest.raises(CheckpointError, match=r"final\.weight is too large for float16, or not finite"):
        checkpoint.save(model, tmp_path / "half.safetensors", half=True)
    assert list(tmp_path.iterdir()) == []


def test_a_palette_may_be_left_out_and_not_be_negative() -> None:
    assert ModelConfig.from_json('{"palette": 0}').palette == 0
    for value in (-1, 1.5, [8], True):
        with pytest.raises(ValueError, match="palette must be 0 or a whole number, not "):
            ModelConfig.from_json(json.dumps({"palette": value}))


def test_a_checkpoint_from_before_preserve_masks_is_read_as_it_was(tmp_path: Path) -> None:
    model = RMGN(TINY)
    older = json.loads(TINY.to_json())
    del older["preserve"]
    save_file(model.state_dict(), tmp_path / "older.safetensors", {"config": json.dumps(older)})
    again = checkpoint.load(tmp_path / "older.safetensors")
    assert again.config == TINY
    assert again.generator.final.weight.shape[0] == 4


def test_bad_checkpoints_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        checkpoint.load(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("not a checkpoint")
    with pytest.raises(CheckpointError, match=r"text.safetensors is not a safetensors file .*rmgn.convert"):
        checkpoint.load(tmp_path / "text.safetensors")
    for config, message in (("[]", "must be a JSON object"), ('{"generator": "x"}', "unknown generator 'x'")):
        save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors", {"config": config})
        with pytest.raises(CheckpointError, match=f"foreign.safetensors does not fit .*{message}"):
            checkpoint.load(tmp_path / "foreign.safetensors")
    wider = dataclasses.replace(TINY, pyramid_width=8).to_json()
    save_file(RMGN(TINY).state_dict(), tmp_path / "other.safetensors", {"config": wider})
    with pytest.raises(CheckpointError, match=r"other.safetensors does not fit .*size mismatch") as raised:
        checkpoint.load(tmp_path / "other.safetensors")
    assert "\n" not in str(raised.value)


NETWORKS = {
    "released": dataclasses.replace(TINY, pixel_rule="corners"),
    "equation (4)": dataclasses.replace(TINY, residual_gamma=False, preserve=True),
    "averaged": dataclasses.replace(TINY, regional_mask=False, residual_gamma=False),
}


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_network_on_kernels_is_the_network_in_torch(
    kind: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each variant gives every kernel its own rule; the kernels alone do not tell whether it is right."""
    pytest.importorskip("triton", reason="Triton has no wheels for this platform")
    if device == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("a GPU is used instead")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.manual_seed(0)
    model = RMGN(NETWORKS[kind]).eval()
    pictures = inputs(1, 64, 64)
    with torch.no_grad():
        expected = model(*pictures)
        if device == "cpu":  # interpreted there, which the model would never choose
            for name in ("flow_warp", "local_correlation", "mask_fusion"):
                module = importlib.import_module(f"kernels.{name}")
                monkeypatch.setattr(module, "runs_on", lambda _: True)
        found = model.to(device)(*(picture.to(device) for picture in pictures))
    torch.testing.assert_close(found.flow.cpu(), expected.flow, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.tryon.cpu(), expected.tryon, atol=2e-3, rtol=0)
