"""Which part of the frame the network sees: a steady box of the network's aspect around the person."""

import math
from pathlib import Path

import cv2
import numpy as np
from cv2.data import haarcascades
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Crop = tuple[float, float, float, float]

MODES = ("auto", "centre", "full")

# A face box of OpenCV's frontal cascade against a head-to-thigh crop: medians over shop photos so framed.
CROP_HEIGHT = 5.6  # times the face box's
FACE_CENTRE = 0.155  # of the crop's height, from its top
LARGEST_FACE = 0.3  # of the frame's height: nearer than that nothing is left to dress

DETECTION_HEIGHT = 240  # pixels
LEAST_FACE = 24  # pixels of these, as many as the cascade looks at
# In seconds, not frames: people walk as fast before a slow engine as before a quick one.
LOOK_S = 0.25  # between two searches for a face
FACE_STEP = 0.1  # of a face's height: the cascade looks for sizes that far apart, and wavers between them
FACE_TAKEN = 0.1  # of a change much smaller than that
PATIENCE_S = 1.3  # without a face until the crop goes back to the middle
EVERYWHERE = 5  # how many searches go by until the whole frame is searched, though a face is known
RIVAL = 1.33  # times as large as the face known, another one takes over
RATE = 30.0  # frames a second, where they do not tell when they were taken


class Framing:
    """Chooses the crop of each frame of one source. `mode`: one of MODES.

    centre: the largest box in the middle of the frame. full: the smallest box around the whole frame; it
    reaches outside, where the border repeats. auto: head to thigh around the largest face; centre while there
    is none.
    """

    def __init__(self, mode: str, aspect: float, steady: bool = True) -> None:
        """aspect: width / height of the network's input. steady: follow the face smoothly, not at once."""
        self._mode = mode
        self._steady = steady
        self._find_face = FaceFinder() if mode == "auto" else None
        self._aspect = aspect
        self._frames_like = (0, 0, 0)  # height and width of the last frame, and its scene
        self._start_again()

    def _start_again(self) -> None:
        if self._find_face is not None:
            self._find_face.forget()
        self._at: float | None = None  # when the last frame was taken
        self._began_at, self._looked_at = 0.0, -math.inf
        self._seen_at: float | None = None
        self._target: Crop | None = None
        self._face: Crop | None = None
        self._filter = OneEuro()

    @property
    def alone_s(self) -> float:
        """For how long no face was seen when it was last looked for, in seconds.

        Since the beginning where none ever was; 0 where the last look found one, however long ago that was.
        """
        since = self._began_at if self._seen_at is None else self._seen_at
        return max(0.0, self._looked_at - since)

    @property
    def found_face(self) -> bool:
        """Whether a face was seen in this scene, where one was looked for."""
        return self._seen_at is not None

    def crop(self, image: Pixels, scene: int = 0, at: float | None = None) -> Crop:
        """The box (x, y, width, height) of this frame, in continuous pixels; may reach outside the frame.

        scene: see `runtime.sources.Frame`. at: when it was taken, in seconds of a clock that does not go
        back; 1/30 s after the frame before where that is not known.
        """
        height, width = image.shape[:2]
        if (height, width, scene) != self._frames_like:
            self._frames_like = (height, width, scene)
            self._start_again()  # nothing of the frames before holds in this one
        if self._find_face is None:
            return box(width, height, self._aspect, around=self._mode == "full")
        before = self._at
        now = at if at is not None else 0.0 if before is None else before + 1 / RATE
        self._at = now
        if now - self._looked_at >= LOOK_S:
            self._look(self._find_face, image, now)
        if self._target is None or self._lost(now):
            self._target = box(width, height, self._aspect, around=False)
        if not self._steady:
            return self._target
        x, y, wide, tall = self._target
        middle = np.array([x + wide / 2, y + tall / 2, tall])
        passed = now - before if before is not None else 0.0
        x, y, tall = (float(value) for value in self._filter(middle, tall, passed))
        return (x - tall * self._aspect / 2, y - tall / 2, tall * self._aspect, tall)

    def _lost(self, now: float) -> bool:
        """Whether no face was seen for so long that nobody is followed."""
        return self._seen_at is None or now - self._seen_at > PATIENCE_S

    def _look(self, find_face: "FaceFinder", image: Pixels, now: float) -> None:
        """Search for a face, and aim the crop at it."""
        if self._looked_at == -math.inf:
            self._began_at = now
        self._looked_at = now
        face = find_face(image)
        if face is not None:
            if self._lost(now):
                self._filter = OneEuro()  # lest it glides there from the middle, where nobody is
            elif self._steady and self._face is not None:
                face = steadied(self._face, face)
            self._face = face
            self._target = person_box(face, (image.shape[1], image.shape[0]), self._aspect)
            self._seen_at = now


