"""Where the frame gives way, and in which colours."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.colours import anchor_colours, continue_wall
from runtime.matte import as_composed, fade_inner_edges, matte, show_through

HEIGHT, WIDTH = 64, 48  # of the network's picture


def test_matte_is_zero_where_nothing_changed_and_one_where_the_garment_is() -> None:
    person = np.zeros((1, 3, HEIGHT, WIDTH), np.float32)
    tryon, mask = person + 0.03, np.zeros((1, 1, HEIGHT, WIDTH), np.float32)
    assert matte(person, tryon, tryon, mask).max() == 0
    tryon[..., 20:30, 20:30] = 1
    mask[..., 30:50, 10:22] = 1
    tryon[..., 54:60, 38:42] = 1  # a spot that touches no garment
    result = matte(person, tryon, tryon, mask)
    assert result[..., 21:29, 21:29].min() > 0.99
    assert result[..., 30:50, 10:22].min() == 1
    assert result[..., 50:, 34:].max() < 0.01
    assert result[..., :8, :].max() == 0


def test_matte_keeps_what_was_only_drawn_softer() -> None:
    """A fine pattern of which the network gives the mean, right up to the garment."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    person = np.broadcast_to(np.where((x // 2 + y // 2) % 2 > 0, 0.8, -0.8), (1, 3, HEIGHT, WIDTH))
    person = person.astype(np.float32)
    mask = np.zeros((1, 1, HEIGHT, WIDTH), np.float32)
    mask[..., :20, :] = 1
    drawn = np.zeros_like(person)
    result = matte(person, drawn, np.where(mask > 0, 0.9, drawn), mask)
    assert result[..., :20, :].min() == 1
    assert result[..., 22:, 8:-8].max() < 0.05


def test_matte_takes_away_what_is_left_of_the_old_garment_beside_the_new_one() -> None:
    """A line that it had there, too thin to count in the mean; farther away it may be anybody's."""
    person = np.zeros((1, 3, HEIGHT, WIDTH), np.float32)
    person[..., 20, :] = person[..., 40, :] = 0.5
    mask = np.zeros((1, 1, HEIGHT, WIDTH), np.float32)
    mask[..., :20, :] = 1
    drawn = np.zeros_like(person)
    result = matte(person, drawn, np.where(mask > 0, 0.9, drawn), mask)
    assert result[..., 20, 8:-8].min() > 0.9
    assert result[..., 38:43, :].max() < 0.05


@pytest.mark.parametrize("most", [1.0, 1.002])
def test_matte_of_a_garment_all_over_is_finite(most: float) -> None:
    """Also where rounding makes the mask a little larger than 1."""
    person = np.zeros((1, 3, HEIGHT, WIDTH), np.float32)
    mask = np.full((1, 1, HEIGHT, WIDTH), most, np.float32)
    np.testing.assert_allclose(matte(person, person, person + 0.9, mask), most)


