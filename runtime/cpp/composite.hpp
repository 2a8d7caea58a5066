// The network's outputs, at its own small size -> the camera frame, at the camera's size.
//
// For every frame pixel p inside the crop, with q its position in the crop as a fraction (0 ... 1 on both axes):
//
//     flow(q)  = 2 q - 1 + up(flow - identity)(q)       the grid, in [-1, 1], align_corners=False
//     G(q)     = garment photo at (flow(q) + 1) / 2 of its size, bilinear, border repeated
//     E(q)     = the garment's silhouette, the photo's fourth channel, sampled likewise, 0 ... 1
//     m        = firm(up(mask)(q)) E(q)                  firm(w) = w³ / (w³ + (1 - w)³)
//     a        = up(matte)(q)
//     r, s, P  = up(rendered)(q), up(share)(q), up(person)(q)
//     R        = r + s (frame(p) - P), between r and frame(p)        what is drawn, with the frame's detail
//     frame(p) = (1 - a) frame(p) + a (m G(q) + (1 - m) R)
//
// `up` is bilinear between the centres of network pixels and constant beyond the outermost ones. Upsampling the
// flow's difference from the identity, not the flow itself, keeps the border's half pixel undistorted. `firm` trebles
// the log-odds: a network that is unsure of a hem by a few of its pixels would blur it over many of the camera's.
// Pixels with a = 0 are not touched at all.
#pragma once

#include <vector>

#include "lanes.hpp"

