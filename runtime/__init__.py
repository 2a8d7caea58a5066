"""The mirror: camera, try-on, screen."""

import os

# Else Windows looks for hardware that converts pictures, and some cameras take a minute to open. Here, since
# OpenCV may read it while it is imported.
os.environ.setdefault("OPENCV_VIDEOIO_MSMF_ENABLE_HW_TRANSFORMS", "0")
