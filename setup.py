"""Builds `runtime._native` and chooses the OpenCV package; everything else stands in pyproject.toml.

`opencv-python` opens windows but needs the system's OpenGL library; a box without a display wants
`opencv-python-headless`. Both provide `cv2`, so exactly one may be installed:

    pip install -e .                          # with windows
    RMGN_OPENCV=headless pip install -e .     # without
"""

import os
import sys

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup

opencv = "opencv-python-headless" if os.environ.get("RMGN_OPENCV") == "headless" else "opencv-python"

setup(
    install_requires=[
        "numpy>=1.24,<3",
        f"{opencv}>=4.8,<5",  # OpenCV 5 has no Haar cascades
        "onnxruntime>=1.19,<2",  # earlier ones want NumPy 1,
        "pillow>=10,<14",
        "tqdm>=4.66,<5",
    ],
    ext_modules=[
        Pybind11Extension(
            "runtime._native",
            ["runtime/cpp/bindings.cpp"],
            depends=[f"runtime/cpp/{name}.hpp" for name in ("image", "lanes", "preprocess", "composite")],
            extra_compile_args=["/O2"] if sys.platform == "win32" else ["-O3"],
            cxx_std=17,
        )
    ],
)
