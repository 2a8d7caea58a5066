"""What an evaluation compares: checkpoints, engines, pictures of others, answers without a network."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

import engines
from engines.bundle import sha256
from engines.picture_files import like
from kernels import flow_warp
from kernels.flow_warp import identity_flow
from rmgn import checkpoint
from rmgn.config import ModelConfig
from rmgn.data.read import check_picture, rgb
from rmgn.model import RMGN
from rmgn.trials import DataError, Question, Setting, Trial

BASELINES = ("copy", "paste", "untrained")


class Answer(NamedTuple):
    """Pictures [B, 3, H, W] in [-1, 1], and the flow [B, 2, H, W] where there is one."""

    tryon: Tensor
    flow: Tensor | None = None


class Contender(Protocol):
    """Answers trials. `source` says what it was made from."""

    name: str
    source: str

    @property
    def sha256(self) -> str | None:
        """Of the file of weights, or a bundle's digest: what was measured, whatever lies there later."""

    def __call__(self, trial: Trial) -> Answer: ...


class Network:
    """A model in PyTorch. trained: the size it was trained at, where that is known; another is told, once."""

    def __init__(
        self,
        name: str,
        model: RMGN,
        source: str,
        device: torch.device,
        sha256: str | None = None,
        trained: tuple[int, int] | None = None,
    ) -> None:
        self.name, self.source, self.sha256 = name, source, sha256
        self.model, self._trained = model.to(device).eval(), trained

    @torch.no_grad()
    def __call__(self, trial: Trial) -> Answer:
        height, width = trial.person.shape[-2:]
        if told := checkpoint.other_size(self.source, self._trained, (height, width)):
            tqdm.write(f"{told}, and so do its figures (--size)", file=sys.stderr)
            self._trained = None
        result = self.model(trial.person, trial.garment, trial.mask)
        return Answer(result.tryon, result.flow)


def load_network(name: str, file: Path, device: torch.device) -> Network:
    """A checkpoint of ours. Raises CheckpointError."""
    model, trained = checkpoint.load(file), checkpoint.trained_size(file)
    return Network(name, model, str(file), device, sha256(file), trained)


