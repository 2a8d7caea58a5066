// Camera frame -> network input: crop, resize, BGR->RGB, normalise, planar, in one pass over the output rows.
//
// One axis: output i of n looks at the source position c = start + (i + 1/2) * s with s = length / n, through a
// triangle of half width r = max(1, s), and weighs source pixel j by max(0, 1 - |j + 1/2 - c| / r), normalised to
// sum 1. For s <= 1 that is bilinear interpolation; for s > 1 the triangle grows with the footprint, so nothing
// aliases. Pixels outside the frame repeat its border: their weights go to the border pixel.
#pragma once

#include <vector>

#include "image.hpp"

namespace mirror {

// The weights of one axis: output i reads source pixels first[i] ... first[i] + size[i] - 1.
struct Taps {
    std::vector<int> first, size;
    std::vector<std::size_t> offset;
    std::vector<float> weights;
};

inline Taps make_taps(double start, double length, int outputs, int inputs) {
    const double scale = length / outputs, radius = std::max(1.0, scale);
    Taps taps;
    std::vector<double> line;
    for (int i = 0; i < outputs; ++i) {
        const double centre = start + (i + 0.5) * scale;
        const long low = static_cast<long>(std::floor(centre - radius - 0.5)) + 1;
        const long high = static_cast<long>(std::ceil(centre + radius - 0.5)) - 1;
        const long first = std::clamp(low, 0L, inputs - 1L), last = std::clamp(high, 0L, inputs - 1L);
        line.assign(last - first + 1, 0.0);
        double sum = 0.0;
        for (long j = low; j <= high; ++j) {
            const double weight = 1.0 - std::abs(j + 0.5 - centre) / radius;
            line[std::clamp(j, first, last) - first] += weight;
            sum += weight;
        }
        taps.first.push_back(static_cast<int>(first));
        taps.size.push_back(static_cast<int>(line.size()));
        taps.offset.push_back(taps.weights.size());
        for (double weight : line) taps.weights.push_back(static_cast<float>(weight / sum));
    }
    return taps;
}

// out: 3 planes (R, G, B) of height x width floats in [-1, 1].
inline void preprocess(const Image& frame, const Crop& crop, float* out, int height, int width) {
    const Taps rows = make_taps(crop.y, crop.height, height, frame.height);
    const Taps columns = make_taps(crop.x, crop.width, width, frame.width);
    const int left = *std::min_element(columns.first.begin(), columns.first.end());
    int right = left;
    for (int x = 0; x < width; ++x) right = std::max(right, columns.first[x] + columns.size[x]);
    const int samples = 3 * (right - left);
    const std::size_t plane = static_cast<std::size_t>(height) * width;

    // Down first: a weighted sum of whole rows runs over contiguous bytes, which compilers vectorise well.
    // One float more than needed, because the pass across reads pixels as groups of four.
    std::vector<float> line(samples + 1, 0.0f);
    for (int y = 0; y < height; ++y) {
        std::fill(line.begin(), line.end(), 0.0f);
        for (int tap = 0; tap < rows.size[y]; ++tap) {
            const float weight = rows.weights[rows.offset[y] + tap];
            const std::uint8_t* source = frame.row(rows.first[y] + tap) + 3 * left;
            float* target = line.data();
            for (int i = 0; i < samples; ++i) target[i] += weight * source[i];
        }
        float* red = out + static_cast<std::size_t>(y) * width;
        for (int x = 0; x < width; ++x) {
            float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
            const float* weights = columns.weights.data() + columns.offset[x];
            const float* source = line.data() + 3 * (columns.first[x] - left);
            for (int tap = 0; tap < columns.size[x]; ++tap)
                for (int channel = 0; channel < 4; ++channel) sum[channel] += weights[tap] * source[3 * tap + channel];
            red[x] = sum[2] * (2.0f / 255.0f) - 1.0f;
            red[x + plane] = sum[1] * (2.0f / 255.0f) - 1.0f;
            red[x + 2 * plane] = sum[0] * (2.0f / 255.0f) - 1.0f;
        }
    }
}

}  // namespace mirror
