// Views of pixels that somebody else owns, and the box of a frame that the network sees.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace mirror {

// Interleaved bytes, B, G, R first; pixels of a row are contiguous, rows may lie `stride` bytes apart (negative: upside down).
struct Image {
    std::uint8_t* data;
    int height, width;
    std::ptrdiff_t stride;

    std::uint8_t* row(int y) const { return data + y * stride; }
};

// Continuous pixel coordinates: pixel i covers [i, i + 1). May lie partly or wholly outside the frame.
struct Crop {
    double x, y, width, height;
};

// NaN becomes `low`: std::max keeps its first argument when the comparison is false.
inline float clamp(float value, float low, float high) { return std::min(std::max(low, value), high); }

}  // namespace mirror
