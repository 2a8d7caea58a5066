"""Scores of contenders: means over people, and what is compared with what."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("torchmetrics", reason="evaluation needs torchmetrics (pip install 'rmgn[evaluate]')")

from rmgn.contenders import Answer, Copy
from rmgn.data.files import quantise
from rmgn.gallery import Entry, contact_sheet
from rmgn.metrics import LpipsLite0, SetComparison, endpoint_error
from rmgn.perceptual import EfficientNetLite0
from rmgn.report import markdown, table, trials_csv
from rmgn.scores import Mean, Row, Scorer, Scores, compared_pictures, mean_of
from rmgn.trials import DataError, Groups, Question, Trial


class Colours:
    """The mean colour as features."""

    suffix, width = "-colours", 3

    def __call__(self, pictures: Tensor) -> Tensor:
        return pictures.float().mean(dim=(2, 3)) / 255


def row(subject: str, garment: str, value: float, groups: Groups) -> Row:
    question = Question(f"{subject}_{garment}", subject, subject, garment)
    return Row("paired", question, groups, {"SSIM": value})


def test_intervals_count_people_not_pictures() -> None:
    found = mean_of([1, 3, 5, 7, math.nan], ["p", "p", "q", "q", "r"])
    assert found is not None
    assert (found.mean, found.subjects) == (4, 2)  # of people with means 2 and 6
    assert found.ci95 == pytest.approx(12.7062 * math.sqrt(8) / math.sqrt(2)), "t of one degree of freedom"
    assert mean_of([math.nan], ["p"]) is None
    assert mean_of([1, 3], ["p", "p"]) == Mean(2, None, 1)


def test_differences_are_of_the_same_try_ons() -> None:
    """People differ by far more than the contenders do; their own differences are 0.01, 0.03 and 0.02."""
    first = Scores("first", "", rows=[row(p, "a", v, {}) for p, v in (("0", 0.2), ("1", 0.5), ("2", 0.8))])
    other = Scores("other", "", rows=[row(p, "a", v, {}) for p, v in (("2", 0.82), ("0", 0.21), ("1", 0.53))])
    other.rows.append(row("3", "a", 0.1, {}))  # which the first did not answer
    found = other.difference(first, "SSIM")
    assert found is not None
    assert found.mean == pytest.approx(0.02)
    assert found.subjects == 3
    assert found.ci95 == pytest.approx(4.3027 * 0.01 / math.sqrt(3), rel=1e-4)
    assert other.difference(first, "PSNR") is None
    text = markdown("data", (256, 192), {"paired": 3}, [first, other], "Evaluation")
    assert "## Difference from first\n\n| Method | SSIM ↑ |\n|---|---|\n| other | +0.0200 ± 0.0248 |" in text
    assert "Difference" not in markdown("data", (256, 192), {"paired": 3}, [first], "Evaluation")
    assert first.to_json(first)["difference"] == {}
    assert other.to_json(first)["difference"]["SSIM"]["subjects"] == 3


def test_what_could_not_be_measured_and_names_with_bars_leave_the_table_whole() -> None:
    """Of garments of which nothing is visible there is no flow error."""
    rows = [row(p, "a", 0.5, {}) for p in "01"]
    for each in rows:
        each.values["EPE"] = math.nan
    text = markdown("d|x", (256, 192), {"paired": 2}, [Scores("a|b", "", rows=rows)], "Evaluation")
    assert "| a\\|b | 0.5000 ± 0.0000 | – |" in text
    assert "| d\\|x | a\\|b (here) |" in text


def test_every_trial_is_a_line() -> None:
    rows = [
        Row("paired", Question("0_a", "0", "0_b", "0_a"), {}, {"SSIM": 0.5, "EPE": math.nan}),
        Row("unpaired", Question("0_a_1_a", "0", "0_a", "1,a"), {}, {}),
    ]
    assert trials_csv([Scores("A, B", "", rows=rows)]).splitlines() == [
        "contender,setting,trial,subject,person,garment,SSIM,EPE",
        '"A, B",paired,0_a,0,0_b,0_a,0.5,',
        '"A, B",unpaired,0_a_1_a,0,0_a,"1,a",,',
    ]


def test_group_means() -> None:
    rows = [
        row("0", "a", 0.9, {"skin tone": "light"}),
        row("1", "a", 0.7, {"skin tone": "dark"}),
        row("2", "a", 0.5, {"skin tone": "dark"}),
        Row("unpaired", Question("3_a", "3", "3", "a"), {"skin tone": "tan"}, {}),
    ]
    scores = Scores("x", "y", rows=rows)
    assert scores.groups() == {"skin tone": ["light", "dark"]}
    dark = scores.mean("SSIM", "skin tone", "dark")
    assert dark is not None
    assert dark.mean == pytest.approx(0.6)
    assert table([["a", "b"], ["1", "2"]]) == "| a | b |\n|---|---|\n| 1 | 2 |"


def test_a_person_of_many_trials_is_one_photo() -> None:
    """Lists of pairs ask one person for several garments, in one batch and in different ones."""
    photos, tryons = torch.rand(2, 6, 3, 8, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1
    scorer = Scorer([Copy(), Copy()], LpipsLite0(EfficientNetLite0()), Colours())
    whole = SetComparison(3)
    whole.add(Colours()(quantise(photos[:4])), real=True)
    people = (0, 1, 1, 2, 0, 3)
    for batch in ((0, 1, 2), (3, 4, 5)):
        person = photos[[people[n] for n in batch]]
        questions = tuple(Question(f"{people[n]}_{n}", str(people[n]), str(people[n]), str(n)) for n in batch)
        trial = Trial("unpaired", questions, ({},) * 3, person, person, person[:, :1])
        answer = Answer(tryons[list(batch)])
        scorer.add(trial, [answer, answer])
        whole.add(Colours()(quantise(answer.tryon)), real=False)
    wanted = whole.compute()
    assert wanted is not None
    first, second = scorer.finish()
    assert first.sets == second.sets == {"FID-colours": wanted.fid, "KID-colours": wanted.kid}
    assert compared_pictures([first]) == 4, "the smaller set, of photos, is told"


def test_what_is_not_finite_makes_nobody_better() -> None:
    """As of half precision that overflows: left out of a mean it would be the best answer."""
    person = torch.zeros(2, 3, 8, 6)
    questions = tuple(Question(str(n), str(n), str(n), str(n)) for n in range(2))
    visible = torch.zeros(2, 1, 8, 6)
    visible[:, :, 2:4] = 1
    truth = torch.zeros(2, 2, 8, 6)
    trial = Trial("paired", questions, ({},) * 2, person, person, person[:, :1], person, None, truth, visible)
    scorer = Scorer([Copy(), Copy()], LpipsLite0(EfficientNetLite0()), Colours())
    flow = torch.full((2, 2, 8, 6), 0.1)
    flow[1, :, 6] = math.inf  # of what nobody sees
    good = Answer(person, flow)
    first, second = scorer.add(trial, [good, good])
    assert first[0]["EPE"] == first[1]["EPE"] == second[1]["EPE"] == pytest.approx(math.hypot(9.6, 12.8))
    assert endpoint_error(
        flow, truth, visible * torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)
    ).isnan().tolist() == [
        False,
        True,
    ]
    broken_flow, broken = flow.clone(), person.clone()
    broken_flow[1, 0, 3, 2] = math.nan
    broken[1, 0, 0, 0] = math.nan
    for answer, what in (
        (Answer(person, broken_flow), "a flow"),
        (Answer(broken, flow), "a picture"),
    ):
        with pytest.raises(DataError, match=f"{Copy.name} answers 1 with {what} that is not finite"):
            scorer.add(trial, [good, answer])
    assert [len(scores.rows) for scores in scorer.finish()] == [2, 2], "none has more rows than the other"


def test_the_best_of_each_measure_is_bold() -> None:
    """Of FID and KID not the person unchanged, who is her own photo."""
    names = ("ours", "theirs", Copy.name)
    values = ((0.8, 20.0), (0.7, 25.0), (0.6, 0.0))
    scores = [
        Scores(name, "", rows=[row("p", "a", ssim, {})], sets={"FID": fid})
        for name, (ssim, fid) in zip(names, values, strict=True)
    ]

    def report(pictures: int, measured: str = "FID") -> str:
        people = [Question(str(n), str(n), str(n), "x") for n in range(pictures)]
        unpaired = [Row("unpaired", person, {}, {}) for person in people]
        asked = [replace(s, rows=s.rows + unpaired, sets={measured: s.sets["FID"]}) for s in scores]
        return markdown("VITON", (256, 192), {"paired": 1, "unpaired": pictures}, asked, "Evaluation")

    text = report(2000)
    assert "| ours | **0.8000** | **20.00** |" in text
    assert "| theirs | 0.7000 | 25.00 |" in text
    assert f"| {Copy.name} | 0.6000 | 0.00 |" in text
    assert "| VITON | ours (here) | 20.00 | – |" in text, "beside what was published"
    assert "read KID" not in text
    assert "read KID" in report(1999)
    assert "say little" not in report(50)
    assert "Of 49 pictures, both say little" in report(49)
    assert "needs InceptionV3" not in text
    assert "needs InceptionV3" in report(2000, "FID-lite0")


def test_a_sheet_ends_where_jpeg_does() -> None:
    pictures = [np.full((512, 384, 3), 90, np.uint8)] * 5
    sheet = contact_sheet([Entry(str(n), "paired", pictures) for n in range(140)], ["a"] * 5)
    assert 64000 < sheet.shape[0] < 65500
    assert sheet.shape[1] == 5 * 384