namespace mirror {

// Planar float32 planes of height x width. flow: x, y in [-1, 1]; rendered, person: R, G, B in [-1, 1];
// share, mask, matte in [0, 1].
struct NetworkOutputs {
    const float *flow, *rendered, *person, *share, *mask, *matte;
    int height, width;
};

// Between which two of `inputs` samples an output lies, and how far from the first to the second.
struct Between {
    int first, second;
    float fraction;
};

inline Between between(double position, int inputs) {
    const double clamped = std::clamp(position, 0.0, inputs - 1.0);
    const int first = static_cast<int>(clamped);
    return {first, std::min(first + 1, inputs - 1), static_cast<float>(clamped - first)};
}

// Everything `composite` interpolates, interleaved so that one pixel is three groups of four: what is rendered, B, G, R in
// 0 ... 255, and the share; the person likewise, and nothing; the mask, flow offset x, y in garment pixels, the matte.
constexpr int kLanes = 12;
enum Lane { kRendered = 0, kShare = 3, kPerson = 4, kNothing = 7, kMask = 8, kFlowX, kFlowY, kMatte };

inline std::vector<float> interleave(const NetworkOutputs& net, int garment_height, int garment_width) {
    const std::size_t plane = static_cast<std::size_t>(net.height) * net.width;
    std::vector<float> pixels(plane * kLanes);
    for (int y = 0; y < net.height; ++y) {
        const float identity_y = (2.0f * y + 1.0f) / net.height - 1.0f;
        for (int x = 0; x < net.width; ++x) {
            const float identity_x = (2.0f * x + 1.0f) / net.width - 1.0f;
            const std::size_t i = static_cast<std::size_t>(y) * net.width + x;
            float* pixel = pixels.data() + i * kLanes;
            pixel[kFlowX] = (net.flow[i] - identity_x) * 0.5f * garment_width;
            pixel[kFlowY] = (net.flow[i + plane] - identity_y) * 0.5f * garment_height;
            for (int c = 0; c < 3; ++c) {
                pixel[kRendered + c] = (net.rendered[i + (2 - c) * plane] + 1.0f) * 127.5f;
                pixel[kPerson + c] = (net.person[i + (2 - c) * plane] + 1.0f) * 127.5f;
            }
            pixel[kShare] = clamp(net.share[i], 0.0f, 1.0f);
            pixel[kNothing] = 0.0f;
            pixel[kMask] = clamp(net.mask[i], 0.0f, 1.0f);
            pixel[kMatte] = clamp(net.matte[i], 0.0f, 1.0f);
        }
    }
    return pixels;
}

// Three times the log-odds of a weight in 0 ... 1.
inline float firm(float weight) {
    const float other = 1.0f - weight;
    const float on = weight * weight * weight, off = other * other * other;
    return on / (on + off);
}

// garment: four bytes a pixel: B, G, R, silhouette.
inline void composite(const Image& frame, const Crop& crop, const Image& garment, const NetworkOutputs& net) {
    const int left = static_cast<int>(std::ceil(std::clamp(crop.x - 0.5, 0.0, 1.0 * frame.width)));
    const int right = static_cast<int>(std::ceil(std::clamp(crop.x + crop.width - 0.5, 0.0, 1.0 * frame.width)));
    const int top = static_cast<int>(std::ceil(std::clamp(crop.y - 0.5, 0.0, 1.0 * frame.height)));
    const int bottom = static_cast<int>(std::ceil(std::clamp(crop.y + crop.height - 0.5, 0.0, 1.0 * frame.height)));
    if (left >= right || top >= bottom) return;

    const std::vector<float> pixels = interleave(net, garment.height, garment.width);
    std::vector<Between> columns;
    std::vector<float> identity_x;
    for (int x = left; x < right; ++x) {
        const double q = (x + 0.5 - crop.x) / crop.width;
        columns.push_back(between(q * net.width - 0.5, net.width));
        identity_x.push_back(static_cast<float>(q * garment.width - 0.5));
    }
    const float last_x = garment.width - 1.0f, last_y = garment.height - 1.0f;
    const int line_size = net.width * kLanes;
    std::vector<float> line(line_size);

    for (int y = top; y < bottom; ++y) {
        const double q = (y + 0.5 - crop.y) / crop.height;
        const float identity_y = static_cast<float>(q * garment.height - 0.5);
        const Between row = between(q * net.height - 0.5, net.height);
        const float* upper = pixels.data() + static_cast<std::size_t>(row.first) * line_size;
        const float* lower = pixels.data() + static_cast<std::size_t>(row.second) * line_size;
        for (int i = 0; i < line_size; ++i) line[i] = upper[i] + row.fraction * (lower[i] - upper[i]);

        std::uint8_t* target = frame.row(y) + 3 * left;
        for (std::size_t i = 0; i < columns.size(); ++i, target += 3) {
            const float* before = line.data() + columns[i].first * kLanes;
            const float* after = line.data() + columns[i].second * kLanes;
            // Worth a branch: most of a frame is left alone, in long runs that the processor predicts.
            if (before[kMatte] <= 0.0f && after[kMatte] <= 0.0f) continue;
            const float fraction = columns[i].fraction;
            const Lanes drawn = mix(load(before + kRendered), load(after + kRendered), fraction);
            const Lanes person = mix(load(before + kPerson), load(after + kPerson), fraction);
            const Lanes seen = load_three(target);
            // Beyond both, next to an edge of the frame, would be a line that neither has.
            const Lanes rendered = between(add_share(drawn, seen, person), drawn, seen);
            float placed[4];
            store(placed, mix(load(before + kMask), load(after + kMask), fraction));

            const float garment_x = clamp(identity_x[i] + placed[kFlowX - kMask], 0.0f, last_x);
            const float garment_y = clamp(identity_y + placed[kFlowY - kMask], 0.0f, last_y);
            const int x0 = static_cast<int>(garment_x), y0 = static_cast<int>(garment_y);
            const std::ptrdiff_t right_step = x0 + 1 < garment.width ? 4 : 0;
            const std::ptrdiff_t down_step = y0 + 1 < garment.height ? garment.stride : 0;
            const std::uint8_t* above = garment.row(y0) + 4 * x0;
            const std::uint8_t* below = above + down_step;
            const float dx = garment_x - x0;
            const Lanes cloth = mix(mix(load(above), load(above + right_step), dx),
                                    mix(load(below), load(below + right_step), dx), garment_y - y0);
            float cloth_lanes[4];
            store(cloth_lanes, cloth);
            const float weight = firm(placed[0]) * cloth_lanes[3] * (1.0f / 255.0f);
            const Lanes dressed = mix(rendered, cloth, weight);
            store_three(target, mix(seen, dressed, placed[kMatte - kMask]));
        }
    }
}

}  // namespace mirror
