"""What students and teachers see, and what they must give."""

import dataclasses
from types import ModuleType

import pytest
import torch

from kernels import flow_warp
from rmgn import RMGN
from rmgn.data.sample import Label, collate
from rmgn.teacher import PERSON_CHANNELS, ParserBased, describe_person
from rmgn.triplets import FakePersons, Taught, described, seen_person, true_pairs, worn_garment


@pytest.fixture
def batch(synthetic: ModuleType):  # type: ignore[no-untyped-def]
    return collate([synthetic.make_sample(0), synthetic.make_sample(1)])


def test_a_described_person_does_not_tell_what_it_wears(batch, synthetic: ModuleType) -> None:  # type: ignore[no-untyped-def]
    description = describe_person(batch)
    assert description.shape == (2, PERSON_CHANNELS, synthetic.SIZE, synthetic.SIZE)
    upper = (batch.parse == Label.UPPER)[:, None]
    assert upper.any()
    other_clothes = torch.where(upper, -batch.person, batch.person)
    assert torch.equal(describe_person(dataclasses.replace(batch, person=other_clothes)), description)


def test_description_equals_a_loop_over_pixels(batch) -> None:  # type: ignore[no-untyped-def]
    """Channels as PF-AFN's: head, other clothes, 25 parts, 18 squares; kept picture, arms."""
    # A left hand and a right one, and a part of a foot that the parse map takes for an arm.
    for y, x, arm, part_there in (
        (8, 40, Label.LEFT_ARM, 4),
        (33, 70, Label.RIGHT_ARM, 3),
        (50, 17, Label.LEFT_ARM, 5),
    ):
        batch.parse[0, y, x], batch.dense[0, y, x] = int(arm), part_there
    description = describe_person(batch)
    for y, x in [(0, 0), (8, 40), (33, 70), (95, 95), (50, 17)]:
        label, part = int(batch.parse[0, y, x]), int(batch.dense[0, y, x])
        head = label in (Label.HAIR, Label.HAT, Label.FACE)
        other = label in (6, 7, 8, 11, 12, 13, 14, 15)
        hand = label in (Label.LEFT_ARM, Label.RIGHT_ARM) and part in (3, 4)
        wanted = [float(head), float(other)] + [float(part == k) for k in range(25)]
        for px, py, seen in batch.keypoints[0].tolist():
            reach = 5 / 256 * 96 + 0.5
            near = abs(x + 0.5 - px) < reach and abs(y + 0.5 - py) < reach and seen > 0
            wanted.append(1.0 if near else -1.0)
        wanted += [v if head or other or hand else 0.0 for v in batch.person[0, :, y, x].tolist()]
        wanted.append(float(15 <= part <= 22))
        torch.testing.assert_close(description[0, :, y, x], torch.tensor(wanted))


def test_a_top_under_an_open_one_is_not_worn_as_the_garment(batch) -> None:  # type: ignore[no-untyped-def]
    """What a data set says of the garment itself comes before its labels, which may hold two tops."""
    upper = (batch.parse == Label.UPPER)[:, None].float()
    assert torch.equal(worn_garment(dataclasses.replace(batch, worn_mask=None))[1], upper)
    half = upper.clone()
    half[..., :48] = 0
    assert not torch.equal(half, upper)
    assert torch.equal(worn_garment(dataclasses.replace(batch, worn_mask=half))[1], half)


def test_bare_is_what_the_other_garment_changed_off_this_one(batch) -> None:  # type: ignore[no-untyped-def]
    other = batch.person.clone()
    other[..., 10:30, 20:40] = -other[..., 10:30, 20:40].sign() * 0.9
    (triplet,) = true_pairs(dataclasses.replace(batch, other_persons=other[:, None]))
    assert triplet.skin is not None
    free = batch.worn_mask[..., 12:28, 22:38] == 0
    assert free.any()
    assert (triplet.skin[..., 12:28, 22:38][free] == 1).all()
    assert (triplet.skin * batch.worn_mask).abs().max() == 0
    assert triplet.skin[..., 33:, :].abs().max() == 0, "nothing has changed there"


def test_fake_persons_are_what_the_teacher_makes(batch, synthetic: ModuleType) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    teacher = ParserBased(synthetic.TINY)
    made = list(FakePersons(teacher, 3)(batch))
    assert len(made) == 3
    person = describe_person(batch)
    for k, triplet in enumerate(made):
        with torch.no_grad():
            fake = teacher(person, batch.other_garments[:, k], batch.other_masks[:, k])
        assert torch.equal(triplet.person, fake.tryon)
        assert not triplet.person.requires_grad
        assert torch.equal(triplet.target, batch.person), "the person is the answer"
        assert triplet.skin is not None
        assert triplet.skin[batch.worn_mask > 0].abs().max() == 0
        bare = (batch.worn_mask == 0) & (fake.warped_mask > 0)
        assert torch.equal(triplet.skin[bare], fake.warped_mask[bare])
    assert not torch.equal(made[0].person, made[1].person)
    guide = made[0].guide
    assert guide is not None
    assert guide.error is not None
    with torch.no_grad():
        flow = teacher.estimate_flow(person, teacher.encode_garment(batch.garment, batch.garment_mask)).flows[
            -1
        ]
        off = flow_warp(batch.garment * batch.garment_mask, flow) - batch.person * batch.worn_mask
    torch.testing.assert_close(guide.error, off.abs().mean(dim=(1, 2, 3)))


def test_arms_under_the_new_garment_are_hidden_from_the_teacher(batch, synthetic: ModuleType) -> None:  # type: ignore[no-untyped-def]
    """Where the warped garment lies, the arms' channel must make no difference."""
    torch.manual_seed(0)
    teacher = ParserBased(synthetic.TINY).eval()
    person = describe_person(batch)
    everywhere = torch.ones_like(batch.garment_mask)
    flow = torch.zeros(2, 2, synthetic.SIZE, synthetic.SIZE)  # inside: the mask is 1 all over
    with torch.no_grad():
        one = teacher.generate(person, batch.garment, everywhere, flow)
        arms_gone = torch.cat([person[:, :-1], 1 - person[:, -1:]], dim=1)
        two = teacher.generate(arms_gone, batch.garment, everywhere, flow)
    assert torch.equal(one.tryon, two.tryon)


def test_a_taught_student_gets_the_teachers_own_result(batch, synthetic: ModuleType) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    teacher = RMGN(synthetic.TINY)
    (triplet,) = Taught(teacher)(batch)
    with torch.no_grad():
        result = teacher.eval()(batch.person, batch.other_garments[:, 0], batch.other_masks[:, 0])
    assert torch.equal(triplet.person, batch.person)
    assert torch.equal(triplet.target, result.tryon)
    assert torch.equal(triplet.worn, result.warped_garment)
    assert torch.equal(triplet.composite_mask, result.composite_mask)


def test_missing_truth_is_named(batch, synthetic: ModuleType) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="nobody in two garments: training the student needs --teacher"):
        next(true_pairs(batch))
    bare = dataclasses.replace(batch, parse=None, dense=None)
    with pytest.raises(ValueError, match="this data set has no parse, dense"):
        next(described(bare))
    with pytest.raises(ValueError, match="training needs pairs"):
        next(described(dataclasses.replace(batch, paired=False)))
    with pytest.raises(ValueError, match="fake triplets need 4 other garments"):
        next(FakePersons(ParserBased(synthetic.TINY), 4)(batch))
    (triplet,) = described(batch)
    assert seen_person(triplet).shape == batch.person.shape