def untrained(config: ModelConfig, device: torch.device) -> Network:
    """The network before its first step, from seed 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Network("untrained", RMGN(config), "random weights", device)


class Bundle:
    """A bundle on an engine, one picture at a time, as the mirror runs it."""

    def __init__(self, name: str, folder: Path, backend: str) -> None:
        self.session = engines.open(folder, backend)
        self.size = self.session.bundle.height, self.session.bundle.width
        precision = self.session.bundle.precision
        self.name = name
        self.source = f"{folder}, {precision} on {self.session.backend}"
        self.sha256 = self.session.bundle.digest()

    def __call__(self, trial: Trial) -> Answer:
        size = tuple(trial.person.shape[-2:])
        if size != self.size:
            raise DataError(
                f"the bundle is made for {self.size[0]}x{self.size[1]}, the data are {size[0]}x{size[1]}: "
                f"evaluate with --size {self.size[0]}x{self.size[1]}"
            )
        device = trial.person.device
        pictures, flows = [], []
        for n in range(len(trial.names)):
            garment, mask, person = (
                x[n : n + 1].float().contiguous().cpu().numpy()
                for x in (trial.garment, trial.mask, trial.person)
            )
            self.session.wear(self.session.encode(garment, mask))
            outputs = self.session.run(person)
            pictures.append(torch.from_numpy(outputs["tryon"]).to(device))
            flows.append(torch.from_numpy(outputs["flow"]).to(device))
        return Answer(torch.cat(pictures), torch.cat(flows))


# In this order where a name has several pictures: those without loss first.
ENDS = (".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg", ".webp")


class Results:
    """Pictures that another system made: DIR/NAME.png, .jpg or so for every trial's name, or its person's.

    questions: all that will be asked, so that what is missing is said before the first trial.
    """

    def __init__(self, name: str, folder: Path, questions: Mapping[Setting, Sequence[Question]]) -> None:
        if not folder.is_dir():
            raise DataError(f"--results {folder} is not a folder")
        self.name, self.source, self.sha256 = name, str(folder), None
        self._files: dict[tuple[Setting, str], Path] = {}
        answered: dict[Path, str] = {}  # the trial that a file is for
        missing: list[Question] = []
        for setting, question in ((s, q) for s, asked in questions.items() for q in asked):
            wearer = Path(question.person).stem
            known = dict.fromkeys((question.name, question.subject, wearer))
            stems = [*(f"{setting}/{name}" for name in known), *known]
            files = (like(folder / f"{stem}{suffix}") for stem in stems for suffix in ENDS)
            file = next(filter(None, files), None)
            if file is None:
                missing.append(question)
                continue
            asked = f"{setting} {question.name}"
            if answered.setdefault(file, asked) != asked:
                raise DataError(
                    f"{file} answers {answered[file]} and {asked}: name pictures by the trials, as "
                    f"{setting}/{question.name}.png"
                )
            self._files[setting, question.name] = file
        if missing:
            more = f", nor those of {len(missing) - 1} more trials" if len(missing) > 1 else ""
            wanted = f"{missing[0].name}.png or {missing[0].subject}.png, or .jpg"
            raise DataError(f"{folder} has no picture {wanted}{more}")
        self._checked = False

    def __call__(self, trial: Trial) -> Answer:
        size = trial.person.shape[-2], trial.person.shape[-1]
        files = [self._files[trial.setting, name] for name in trial.names]
        if not self._checked:
            self._check(size)
            self._checked = True
        pictures = [rgb(file, size) for file in files]
        return Answer(torch.stack(pictures).to(trial.person.device))

    def _check(self, size: tuple[int, int]) -> None:
        """Look at all pictures before the first trial: refuse other shapes, and tell of other sizes."""
        sizes = {check_picture(file, size) for file in dict.fromkeys(self._files.values())} - {size}
        if sizes:
            found = ", ".join(f"{height}x{width}" for height, width in sorted(sizes))
            tqdm.write(
                f"{self.source} holds pictures of {found}: they are measured at {size[0]}x{size[1]} (--size)",
                file=sys.stderr,
            )


class Copy:
    """The person as photographed."""

    name, source, sha256 = "unchanged", "the person as photographed", None

    def __call__(self, trial: Trial) -> Answer:
        return Answer(trial.person)


class Paste:
    """The garment's photo stretched from its box to the box where the garment belongs, over the person."""

    name, source, sha256 = "pasted", "the garment by its true box", None

    def __call__(self, trial: Trial) -> Answer:
        if trial.worn_mask is None:
            raise DataError("pasting needs masks of the worn garment, which these data do not have")
        height, width = trial.person.shape[-2:]
        place = identity_flow(height, width, "centres", trial.person.device)
        worn, photo = box(trial.worn_mask), box(trial.mask)
        share = (place - worn[:, 0]) / (worn[:, 1] - worn[:, 0])
        flow = photo[:, 0] + share * (photo[:, 1] - photo[:, 0])
        inside = ((share >= 0) & (share <= 1)).all(dim=1, keepdim=True)
        garment, mask = flow_warp(trial.garment, flow), flow_warp(trial.mask, flow, "zeros") * inside
        return Answer(mask * garment + (1 - mask) * trial.person, flow)


def box(mask: Tensor) -> Tensor:
    """Boxes around masks [B, 1, H, W] over 0.5, as (least, greatest) x and y in [-1, 1]: [B, 2, 2, 1, 1].

    An empty mask has the whole picture as its box.
    """
    boxes = []
    for plane in mask[:, 0] > 0.5:
        edges = []
        for along in (plane.any(dim=0), plane.any(dim=1)):
            at = along.nonzero()[:, 0]
            n = len(along)
            low, high = (at[0].item(), at[-1].item() + 1) if len(at) else (0, n)
            edges.append((2 * low / n - 1, 2 * high / n - 1))
        boxes.append([[edges[0][0], edges[1][0]], [edges[0][1], edges[1][1]]])
    return mask.new_tensor(boxes)[..., None, None]
