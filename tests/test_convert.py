"""Released checkpoints through the converter, whole and broken."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from rmgn import checkpoint, convert
from rmgn.checkpoint import CheckpointError

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def warp(released_state: Callable[[str], State]) -> State:
    return released_state("rmgn_warp")


@pytest.fixture(scope="module")
def pfafn(released_state: Callable[[str], State]) -> State:
    return released_state("pfafn_generator")


def test_command_converts_data_parallel_checkpoints(
    warp: State, released_state: Callable[[str], State], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = released_state("rmgn_generator")
    torch.save({f"module.{k}": v for k, v in warp.items()}, tmp_path / "warp.pth")
    torch.save({"state_dict": generator}, tmp_path / "gen.pth")
    own = tmp_path / "gen.safetensors"
    save_file(generator, own)
    before = own.read_bytes()
    arguments = ["--warp", tmp_path / "warp.pth", "--generator", own, "--out", own]
    assert convert.main([str(a) for a in arguments]) == 2
    assert "gen.safetensors" in capsys.readouterr().err
    assert own.read_bytes() == before

    out = tmp_path / "rmgn.safetensors"
    arguments = ["--warp", tmp_path / "warp.pth", "--generator", tmp_path / "gen.pth", "--out", out]
    assert convert.main([str(a) for a in arguments]) == 0
    assert "RMGN, 98.6 M parameters" in capsys.readouterr().out

    expected = convert.released(warp, generator).state_dict()
    actual = checkpoint.load(out).state_dict()
    assert all(torch.equal(actual[name], value) for name, value in expected.items())


def test_spectral_norm_is_folded(warp: State, released_state: Callable[[str], State]) -> None:
    generator = released_state("rmgn_generator")
    model = convert.released(warp, generator)
    name = "generator.AADResBlk_up_3.conv_1.weight"
    sigma = torch.dot(generator[f"{name}_u"], generator[f"{name}_orig"].flatten(1) @ generator[f"{name}_v"])
    folded = model.get_parameter("generator.blocks.5.conv1.weight")
    torch.testing.assert_close(folded, generator[f"{name}_orig"] / sigma)


def test_masks_of_both_denormalised_maps_are_recognised(
    warp: State, released_state: Callable[[str], State]
) -> None:
    """As in one version of the release. Reference: equations (4) to (6) with the file's own weights."""
    generator = dict(released_state("rmgn_generator"))
    for key in [key for key in generator if key.endswith("conv_h.weight")]:
        generator[key] = torch.cat([generator[key], generator[key].flip(1)], dim=1)
    model = convert.released(warp, generator)
    assert (model.config.mask_source, model.config.residual_gamma) == ("denormalised", True)
    torch.manual_seed(0)
    h, person, garment = torch.randn(1, 64, 6, 5), torch.randn(1, 64, 6, 5), torch.randn(1, 64, 6, 5)

    def conv(name: str, x: torch.Tensor) -> torch.Tensor:
        key = f"generator.AADResBlk_mid_2.AAD_1.conv_{name}"
        return F.conv2d(x, generator[f"{key}.weight"], generator[f"{key}.bias"])

    n = F.instance_norm(h)
    of_person = n * (1 + conv("a1_gamma", person)) + conv("a1_beta", person)
    of_garment = n * (1 + conv("a2_gamma", garment)) + conv("a2_beta", garment)
    mask = torch.sigmoid(conv("h", torch.cat([of_person, of_garment], dim=1)))
    with torch.no_grad():
        fused, seen = model.generator.blocks[6].fusion1(h, person, garment)
    torch.testing.assert_close(seen, mask, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fused, (1 - mask) * of_person + mask * of_garment, rtol=1e-4, atol=1e-4)


def test_every_wrong_key_is_listed(warp: State, pfafn: State) -> None:
    broken = dict(pfafn)
    del broken["model.model.2.block.0.weight"]
    broken["model.model.6.weight"] = torch.zeros(4, 64, 3, 3)
    broken["surprise"] = torch.zeros(2)
    with pytest.raises(CheckpointError) as error:
        convert.released(warp, broken)
    text = str(error.value)
    assert "missing model.model.2.block.0.weight [64, 64, 3, 3]" in text
    assert "misshapen model.model.6.weight: [4, 64, 3, 3], expected [4, 128, 3, 3]" in text
    assert "unknown surprise [2]" in text
    assert "(3 keys differ)" in text


def test_spectral_norm_that_does_not_fit_is_listed(
    warp: State, released_state: Callable[[str], State]
) -> None:
    generator = dict(released_state("rmgn_generator"))
    name = "generator.AADResBlk_up_3.conv_1.weight"
    generator[f"{name}_u"] = torch.ones(3)
    with pytest.raises(CheckpointError) as error:
        convert.released(warp, generator)
    assert "(1 keys differ)" in str(error.value)
    assert f"misshapen {name}_orig [64, 128, 3, 3], {name}_u [3], {name}_v [1152]" in str(error.value)


def test_batch_counters_may_be_absent(warp: State, pfafn: State) -> None:
    old = {key: value for key, value in pfafn.items() if not key.endswith("num_batches_tracked")}
    convert.released(warp, old)


def test_swapped_files_are_recognised(warp: State, pfafn: State) -> None:
    with pytest.raises(CheckpointError, match=r"no aflow_net\.\* keys: is it the generator's"):
        convert.released(pfafn, warp)
    with pytest.raises(CheckpointError, match=r"neither RMGN's .* nor PF-AFN's"):
        convert.released(warp, warp)


class Payload:
    """Stands for code hidden in a pickle."""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no checkpoint", "is no PyTorch checkpoint, perhaps a web page that was saved instead"),
        (b"<!DOCTYPE html><html>", "is no PyTorch checkpoint, perhaps a web page that was saved instead"),
        (None, "does not exist"),
        (b"", "is cut short: it is empty$"),
        (b"\x80\x02}q\x00X\x05\x00", "is not a PyTorch checkpoint, or is cut short"),
        ([1, 2], "holds no state dict"),
        ({0: torch.zeros(1)}, "holds no state dict"),
        (Payload(), "is not loaded, since that could run code"),
    ],
    ids=["text", "web page", "absent", "empty", "cut pickle", "no dict", "numbered", "code"],
)
def test_bad_files_leave_one_sentence_and_no_output(
    content: object, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "warp.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    out = tmp_path / "out.safetensors"
    assert convert.main(["--warp", str(file), "--generator", str(file), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert "Traceback" not in error
    assert not out.exists()


def test_of_many_wrong_keys_the_first_are_listed(warp: State) -> None:
    with pytest.raises(CheckpointError) as error:
        convert.released(warp, {"generator.conv_final.weight": torch.zeros(3)})
    lines = str(error.value).splitlines()
    assert len(lines) == convert.SHOWN + 2
    assert lines[-1].strip().startswith("and ")