def steadied(before: Crop, face: Crop) -> Crop:
    """A face's box (square) without the steps in which it is found: a change by FACE_STEP is taken as it is.

    Of a smaller one the square of its share is taken, FACE_TAKEN at least. So a crop stands still before
    somebody who does, and follows whoever moves as before.
    """
    old, new = (np.array([x + wide / 2, y + tall / 2, tall]) for x, y, wide, tall in (before, face))
    share = np.clip(((new - old) / old[2] / FACE_STEP) ** 2, FACE_TAKEN, 1)
    x, y, side = (float(value) for value in old + share * (new - old))
    return (x - side / 2, y - side / 2, side, side)


class OneEuro:
    """The 1-euro filter (Casiez et al., 2012): heavy smoothing at rest, little in motion. One step a frame.

    Cut-offs are in Hz. Speeds are in `unit`s a second, so that the frame's size is immaterial.
    """

    def __init__(self, rest: float = 0.3, gain: float = 2.0, speed: float = 3.0) -> None:
        self._rest, self._gain, self._speed = rest, gain, speed
        self._value: NDArray[np.float64] | None = None
        self._velocity = np.zeros(0)

    def __call__(self, value: NDArray[np.float64], unit: float, passed: float) -> NDArray[np.float64]:
        """The smoothed value, `passed` seconds after the one before; the first one is taken as it is."""
        if self._value is None:
            self._value, self._velocity = value, np.zeros_like(value)
        elif passed > 0:
            velocity = (value - self._value) / (unit * passed)
            self._velocity = self._velocity + weight(self._speed, passed) * (velocity - self._velocity)
            cutoff = self._rest + self._gain * float(np.abs(self._velocity).max())
            self._value = self._value + weight(cutoff, passed) * (value - self._value)
        return self._value


def weight(cutoff: float, passed: float) -> float:
    """How much of the new value a first-order low-pass of this cut-off (Hz) takes after `passed` seconds."""
    turned = 2 * math.pi * cutoff * passed
    return turned / (1 + turned)


def box(width: float, height: float, aspect: float, around: bool) -> Crop:
    """The box of `aspect` in the middle of a frame: the largest inside, or the smallest `around` it."""
    tall = max(height, width / aspect) if around else min(height, width / aspect)
    return ((width - tall * aspect) / 2, (height - tall) / 2, tall * aspect, tall)


def person_box(face: Crop, frame: tuple[int, int], aspect: float) -> Crop:
    """Head to thigh below a face, no larger than fits the frame, and inside it."""
    width, height = frame
    tall = min(CROP_HEIGHT * face[3], height, width / aspect)
    x = face[0] + face[2] / 2 - tall * aspect / 2
    y = face[1] + face[3] / 2 - FACE_CENTRE * tall
    return (min(max(x, 0), width - tall * aspect), min(max(y, 0), height - tall), tall * aspect, tall)


class FaceFinder:
    """Finds the largest face. While it knows one it looks around there, which is quick, and now and then
    everywhere, for somebody who came nearer."""

    def __init__(self) -> None:
        # Read here, since on Windows OpenCV finds no file in a folder of a name like Jürgen.
        trained = Path(haarcascades, "haarcascade_frontalface_default.xml").read_text(encoding="utf-8")
        storage = cv2.FileStorage(trained, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
        self._cascade = cv2.CascadeClassifier()
        self._cascade.read(storage.getFirstTopLevelNode())
        self._last: Crop | None = None
        self._looks = 0

    def forget(self) -> None:
        """Search the whole of the next frame."""
        self._last = None

    def __call__(self, image: Pixels) -> Crop | None:
        """The face's box in a frame. After a face is lost, the next call searches the whole frame."""
        scale = min(1.0, DETECTION_HEIGHT / image.shape[0])
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        gray = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.uint8)
        self._looks += 1
        found = self._largest(gray) if self._last is None else self._near(gray, self._last, scale)
        # What is found around the face known is kept, since it is a little larger than in the whole frame.
        if found is not None and self._looks % EVERYWHERE == 0:
            largest = self._largest(gray)
            if largest is not None and largest[3] > RIVAL * found[3]:
                found = largest
        if found is not None:
            x, y, width, height = found
            found = (x / scale, y / scale, width / scale, height / scale)
        self._last = found
        return found

    def _near(self, gray: Pixels, last: Crop, scale: float) -> Crop | None:
        """The face around the `last` one, of about its size."""
        x, y, width, height = (round(value * scale) for value in last)
        left, top = max(0, x - width), max(0, y - height)
        part = gray[top : y + 2 * height, left : x + 2 * width]
        found = self._detect(part, round(0.75 * height), round(1.33 * height))
        return None if found is None else (left + found[0], top + found[1], found[2], found[3])

    def _largest(self, gray: Pixels) -> Crop | None:
        """The largest face of the whole picture."""
        return self._detect(gray, LEAST_FACE, round(LARGEST_FACE * gray.shape[0]))

    def _detect(self, gray: Pixels, least: int, most: int) -> Crop | None:
        faces = self._cascade.detectMultiScale(gray, 1.1, 6, minSize=(least, least), maxSize=(most, most))
        if not len(faces):
            return None
        x, y, width, height = max(faces, key=lambda face: int(face[3]))
        return (float(x), float(y), float(width), float(height))
