"""The user study: made, answered by the page's own script, counted."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torchmetrics", reason="evaluation needs torchmetrics (pip install 'rmgn[evaluate]')")

from rmgn.experiments.table2 import StudyError, count_votes, main, person_interval, vote_interval, write_study

TRIALS = [f"{n:06d}_a" for n in range(6)]


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """What `rmgn.evaluate --keep` leaves: pictures of a colour that tells the system."""
    folder = tmp_path / "report"
    colours = {"results/ours": 200, "results/PF-AFN": 100, "inputs/person": 50, "inputs/garment": 20}
    for part, level in colours.items():
        (folder / part / "unpaired").mkdir(parents=True)
        for trial in TRIALS:
            cv2.imwrite(str(folder / part / "unpaired" / f"{trial}.png"), np.full((8, 6, 3), level, np.uint8))
    content = {
        "data": "eval-256",
        "kept": {name: f"results/{name}" for name in ("ours", "PF-AFN")},
        "contenders": [{"trials": [{"name": trial, "setting": "unpaired"} for trial in TRIALS]}],
    }
    (folder / "report.json").write_text(json.dumps(content))
    return folder


def ballot(study: Path, participant: str, for_ours: int) -> Path:
    """Votes of one person, the first `for_ours` of them for ours."""
    key = json.loads((study / "key.json").read_text())
    votes = []
    for n, (question, asked) in enumerate(key["questions"].items()):
        ours = "a" if asked["a"] == "ours" else "b"
        other = {"a": "b", "b": "a"}[ours]
        votes.append({"question": question, "chosen": ours if n < for_ours else other})
    file = study.parent / f"{participant}.json"
    file.write_text(json.dumps({"study": key["id"], "participant": participant, "votes": votes}))
    return file


def test_pictures_do_not_tell_whose_they_are(report: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    assert write_study(report, "ours", ["PF-AFN"], study, 4, "unpaired", seed=3) == 4
    page = (study / "index.html").read_text()
    assert "PF-AFN" not in page
    assert "ours" not in page
    key = json.loads((study / "key.json").read_text())
    for name, asked in key["questions"].items():
        for side in "ab":
            picture = cv2.imread(str(study / "pictures" / f"{name}_{side}.png"))
            assert picture is not None
            assert picture[0, 0, 0] == (200 if asked[side] == "ours" else 100)
    assert len({asked["trial"] for asked in key["questions"].values()}) == 4


def test_pictures_of_another_evaluation_are_not_shown(report: Path, tmp_path: Path) -> None:
    for part in ("results/ours", "results/PF-AFN", "inputs/person", "inputs/garment"):
        folder = report / part / "unpaired"
        shutil.copy(folder / f"{TRIALS[0]}.png", folder / "older.png")
    assert write_study(report, "ours", ["PF-AFN"], tmp_path / "study", 99, "unpaired", seed=0) == len(TRIALS)
    key = json.loads((tmp_path / "study" / "key.json").read_text())
    assert {asked["trial"] for asked in key["questions"].values()} == set(TRIALS)
    write_study(report, "ours", ["PF-AFN"], tmp_path / "other", 99, "unpaired", seed=1)
    other = json.loads((tmp_path / "other" / "key.json").read_text())
    firsts = {asked["a"] for made in (key, other) for asked in made["questions"].values()}
    assert firsts == {"ours", "PF-AFN"}, "no side tells"


@pytest.mark.parametrize("damage", ["{", "[]", '{"id": "x"}', None])
def test_a_damaged_key_is_one_line(
    damage: str | None, report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "study"
    write_study(report, "ours", ["PF-AFN"], study, 6, "unpaired", seed=0)
    votes = ballot(study, "p", 3)
    key = study / "key.json"
    key.write_text(key.read_text().replace('"PF-AFN"', '"x"', 1) if damage is None else damage)
    assert main(["count", str(study), str(votes)]) == 2
    assert f"{key} is damaged" in capsys.readouterr().err


def take_part(study: Path, kept: dict[str, str] | None, limit: int, missing: str = "") -> dict[str, Any]:
    """Up to `limit` votes for the pictures a, in a browser that has kept this."""
    script = Path(__file__).with_name("study_participant.js")
    command = [
        "node",
        str(script),
        str(study / "index.html"),
        "_a.png",
        json.dumps(kept),
        str(limit),
        missing,
    ]
    told: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return told


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to run the page's script")
def test_page_shuffles_and_saves_votes_that_count(report: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    write_study(report, "ours", ["PF-AFN"], study, 6, "unpaired", seed=0)
    files, orders, sides = [], [], set()
    for n in range(4):
        left_off = take_part(study, {}, 2)
        assert left_off["votes"] is None
        told = take_part(study, left_off["kept"], 99)
        votes = told["votes"]
        assert len(told["shown"]) == 4, "a closed page goes on where it was"
        assert told["next"] == [True, False], "the next participant waits until these votes are saved"
        assert told["again"]["votes"] == []
        assert told["again"]["participant"] != votes["participant"]
        assert {v["chosen"] for v in votes["votes"]} == {"a"}
        for vote, shown in zip(votes["votes"], [*left_off["shown"], *told["shown"]], strict=True):
            assert shown[vote["side"] == "right"] == f"pictures/{vote['question']}_a.png"
        orders.append([v["question"] for v in votes["votes"]])
        sides |= {v["side"] for v in votes["votes"]}
        file = tmp_path / f"votes{n}.json"
        file.write_text(json.dumps(votes))
        files.append(file)
    assert all(sorted(order) == [f"q{n:04d}" for n in range(6)] for order in orders)
    assert len({tuple(order) for order in orders}) > 1
    assert sides == {"left", "right"}
    key, (tally,) = count_votes(study, files)
    first_is_ours = sum(asked["a"] == "ours" for asked in key["questions"].values())
    assert (tally.ours, tally.votes, len(tally.by_person)) == (4 * first_is_ours, 24, 4)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to run the page's script")
def test_nobody_votes_on_what_is_not_to_be_seen(report: Path, tmp_path: Path) -> None:
    """As where the page is opened from within an archive."""
    study = tmp_path / "study"
    write_study(report, "ours", ["PF-AFN"], study, 6, "unpaired", seed=0)
    for missing in ("_person.png", "_b.png"):
        told = take_part(study, {}, 9, missing)
        assert json.loads(next(iter(told["kept"].values())))["votes"] == []
        assert "A picture is missing. Unpack the whole folder" in told["told"]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to run the page's script")
def test_a_browser_that_keeps_nothing_takes_part(report: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    write_study(report, "ours", ["PF-AFN"], study, 6, "unpaired", seed=0)
    assert len(take_part(study, None, 99)["votes"]["votes"]) == 6


@pytest.mark.parametrize("place", [".", "link", "new/below"])
def test_a_study_may_be_written_anywhere(
    place: str, report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "link").symlink_to(empty, target_is_directory=True)
    monkeypatch.chdir(empty if place == "." else tmp_path)
    assert write_study(report, "ours", ["PF-AFN"], Path(place), 6, "unpaired", seed=0) == 6
    assert sorted(path.name for path in Path(place).iterdir()) == ["index.html", "key.json", "pictures"]
    assert len(list((Path(place) / "pictures").iterdir())) == 4 * 6


def test_baselines_are_counted_apart(report: Path, tmp_path: Path) -> None:
    content = json.loads((report / "report.json").read_text())
    content["kept"]["ACGPN"] = "results/ACGPN"
    (report / "report.json").write_text(json.dumps(content))
    shutil.copytree(report / "results" / "PF-AFN", report / "results" / "ACGPN")
    study = tmp_path / "study"
    assert write_study(report, "ours", ["PF-AFN", "ACGPN"], study, 4, "unpaired", seed=0) == 8
    votes = [ballot(study, "p", 5), ballot(study, "q", 4), ballot(study, "r", 8)]
    for file in votes[1:]:  # as a browser does, in another order
        changed = json.loads(file.read_text())
        changed["votes"].reverse()
        file.write_text(json.dumps(changed))
    _, tallies = count_votes(study, votes)
    assert [(tally.baseline, tally.ours, tally.votes) for tally in tallies] == [
        ("PF-AFN", 12, 12),
        ("ACGPN", 5, 12),
    ]
    assert tallies[1].by_person == (0.25, 0.0, 1.0)


def test_other_pictures_are_another_study(report: Path, tmp_path: Path) -> None:
    """As when ours was trained on: votes on the old pictures do not count for the new ones."""
    old, new = tmp_path / "old", tmp_path / "new"
    write_study(report, "ours", ["PF-AFN"], old, 6, "unpaired", seed=0)
    picture = report / "results" / "ours" / "unpaired" / f"{TRIALS[0]}.png"
    cv2.imwrite(str(picture), np.full((8, 6, 3), 210, np.uint8))
    write_study(report, "ours", ["PF-AFN"], new, 6, "unpaired", seed=0)
    with pytest.raises(StudyError, match="belongs to another study"):
        count_votes(new, [ballot(old, "p", 3)])


def test_a_study_is_whole_or_not_there(report: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    inputs = report / "inputs" / "garment" / "unpaired" / f"{TRIALS[-1]}.png"
    away = inputs.rename(tmp_path / "away.png")
    with pytest.raises(StudyError, match="missing or no picture"):
        write_study(report, "ours", ["PF-AFN"], study, 6, "unpaired", seed=0)
    away.rename(inputs)
    for content, message in (("{", "no finished evaluation"), ("{}", "^[^:]* is of an older version")):
        (report / "report.json").write_text(content)
        with pytest.raises(StudyError, match=message):
            write_study(report, "ours", ["PF-AFN"], study, 6, "unpaired", seed=0)
    with pytest.raises(StudyError, match="own baseline"):
        write_study(report, "ours", ["ours"], study, 6, "unpaired", seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_table(report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "study"
    write_study(report, "ours", ["PF-AFN"], study, 6, "unpaired", seed=0)
    files = [ballot(study, "p", 6), ballot(study, "q", 3)]
    assert main(["count", str(study), *map(str, files)]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if "(here)" in x)
    assert "| 8 |" in line, "the height of what was shown"
    assert line.endswith("| 12 | 2 |")
    # Wilson's interval of 9 in 12 by its formula.
    z, n, p = 1.959964, 12, 0.75
    middle, half = (p + z * z / (2 * n)) / (1 + z * z / n), z / (1 + z * z / n)
    half *= (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    assert f"25.0% / 75.0% | {100 * (middle - half):.1f}–{100 * (middle + half):.1f}%" in line
    assert vote_interval(9, 12) == pytest.approx((middle - half, middle + half), abs=1e-4)
    # Shares 1.0 and 0.5: mean 0.75, t(1) = 12.706, cut to [0, 1].
    assert person_interval([1.0, 0.5]) == (0.0, 1.0)
    for share in (1.0, 0.7, 3 / 30, 13 / 30):
        assert person_interval([share] * 6) is None, "no spread, of which nothing is known"
    low, high = person_interval([0.7, 0.8, 0.75]) or (0, 0)
    assert (low, high) == pytest.approx(
        (0.75 - 4.3027 * 0.05 / 3**0.5, 0.75 + 4.3027 * 0.05 / 3**0.5), abs=1e-4
    )


def test_votes_that_do_not_belong(report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "study"
    write_study(report, "ours", ["PF-AFN"], study, 6, "unpaired", seed=0)
    good = ballot(study, "p", 6)
    again, foreign, broken, few, nobody, deep = (
        tmp_path / f"{name}.json" for name in ("again", "foreign", "broken", "few", "nobody", "deep")
    )
    votes = json.loads(good.read_text())
    few.write_text(json.dumps({**votes, "votes": votes["votes"][:2]}))
    again.write_text(good.read_text())
    foreign.write_text(good.read_text().replace('"study": "', '"study": "x'))
    broken.write_text("[]")
    nobody.write_text(json.dumps({**votes, "participant": None}))
    deep.write_text(100_000 * "[")
    for files, message in (
        ([good, again], "of one participant"),
        ([foreign], "another study"),
        *(([file], "is not a file of votes") for file in (broken, nobody, deep)),
        ([few], "few.json lacks 4 of 6 votes"),
    ):
        assert main(["count", str(study), *map(str, files)]) == 2
        assert message in capsys.readouterr().err
    for taken in (good, study / "key.json"):
        before = taken.read_bytes()
        assert main(["count", str(study), str(good), "--out", str(taken)]) == 2
        assert f"{taken} is read here and would be overwritten" in capsys.readouterr().err
        assert taken.read_bytes() == before
    with pytest.raises(StudyError, match="is given twice"):
        write_study(report, "ours", ["PF-AFN", "PF-AFN"], tmp_path / "new", 6, "unpaired", seed=0)
    again_page = ["page", str(report), "--ours", "ours", "--baseline", "PF-AFN", "--out", str(study)]
    assert main([*again_page, "--seed", "-1"]) == 2
    assert capsys.readouterr().err == "error: --count counts from 1, --seed from 0 (--help explains)\n"
    assert main(again_page) == 2
    assert "is not empty" in capsys.readouterr().err
    assert main([*again_page[:-3], "ACGPN", "--out", str(tmp_path / "new")]) == 2
    assert "evaluate ACGPN with --keep" in capsys.readouterr().err
    assert main([*again_page[:-2], "--setting", "paired", "--out", str(tmp_path / "new")]) == 2
    assert "no paired try-ons" in capsys.readouterr().err
