// Python's door to the native core: checks arrays, releases the GIL, calls. Signatures in runtime/_native.pyi.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cmath>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "composite.hpp"
#include "preprocess.hpp"

namespace py = pybind11;
using CropTuple = std::tuple<double, double, double, double>;

namespace {

// Beyond this a crop is a mistake, and filter taps would fill the memory.
constexpr double kLargestCrop = 1 << 16;
constexpr py::ssize_t kLargestSide = 1 << 16;  // of a picture: further on, int overflows

bool is_side(py::ssize_t side) { return side > 0 && side <= kLargestSide; }

std::string shape_of(const py::array& array) {
    return py::str(array.attr("dtype")).cast<std::string>() + " of shape " +
           py::str(array.attr("shape")).cast<std::string>();
}

mirror::Image image(const py::array& array, const char* name, int channels) {
    const std::string wanted =
        std::string(name) + " must be uint8 [H, W, " + std::to_string(channels) + "] with contiguous rows, at most " +
        std::to_string(kLargestSide) + " a side, not ";
    if (!py::isinstance<py::array_t<std::uint8_t>>(array)) throw py::type_error(wanted + shape_of(array));
    const bool fits = array.ndim() == 3 && is_side(array.shape(0)) && is_side(array.shape(1)) &&
                      array.shape(2) == channels;
    if (!fits || array.strides(2) != 1 || array.strides(1) != channels)
        throw py::value_error(wanted + shape_of(array));
    return {static_cast<std::uint8_t*>(const_cast<void*>(array.data())), static_cast<int>(array.shape(0)),
            static_cast<int>(array.shape(1)), array.strides(0)};
}

const float* planes(const py::array& array, const char* name, int channels, py::ssize_t height, py::ssize_t width) {
    const std::string wanted = std::string(name) + " must be aligned, C-contiguous float32 [1, " +
                               std::to_string(channels) + ", " + std::to_string(height) + ", " +
                               std::to_string(width) + "], not ";
    if (!py::isinstance<py::array_t<float>>(array)) throw py::type_error(wanted + shape_of(array));
    const bool fits = array.ndim() == 4 && array.shape(0) == 1 && array.shape(1) == channels &&
                      array.shape(2) == height && array.shape(3) == width;
    const int flat = py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
    if (!fits || (array.flags() & flat) != flat) throw py::value_error(wanted + shape_of(array));
    return static_cast<const float*>(array.data());
}

void require_writeable(const py::array& array, const char* name) {
    if (!array.writeable()) throw py::value_error(std::string(name) + " is read-only");
}

mirror::Crop crop_of(const CropTuple& crop) {
    const auto [x, y, width, height] = crop;
    const bool finite = std::isfinite(x) && std::isfinite(y);
    if (!finite || !(width > 0 && width <= kLargestCrop) || !(height > 0 && height <= kLargestCrop) ||
        std::abs(x) > kLargestCrop || std::abs(y) > kLargestCrop)
        throw py::value_error("crop must be finite (x, y, width, height) with positive sizes, at most 65536 each");
    return {x, y, width, height};
}

void preprocess(const py::array& frame, const CropTuple& crop, const py::array& out) {
    if (out.ndim() != 4 || !is_side(out.shape(2)) || !is_side(out.shape(3)))
        throw py::value_error("out must be float32 [1, 3, H, W], not " + shape_of(out));
    const mirror::Image source = image(frame, "frame", 3);
    float* target = const_cast<float*>(planes(out, "out", 3, out.shape(2), out.shape(3)));
    require_writeable(out, "out");
    const mirror::Crop box = crop_of(crop);
    const int height = static_cast<int>(out.shape(2)), width = static_cast<int>(out.shape(3));
    // Safe without the GIL: no Python object is touched from here on, and the caller's arguments keep the pixels alive.
    const py::gil_scoped_release released;
    mirror::preprocess(source, box, target, height, width);
}

void composite(const py::array& frame, const CropTuple& crop, const py::array& garment, const py::array& flow,
               const py::array& rendered, const py::array& person, const py::array& share, const py::array& mask,
               const py::array& matte) {
    if (flow.ndim() != 4 || !is_side(flow.shape(2)) || !is_side(flow.shape(3)))
        throw py::value_error("flow must be float32 [1, 2, H, W], not " + shape_of(flow));
    const mirror::Image target = image(frame, "frame", 3), photo = image(garment, "garment", 4);
    require_writeable(frame, "frame");
    const py::ssize_t height = flow.shape(2), width = flow.shape(3);
    const mirror::NetworkOutputs net{planes(flow, "flow", 2, height, width),
                                     planes(rendered, "rendered", 3, height, width),
                                     planes(person, "person", 3, height, width),
                                     planes(share, "share", 1, height, width),
                                     planes(mask, "mask", 1, height, width),
                                     planes(matte, "matte", 1, height, width),
                                     static_cast<int>(height),
                                     static_cast<int>(width)};
    const mirror::Crop box = crop_of(crop);
    // Safe without the GIL for the same reason as above; the frame belongs to one stage of the pipeline at a time.
    const py::gil_scoped_release released;
    mirror::composite(target, box, photo, net);
}

}  // namespace

PYBIND11_MODULE(_native, module) {
    module.doc() = "The mirror's per-frame pixel work, without the GIL.";
    module.def("preprocess", &preprocess, py::arg("frame"), py::arg("crop"), py::arg("out"));
    module.def("composite", &composite, py::arg("frame"), py::arg("crop"), py::arg("garment"), py::arg("flow"),
               py::arg("rendered"), py::arg("person"), py::arg("share"), py::arg("mask"), py::arg("matte"));
}
