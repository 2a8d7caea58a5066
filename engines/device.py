"""The CUDA device, through pycuda where it is installed and cuda-python otherwise."""


def compute_capability() -> tuple[int, int] | None:
    """Compute capability of the first GPU, such as (8, 6); None without a GPU, driver or Python binding."""
    try:
        return _with_pycuda()
    except ImportError:
        pass
    try:
        return _with_cuda_python()
    except ImportError:
        return None


def _with_pycuda() -> tuple[int, int] | None:
    import pycuda.driver as cuda

    try:
        cuda.init()
        major, minor = cuda.Device(0).compute_capability()
    except cuda.Error:
        return None
    return int(major), int(minor)


def _with_cuda_python() -> tuple[int, int] | None:
    from cuda.bindings import driver

    attributes = driver.CUdevice_attribute
    wanted = (
        attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
        attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
    )
    try:
        (error,) = driver.cuInit(0)
        if error:
            return None
        error, device = driver.cuDeviceGet(0)
        if error:
            return None
        (_, major), (_, minor) = (driver.cuDeviceGetAttribute(attribute, device) for attribute in wanted)
    except RuntimeError:  # raised where libcuda cannot be loaded
        return None
    return int(major), int(minor)
