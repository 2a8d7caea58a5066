"""Device code of mask_fusion, in Triton's language; kernels.mask_fusion_op launches it."""

from kernels.triton_runtime import constexpr, jit, tl

# Offsets inside a sample are 32-bit, which halves the registers that addresses take; samples start at 64-bit
# offsets.


@jit
def statistics_kernel(
    h,  # [B, C, P] by strides
    mean,  # [B, parts, C]
    rstd,  # [B, parts, C]
    channels: constexpr,
    pixels,
    share,
    epsilon,
    sb,
    sc,
    sp: constexpr,
    WHOLE: constexpr,
    ACC: constexpr,
    BLOCK_P: constexpr,
    BLOCK_C: constexpr,
):
    """Mean and 1/√(σ² + ε) of WHOLE planes; else, of each over a share of its pixels, mean and Σ (h - mean)².

    Welford's form in every lane, then Chan's merge of the lanes: loads wait for no sum, since the lanes of a
    program meet but once, behind the loop.
    """
    channel = (tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)).to(tl.int64)
    part = tl.program_id(1)
    batch = tl.program_id(2).to(tl.int64)
    some = channel < channels
    begin = part * share
    end = tl.minimum(begin + share, pixels)
    at = h + batch * sb + channel[:, None] * sc
    step = tl.zeros([1, 1], dtype=ACC)
    centre = tl.zeros([BLOCK_C, BLOCK_P], dtype=ACC)
    squares = tl.zeros([BLOCK_C, BLOCK_P], dtype=ACC)
    for start in range(begin, end, BLOCK_P):
        pixel = start + tl.arange(0, BLOCK_P)
        inside = pixel < end
        both = some[:, None] & inside[None, :]
        value = tl.load(at + pixel[None, :] * sp, mask=both, other=0.0).to(ACC)
        step += 1.0  # what every lane that is inside has seen
        delta = tl.where(inside[None, :], value - centre, 0.0)
        centre += delta * (1.0 / step)
        squares += delta * (value - centre)
    count = ((end - begin - tl.arange(0, BLOCK_P) + BLOCK_P - 1) // BLOCK_P).to(ACC)
    size = (end - begin).to(ACC)
    whole = tl.sum(count[None, :] * centre, axis=1) / size
    off = centre - whole[:, None]
    total = tl.sum(squares + count[None, :] * off * off, axis=1)
    if WHOLE:
        total = 1.0 / tl.sqrt(total / size + epsilon)
    out = (batch * tl.num_programs(1) + part) * channels + channel
    tl.store(mean + out, whole, mask=some)
    tl.store(rstd + out, total, mask=some)


@jit
def merge_kernel(
    means,  # [B, parts, C]
    deviations,  # [B, parts, C]
    mean,  # [B, C]
    rstd,  # [B, C]
    channels: constexpr,
    pixels,
    parts,
    share,
    epsilon,
    ACC: constexpr,
    BLOCK_N: constexpr,
    BLOCK_C: constexpr,
):
    """Statistics of whole planes from those of their parts (Chan), a program for all parts of some planes."""
    channel = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    batch = tl.program_id(1).to(tl.int64)
    part = tl.arange(0, BLOCK_N)
    some = channel < channels
    both = (part < parts)[:, None] & some[None, :]
    at = (batch * parts + part)[:, None] * channels + channel[None, :]
    count = tl.minimum(tl.maximum(pixels - part * share, 0), share).to(ACC)[:, None]
    centre = tl.load(means + at, mask=both, other=0.0)
    squares = tl.load(deviations + at, mask=both, other=0.0)
    whole = tl.sum(count * centre, axis=0) / pixels
    off = centre - whole[None, :]
    total = tl.sum(squares + count * off * off, axis=0)
    out = batch * channels + channel
    tl.store(mean + out, whole, mask=some)
    tl.store(rstd + out, 1.0 / tl.sqrt(total / pixels + epsilon), mask=some)


@jit
def mask_kernel(
    h,
    mean,
    rstd,
    weight,  # [C]
    bias,  # [1]
    mask,  # [B, P]
    channels: constexpr,
    pixels,
    sb,
    sc,
    sp: constexpr,
    ACC: constexpr,
    BLOCK_P: constexpr,
    BLOCK_C: constexpr,
):
    """σ(Σ w·n + b), the sum over channels of the normalised h."""
    pixel = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    batch = tl.program_id(1).to(tl.int64)
    inside = pixel < pixels
    logit = tl.zeros([BLOCK_P], dtype=ACC)
    for start in range(0, channels, BLOCK_C):
        channel = start + tl.arange(0, BLOCK_C)
        some = channel < channels
        mu = tl.load(mean + batch * channels + channel, mask=some, other=0.0)
        r = tl.load(rstd + batch * channels + channel, mask=some, other=0.0)
        w = tl.load(weight + channel, mask=some, other=0.0).to(ACC)
        at = batch * sb + channel[:, None] * sc + pixel[None, :] * sp
        value = tl.load(h + at, mask=some[:, None] & inside[None, :], other=0.0).to(ACC)
        logit += tl.sum((value - mu[:, None]) * (w * r)[:, None], axis=0)
    logit += tl.load(bias).to(ACC)
    m = 1.0 / (1.0 + tl.exp(-logit))
    tl.store(mask + batch * pixels + pixel, m.to(mask.dtype.element_ty), mask=inside)


@jit
def _load_affine(gamma_person, beta_person, gamma_garment, beta_garment, at, some, ACC):
    """γP, βP, γI, βI at the offsets `at`."""
    scale_person = tl.load(gamma_person + at, mask=some, other=0.0).to(ACC)
    shift_person = tl.load(beta_person + at, mask=some, other=0.0).to(ACC)
    scale_garment = tl.load(gamma_garment + at, mask=some, other=0.0).to(ACC)
    shift_garment = tl.load(beta_garment + at, mask=some, other=0.0).to(ACC)
    return scale_person, shift_person, scale_garment, shift_garment


@jit
def _blended(n, m, scale_person, shift_person, scale_garment, shift_garment, RESIDUAL):
    """Equations (4) and (6) for normalised features n under the mask m."""
    if RESIDUAL:
        scale_person += 1.0
        scale_garment += 1.0
    person = n * scale_person + shift_person
    garment = n * scale_garment + shift_garment
    return person + m * (garment - person)


@jit
def blend_kernel(
    h,
    gamma_person,
    beta_person,
    gamma_garment,
    beta_garment,
    mask,  # [B, P]
    mean,
    rstd,
    out,
    channels: constexpr,
    pixels,
    sb,
    sc,
    sp: constexpr,
    RESIDUAL: constexpr,
    ACC: constexpr,
    BLOCK_P: constexpr,
    BLOCK_C: constexpr,
):
    """Equations (4) and (6) from statistics and mask; one read of every operand, one write."""
    pixel = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    batch = tl.program_id(2).to(tl.int64)
    some = channel < channels
    inside = pixel < pixels
    both = some[:, None] & inside[None, :]
    mu = tl.load(mean + batch * channels + channel, mask=some, other=0.0)
    r = tl.load(rstd + batch * channels + channel, mask=some, other=0.0)
    m = tl.load(mask + batch * pixels + pixel, mask=inside, other=0.0).to(ACC)[None, :]
    at = batch * sb + channel[:, None] * sc + pixel[None, :] * sp
    n = (tl.load(h + at, mask=both, other=0.0).to(ACC) - mu[:, None]) * r[:, None]
    scale_p, shift_p, scale_g, shift_g = _load_affine(
        gamma_person, beta_person, gamma_garment, beta_garment, at, both, ACC
    )
    value = _blended(n, m, scale_p, shift_p, scale_g, shift_g, RESIDUAL)
    tl.store(out + at, value.to(out.dtype.element_ty), mask=both)


@jit
def fused_kernel(
    h,
    gamma_person,
    beta_person,
    gamma_garment,
    beta_garment,
    weight,  # [C]
    bias,  # [1]
    mean,
    rstd,
    mask,  # [B, P]
    out,
    channels: constexpr,
    pixels,
    sb,
    sc,
    sp: constexpr,
    RESIDUAL: constexpr,
    ACC: constexpr,
    BLOCK_P: constexpr,
    BLOCK_C: constexpr,
):
    """Mask and blend of some pixels whose channels one program holds: h is read once for both."""
    pixel = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    channel = tl.arange(0, BLOCK_C)
    batch = tl.program_id(1).to(tl.int64)
    some = channel < channels
    inside = pixel < pixels
    both = some[:, None] & inside[None, :]
    mu = tl.load(mean + batch * channels + channel, mask=some, other=0.0)
    r = tl.load(rstd + batch * channels + channel, mask=some, other=0.0)
    w = tl.load(weight + channel, mask=some, other=0.0).to(ACC)
    b = tl.load(bias).to(ACC)
    at = batch * sb + channel[:, None] * sc + pixel[None, :] * sp
    # All loads are under way before the sum over channels, at which the threads of a program meet.
    value = tl.load(h + at, mask=both, other=0.0).to(ACC)
    scale_p, shift_p, scale_g, shift_g = _load_affine(
        gamma_person, beta_person, gamma_garment, beta_garment, at, both, ACC
    )
    n = (value - mu[:, None]) * r[:, None]
    logit = tl.sum(n * w[:, None], axis=0) + b
    m = (1.0 / (1.0 + tl.exp(-logit))).to(mask.dtype.element_ty)
    tl.store(mask + batch * pixels + pixel, m, mask=inside)
    m = m.to(ACC)[None, :]  # as the backward reads it
    value = _blended(n, m, scale_p, shift_p, scale_g, shift_g, RESIDUAL)
    tl.store(out + at, value.to(out.dtype.element_ty), mask=both)


@jit
def plane_kernel(
    h,
    gamma_person,
    beta_person,
    gamma_garment,
    beta_garment,
    mask,
    mean,
    rstd,
    out,
    channels: constexpr,
    pixels,
    epsilon,
    sb,
    sc,
    sp: constexpr,
    RESIDUAL: constexpr,
    ACC: constexpr,
    BLOCK_P: constexpr,
):
    """Statistics and blend of a whole plane that one program holds; the mask is given."""
    channel = tl.program_id(0).to(tl.int64)
    batch = tl.program_id(1).to(tl.int64)
    pixel = tl.arange(0, BLOCK_P)
    inside = pixel < pixels
    at = batch * sb + channel * sc + pixel * sp
    value = tl.load(h + at, mask=inside, other=0.0).to(ACC)
    mu = tl.sum(value, axis=0) / pixels
    off = tl.where(inside, value - mu, 0.0)
    r = 1.0 / tl.sqrt(tl.sum(off * off, axis=0) / pixels + epsilon)
    tl.store(mean + batch * channels + channel, mu)
    tl.store(rstd + batch * channels + channel, r)
    n = off * r
    m = tl.load(mask + batch * pixels + pixel, mask=inside, other=0.0).to(ACC)
    scale_p, shift_p, scale_g, shift_g = _load_affine(
        gamma_person, beta_person, gamma_garment, beta_garment, at, inside, ACC
    )
    value = _blended(n, m, scale_p, shift_p, scale_g, shift_g, RESIDUAL)
    tl.store(out + at, value.to(out.dtype.element_ty), mask=inside)


@jit
def mask_gradient_kernel(
    grad,
    grad_mask,  # [B, P], or any pointer where HAS_GRAD_MASK is false
    h,
    gamma_person,
    beta_person,
    gamma_garment,
    beta_garment,
    mask,
    mean,
    rstd,
    into,  # [B, P] in the accumulator's dtype
    channels: constexpr,
    pixels,
    sb,
    sc,
    sp: constexpr,
    HAS_GRAD_MASK: constexpr,
    LOGIT: constexpr,
    ACC: constexpr,
    BLOCK_P: constexpr,
    BLOCK_C: constexpr,
):
    """dL/dM = Σ over channels of dL/dout·(hI - hP); with LOGIT times M·(1 - M), before the sigmoid."""
    pixel = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    batch = tl.program_id(1).to(tl.int64)
    inside = pixel < pixels
    total = tl.zeros([BLOCK_P], dtype=ACC)
    for start in range(0, channels, BLOCK_C):
        channel = start + tl.arange(0, BLOCK_C)
        some = channel < channels
        both = some[:, None] & inside[None, :]
        mu = tl.load(mean + batch * channels + channel, mask=some, other=0.0)
        r = tl.load(rstd + batch * channels + channel, mask=some, other=0.0)
        at = batch * sb + channel[:, None] * sc + pixel[None, :] * sp
        n = (tl.load(h + at, mask=both, other=0.0).to(ACC) - mu[:, None]) * r[:, None]
        scale = tl.load(gamma_garment + at, mask=both, other=0.0).to(ACC)
        scale -= tl.load(gamma_person + at, mask=both, other=0.0).to(ACC)
        shift = tl.load(beta_garment + at, mask=both, other=0.0).to(ACC)
        shift -= tl.load(beta_person + at, mask=both, other=0.0).to(ACC)
        total += tl.sum(tl.load(grad + at, mask=both, other=0.0).to(ACC) * (n * scale + shift), axis=0)
    where = batch * pixels + pixel
    if HAS_GRAD_MASK:
        total += tl.load(grad_mask + where, mask=inside, other=0.0).to(ACC)
    if LOGIT:
        m = tl.load(mask + where, mask=inside, other=0.0).to(ACC)
        total *= m * (1.0 - m)
    tl.store(into + where, total, mask=inside)


@jit
def _normalised_gradient(
    grad, h, gamma_person, gamma_garment, mask, grad_logit, weight, mean, rstd, batch, channel, pixel,
    channels, pixels, at, both, RESIDUAL, LOGIT, ACC,
):  # fmt: skip
    """Of a tile: n, the gradients of both sides, of the logit, and of n; 0 outside; then rstd of its planes.

    dL/dn = g·((1 - M)·sP + M·sI) + dL/dlogit·w.
    """
    some = channel < channels
    inside = pixel < pixels
    mu = tl.load(mean + batch * channels + channel, mask=some, other=0.0)[:, None]
    r = tl.load(rstd + batch * channels + channel, mask=some, other=0.0)[:, None]
    n = tl.where(both, (tl.load(h + at, mask=both, other=0.0).to(ACC) - mu) * r, 0.0)
    g = tl.load(grad + at, mask=both, other=0.0).to(ACC)
    m = tl.load(mask + batch * pixels + pixel, mask=inside, other=0.0).to(ACC)[None, :]
    g_person = g * (1.0 - m)
    g_garment = g * m
    dn = g_person * tl.load(gamma_person + at, mask=both, other=0.0).to(ACC)
    dn += g_garment * tl.load(gamma_garment + at, mask=both, other=0.0).to(ACC)
    if RESIDUAL:
        dn += g
    d = tl.zeros_like(m)
    if LOGIT:
        d = tl.load(grad_logit + batch * pixels + pixel, mask=inside, other=0.0)[None, :]
        dn += d * tl.load(weight + channel, mask=some, other=0.0).to(ACC)[:, None]
    return n, g_person, g_garment, d, dn, r


@jit
def affine_gradient_kernel(
    grad,
    h,
    gamma_person,
    gamma_garment,
    mask,
    mean,
    rstd,
    grad_logit,  # [B, P], or any pointer where LOGIT is false
    weight,  # [C], likewise
    grad_gamma_person,
    grad_beta_person,
    grad_gamma_garment,
    grad_beta_garment,
    sums,  # [3, B, parts, C] in the accumulator's dtype
    channels: constexpr,
    pixels,
    share,
    sb,
    sc,
    sp: constexpr,
    RESIDUAL: constexpr,
    LOGIT: constexpr,
    ACC: constexpr,
    BLOCK_P: constexpr,
    BLOCK_C: constexpr,
):
    """The gradients of γ and β, and over a share of each plane Σ dn, Σ dn·n and Σ dL/dlogit·n."""
    channel = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    part = tl.program_id(1)
    batch = tl.program_id(2).to(tl.int64)
    begin = part * share
    end = tl.minimum(begin + share, pixels)
    sum_dn = tl.zeros([BLOCK_C, BLOCK_P], dtype=ACC)
    sum_dn_n = tl.zeros([BLOCK_C, BLOCK_P], dtype=ACC)
    sum_weight = tl.zeros([BLOCK_C, BLOCK_P], dtype=ACC)
    for start in range(begin, end, BLOCK_P):
        pixel = start + tl.arange(0, BLOCK_P)
        both = (channel < channels)[:, None] & (pixel < end)[None, :]
        at = batch * sb + channel[:, None] * sc + pixel[None, :] * sp
        n, g_person, g_garment, d, dn, _r = _normalised_gradient(
            grad, h, gamma_person, gamma_garment, mask, grad_logit, weight, mean, rstd, batch, channel, pixel,
            channels, pixels, at, both, RESIDUAL, LOGIT, ACC,
        )  # fmt: skip
        tl.store(grad_beta_person + at, g_person.to(grad_beta_person.dtype.element_ty), mask=both)
        tl.store(grad_beta_garment + at, g_garment.to(grad_beta_garment.dtype.element_ty), mask=both)
        tl.store(grad_gamma_person + at, (g_person * n).to(grad_gamma_person.dtype.element_ty), mask=both)
        tl.store(grad_gamma_garment + at, (g_garment * n).to(grad_gamma_garment.dtype.element_ty), mask=both)
        sum_dn += tl.where(both, dn, 0.0)
        sum_dn_n += dn * n
        sum_weight += d * n
    some = channel < channels
    into = sums + (batch * tl.num_programs(1) + part) * channels + channel
    step = tl.num_programs(2).to(tl.int64) * tl.num_programs(1) * channels
    tl.store(into, tl.sum(sum_dn, axis=1), mask=some)
    tl.store(into + step, tl.sum(sum_dn_n, axis=1), mask=some)
    tl.store(into + 2 * step, tl.sum(sum_weight, axis=1), mask=some)


@jit
def input_gradient_kernel(
    grad,
    h,
    gamma_person,
    gamma_garment,
    mask,
    mean,
    rstd,
    grad_logit,
    weight,
    sums,  # [3, B, C]: of whole planes
    grad_h,
    channels: constexpr,
    pixels,
    sb,
    sc,
    sp: constexpr,
    RESIDUAL: constexpr,
    LOGIT: constexpr,
    ACC: constexpr,
    BLOCK_P: constexpr,
    BLOCK_C: constexpr,
):
    """dL/dh = rstd·(dn - mean(dn) - n·mean(dn·n)), with dn of `_normalised_gradient`."""
    pixel = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    batch = tl.program_id(2).to(tl.int64)
    some = channel < channels
    both = some[:, None] & (pixel < pixels)[None, :]
    at = batch * sb + channel[:, None] * sc + pixel[None, :] * sp
    n, _gp, _gg, _d, dn, r = _normalised_gradient(
        grad, h, gamma_person, gamma_garment, mask, grad_logit, weight, mean, rstd, batch, channel, pixel,
        channels, pixels, at, both, RESIDUAL, LOGIT, ACC,
    )  # fmt: skip
    plane = sums + batch * channels + channel
    mean_dn = tl.load(plane, mask=some, other=0.0) / pixels
    mean_dn_n = tl.load(plane + tl.num_programs(2) * channels, mask=some, other=0.0) / pixels
    value = r * (dn - mean_dn[:, None] - n * mean_dn_n[:, None])
    tl.store(grad_h + at, value.to(grad_h.dtype.element_ty), mask=both)