@pytest.mark.parametrize("weight", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_as_composed_has_the_composites_firm_mask(weight: float) -> None:
    """firm(w) of the garment's share and none of its haze; so the matte leaves what little of it is left."""
    drawn, garment = (np.full((1, 3, HEIGHT, WIDTH), value, np.float32) for value in (-0.5, 0.7))
    mask = np.full((1, 1, HEIGHT, WIDTH), weight, np.float32)
    firm = weight**3 / (weight**3 + (1 - weight) ** 3)
    tryon = mask * garment + (1 - mask) * drawn
    composed = as_composed(drawn, tryon, mask)
    np.testing.assert_allclose(composed, firm * garment + (1 - firm) * drawn, atol=1e-6)
    assert composed.dtype == np.float32
    changed = matte(drawn, drawn, tryon, mask)
    if weight <= 0.2:
        np.testing.assert_allclose(changed, weight, atol=1e-6)


def test_colours_are_anchored_to_the_camera() -> None:
    """A cast goes, under what is new as well; new things stay new, and so does what is right."""
    rng = np.random.default_rng(3)
    height, width = 256, 192
    noise = rng.uniform(-0.8, 0.6, (height, width, 3))
    person = np.asarray(cv2.GaussianBlur(noise, (0, 0), 4), np.float32)
    new, worn = person.copy(), np.zeros((1, 1, height, width), np.float32)
    new[100:140, 40:60] += 0.9  # skin where a sleeve was
    worn[..., 120:220, 70:130] = 1

    def planes(picture: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32)

    cast = np.linspace(0.05, 0.18, width, dtype=np.float32)[None, :, None] * np.array(
        [1, -0.5, 0.3], np.float32
    )
    anchored = anchor_colours(planes(person), planes(new + cast), worn)
    np.testing.assert_allclose(anchored, planes(new), atol=0.03)
    right = anchor_colours(planes(person), planes(new), worn)
    np.testing.assert_allclose(right, planes(new), atol=0.01)


def test_more_of_a_plain_wall_has_its_colour() -> None:
    """The rim that a wide sleeve leaves beside an arm; neither the arm nor a varied room changes."""
    wall = np.array([0.5, 0.4, 0.3], np.float32).reshape(1, 3, 1, 1)
    person = np.broadcast_to(wall, (1, 3, HEIGHT, WIDTH)).copy()
    person[..., 14:34] = -0.9  # a wide sleeve
    drawn = person.copy()
    drawn[..., 14:34] = wall + 0.08  # paler
    drawn[..., 20:28] = np.array([0.3, -0.1, -0.3], np.float32).reshape(1, 3, 1, 1)  # the arm
    matte = np.zeros((1, 1, HEIGHT, WIDTH), np.float32)
    matte[..., 13:35] = 1
    result = continue_wall(person, drawn, matte)
    for rim in (np.s_[..., 14:20], np.s_[..., 28:34]):
        assert np.abs(result[rim] - wall).max() < 0.01
    np.testing.assert_allclose(result[..., 20:28], drawn[..., 20:28], atol=1e-6)
    np.testing.assert_allclose(result[..., :14], drawn[..., :14], atol=1e-3)
    room = person + np.random.default_rng(0).choice([-0.3, 0.3], (1, 1, HEIGHT, WIDTH)).astype(np.float32)
    np.testing.assert_allclose(continue_wall(room, drawn, matte), drawn, atol=0.01)
    np.testing.assert_array_equal(continue_wall(person, drawn, np.ones_like(matte)), drawn)


def test_matte_fades_at_inner_edges_alone() -> None:
    ones = np.ones((1, 1, HEIGHT, WIDTH), np.float32)
    # The crop touches the frame's top and bottom and lies inside it on the left and right.
    faded = fade_inner_edges(ones, (100, 0, 360, 480), 480, 640)
    assert (faded[..., 0] == 0).all()
    assert (faded[..., -1] == 0).all()
    assert (faded[..., 8:-8] == 1).all()
    np.testing.assert_array_equal(fade_inner_edges(ones, (-1, -1, 400, 500), 480, 320), ones)
    faded = fade_inner_edges(ones, (0, 40, 320, 400), 480, 320)  # and above and below
    assert (faded[..., 0, :] == 0).all()
    assert (faded[..., -1, :] == 0).all()
    assert (faded[..., 8:-8, :] == 1).all()


def test_show_through_takes_the_outline_out_of_the_composite_mask() -> None:
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    flow = np.stack([(2 * x + 1) / WIDTH - 1, (2 * y + 1) / HEIGHT - 1])[None].astype(np.float32)
    garment = np.zeros((1, 1, HEIGHT, WIDTH), np.float32)
    garment[..., 10:40, 10:30] = 1
    weight = show_through(0.92 * garment, garment, flow)
    np.testing.assert_allclose(weight, 0.92, atol=0.01)
    unsure = show_through(0.7 * garment, garment, flow)
    odds = (0.7 / 0.3) ** 1.5
    np.testing.assert_allclose(unsure, odds / (1 + odds), atol=0.01, err_msg="1.5 times the log-odds")
    nowhere = show_through(0.7 * garment, 0 * garment, flow)
    assert not nowhere.any()


def test_show_through_is_carried_on_from_the_nearest_of_the_garment() -> None:
    """To the right of a garment that is half hidden below, all the way: its outline may lie anywhere."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    flow = np.stack([(2 * x + 1) / WIDTH - 1, (2 * y + 1) / HEIGHT - 1])[None].astype(np.float32)
    garment = (x < 24)[None, None].astype(np.float32)
    weight = show_through(garment * np.where(y < 32, 1, 0.08), garment, flow)[0, 0]
    np.testing.assert_allclose(weight[:28], 1, atol=0.01)
    np.testing.assert_allclose(weight[36:], 0.08, atol=0.01)


def test_show_through_closes_small_holes() -> None:
    """Such as a line of an old print, or a spot; a hand stays, and what is thin and open to the outside."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    flow = np.stack([(2 * x + 1) / WIDTH - 1, (2 * y + 1) / HEIGHT - 1])[None].astype(np.float32)
    garment = np.zeros((1, 1, HEIGHT, WIDTH), np.float32)
    garment[..., 2:62, 2:46] = 1
    worn = garment.copy()
    worn[..., 20:23, 12:36] = 0  # a bar
    worn[..., 34:46, 18:28] = 0  # a hand
    worn[..., 52:57, 4:10] = 0  # a spot, not deep inside
    worn[..., 51:58, 37:44] = 0  # a little more than an eightieth
    worn[..., 0:12, 18:27] = 0  # hair
    weight = show_through(worn, garment, flow)[0, 0]
    assert weight[20:23, 12:36].min() > 0.95
    assert weight[38:42, 21:25].max() < 0.05
    assert weight[52:57, 4:10].min() > 0.95
    assert weight[53:56, 39:42].max() < 0.1
    assert weight[4:9, 21:24].max() < 0.05


def test_what_shows_of_a_hidden_garment_keeps_its_weight() -> None:
    """Less of it than a hole may be; it is no hole."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    flow = np.stack([(2 * x + 1) / WIDTH - 1, (2 * y + 1) / HEIGHT - 1])[None].astype(np.float32)
    garment = np.zeros((1, 1, HEIGHT, WIDTH), np.float32)
    garment[..., 2:62, 2:46] = 1
    worn = 0.02 * garment
    worn[..., 30:35, 22:27] = 0.7
    assert show_through(worn, garment, flow)[0, 0, 30:35, 22:27].max() < 0.8


def test_show_through_evens_out_what_wavers_and_keeps_edges_in_place() -> None:
    """As hems do, of which a network is unsure: from pixel to pixel the mask goes up and down."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    flow = np.stack([(2 * x + 1) / WIDTH - 1, (2 * y + 1) / HEIGHT - 1])[None].astype(np.float32)
    garment = np.ones((1, 1, HEIGHT, WIDTH), np.float32)
    wavering = np.where((x + y) % 2 > 0, 0.9, 0.5)[None, None].astype(np.float32)
    assert np.ptp(show_through(wavering, garment, flow)[..., 5:-5, 5:-5]) < 0.01
    edge = (y < 20)[None, None].astype(np.float32)
    column = show_through(edge, garment, flow)[0, 0, :, 20]
    assert column[19] > 0.6
    assert column[20] < 0.4
    assert column[17] > 0.98, "no wider than needed where the network is sure"
    # A hem between two and seven tenths of which the network is unsure over twelve pixels is a straight line.
    unsure = np.clip(0.7 - (y - 20) / 24, 0.2, 0.7) + 0.25 * np.sin(2 * np.pi * x / 6) * (np.abs(y - 26) < 6)
    line = show_through(unsure[None, None].astype(np.float32), garment, flow)[0, 0, :, 8:-8]
    assert np.ptp((line > 0.5).sum(axis=0)) <= 2
