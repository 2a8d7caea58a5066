"""Fake triplets (section 3): what a student sees, wears and must give, made of a batch of samples.

Every stage of training minimises the same losses on triplets of its own kind:

    true pairs       the person in another garment            -> the person in this one
    fake persons     a teacher dresses the person in others   -> the person, equation (9)
    described        parse map, body parts, pose of a person  -> the person: trains the teacher
    taught           a person and any garment                 -> what a larger network makes of them
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import flow_warp
from rmgn import losses
from rmgn.data.sample import Label, Sample, mask_of
from rmgn.model import RMGN
from rmgn.teacher import WARP_CHANNELS, ParserBased, describe_person


class Guide(NamedTuple):
    """What a teacher makes of a triplet, for the distillation loss; coarsest level first."""

    pyramid: tuple[Tensor, ...]  # person features [B, C, h, w]
    flows: tuple[Tensor, ...]  # [B, 2, 2h, 2w]
    error: Tensor | None  # [B], of the teacher's warped garment; None: always follow it


class Triplet(NamedTuple):
    """(P̃, I_t, P). Pictures [B, 3, H, W] in [-1, 1], masks [B, 1, H, W] in [0, 1]."""

    person: Tensor  # P̃, or [B, C, H, W] a described person
    garment: Tensor  # I_t, shop photo
    mask: Tensor  # of the garment, 0 or 1
    target: Tensor  # P
    worn: Tensor  # the garment as the warp module should give it, 0 around it
    worn_mask: Tensor  # where `worn` shows it
    composite_mask: Tensor  # where `target` shows it
    flow: Tensor | None = None  # [B, 2, H, W] true sampling grid, where the data know it
    visible: Tensor | None = None  # where `flow` is true
    skin: Tensor | None = None  # what P̃'s garment hid and P leaves bare; of pairs, all it changed there
    guide: Guide | None = None
    inside: Tensor | None = None  # 0 where the target repeats its border, which is no truth

    def shown(self, x: Tensor) -> Tensor:
        """Maps [B, C, h, w], zero where there is no truth: what is equal there costs nothing."""
        return x if self.inside is None else x * F.interpolate(self.inside, x.shape[-2:], mode="area")


Maker = Callable[[Sample], Iterator[Triplet]]


def worn_garment(sample: Sample) -> tuple[Tensor, Tensor]:
    """The garment cut from the person, and its mask [B, 1, H, W]: the parse map's where there is no better.

    Raises ValueError where the data set has neither.
    """
    mask = sample.worn_mask
    if mask is None:
        if sample.parse is None:
            raise ValueError("this data set shows nowhere what the person wears: it has no parse maps")
        mask = mask_of(sample.parse, [Label.UPPER])
    return sample.person * mask, mask


def _answer(sample: Sample, person: Tensor) -> Triplet:
    """The triplet whose answer is the sample's person."""
    if not sample.paired:
        raise ValueError("training needs pairs of a person and the garment that she wears")
    worn, worn_mask = worn_garment(sample)
    return Triplet(
        person, sample.garment, sample.garment_mask, sample.person, worn, worn_mask, worn_mask, sample.flow,
        sample.visible, inside=sample.inside,
    )  # fmt: skip


def true_pairs(sample: Sample) -> Iterator[Triplet]:
    """The same person in another garment, as the data set shows it.

    Bare is all that the other garment changed and this one does not cover: skin, other clothes, shadows.
    """
    if sample.other_persons is None:
        raise ValueError("this data set shows nobody in two garments: training the student needs --teacher")
    answer = _answer(sample, sample.other_persons[:, 0])
    changed = 1 - losses.agreement(answer.person, answer.target)
    yield answer._replace(skin=changed * (1 - answer.worn_mask))


def described(sample: Sample) -> Iterator[Triplet]:
    """The person by parse map, body parts and pose alone."""
    yield _answer(sample, describe_person(sample))


def seen_person(triplet: Triplet) -> Tensor:
    """RGB [B, 3, H, W] of what the network sees of the person."""
    person = triplet.person
    return person if person.shape[1] == 3 else person[:, WARP_CHANNELS : WARP_CHANNELS + 3]


class FakePersons:
    """A set of fake persons of one posture in `count` other garments, one at a time to spare memory."""

    def __init__(self, teacher: ParserBased, count: int) -> None:
        self.teacher, self.count = teacher.eval().requires_grad_(False), count

    @torch.no_grad()
    def __call__(self, sample: Sample) -> Iterator[Triplet]:
        garments, masks = sample.other_garments, sample.other_masks
        if garments is None or masks is None or garments.shape[1] < self.count:
            raise ValueError(f"fake triplets need {self.count} other garments a sample")
        person = describe_person(sample)
        answer = _answer(sample, person)
        flows = self.teacher.estimate_flow(person, self.teacher.encode_garment(answer.garment, answer.mask))
        warped = flow_warp(answer.garment * answer.mask, flows.flows[-1])
        error = answer.shown(warped - answer.worn).abs().mean(dim=(1, 2, 3))
        guide = Guide(tuple(flows.person), tuple(flows.flows), error)
        for k in range(self.count):
            fake = self.teacher(person, garments[:, k], masks[:, k])
            skin = losses.exposed_skin(fake.warped_mask, answer.worn_mask)
            yield answer._replace(person=fake.tryon, skin=skin, guide=guide)


class Taught:
    """What a trained parser-free network makes of a person and a garment that she does not wear."""

    def __init__(self, teacher: RMGN) -> None:
        self.teacher = teacher.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, sample: Sample) -> Iterator[Triplet]:
        if sample.other_persons is not None:  # then the true flow is known as well
            person, garment, mask = sample.other_persons[:, 0], sample.garment, sample.garment_mask
            flow, visible = sample.flow, sample.visible
        elif sample.other_garments is not None and sample.other_masks is not None:
            person, garment, mask = sample.person, sample.other_garments[:, 0], sample.other_masks[:, 0]
            flow = visible = None
        else:
            raise ValueError("distillation needs another garment a sample")
        flows = self.teacher.estimate_flow(person, self.teacher.encode_garment(garment, mask))
        seen = self.teacher.generate(person, garment, mask, flows.flows[-1])
        yield Triplet(
            person,
            garment,
            mask,
            target=seen.tryon,
            worn=seen.warped_garment,
            worn_mask=seen.warped_mask,
            composite_mask=seen.composite_mask,
            flow=flow,
            visible=visible,
            guide=Guide(tuple(flows.person), tuple(flows.flows), None),
            inside=sample.inside,
        )
