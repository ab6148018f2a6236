"""The Triton kernels of the fused outlook attention."""

# The kernels are in Triton's language, which reads annotations in its own way.
# mypy: ignore-errors

import triton
import triton.language as tl

# The kernels use only built-ins of triton.language, and ``sum`` and ``max``. The tests
# run them under Triton's interpreter, which cannot call Triton's own jitted functions
# (``zeros``, ``cdiv``, ...) if Triton was imported without TRITON_INTERPRET.


@triton.jit
def _split(index, rows, columns):
    """Split flat indices of a grid into image, row and column.

    The image is int64, and so is every offset computed from it.
    """
    image = (index // (rows * columns)).to(tl.int64)
    return image, index // columns % rows, index % columns


@triton.jit
def _inside(position, size):
    return (position >= 0) & (position < size)


@triton.jit
def _locate_cells(
    num_cells,
    height,
    width,
    rows,
    columns,
    heads,
    STRIDE: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    CELLS: tl.constexpr,
):
    """Find this program's cells: squares of stride x stride pixels, one per window.

    Pixels at the same position in their cells are the same queries of windows at the
    same distances. So no lane is spent on a window that does not contain its pixel.

    Returns:
        Row and column of the cells on their grid, (CELLS,); offsets of the head's
        channels in their first pixels, (CELLS, BLOCK_D); offsets of the head in the
        windows of the same rows and columns, (CELLS,), counted in K x K attentions.
    """
    # Heads first: neighboring programs then share the memory sectors that hold the
    # last logits of one head and the first of the next.
    head = tl.program_id(0) % heads
    cell = tl.program_id(0) // heads * CELLS + tl.arange(0, CELLS)
    image, row, column = _split(
        cell, (height + STRIDE - 1) // STRIDE, (width + STRIDE - 1) // STRIDE
    )
    pixel = (image * height + row * STRIDE) * width + column * STRIDE
    first = pixel * (heads * D) + head * D
    window = ((image * rows + row) * columns + column) * heads + head
    # Cells past the end lie far above their image, so they need no mask of their own.
    row = tl.where(cell < num_cells, row, -(2**24))
    return row, column, first[:, None] + tl.arange(0, BLOCK_D)[None, :], window


@triton.jit
def forward_kernel(
    value,
    logits,
    output,
    num_cells,
    height,
    width,
    rows,
    columns,
    heads,
    scale,
    K: tl.constexpr,
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    CELLS: tl.constexpr,
):
    """Compute the output of one head for a run of cells.

    A query of a window belongs to one pixel, so every logit is read once. A value is
    read from the cache by up to K^2 * ceil(K / stride)^2 pixels near each other.
    """
    AREA: tl.constexpr = K * K
    row, column, first, window = _locate_cells(
        num_cells, height, width, rows, columns, heads, STRIDE, D, BLOCK_D, CELLS
    )
    in_head = (tl.arange(0, BLOCK_D) < D)[None, :]
    for py in tl.static_range(STRIDE):
        for px in tl.static_range(STRIDE):
            in_image = _inside(row * STRIDE + py, height)
            in_image &= _inside(column * STRIDE + px, width)
            mixed = tl.full([CELLS, BLOCK_D], 0.0, tl.float32)
            # The queries at this position. Unrolled, this loop would take more
            # registers, and minutes to compile with K = 5.
            for up in range((py + PADDING) % STRIDE, K, STRIDE):
                for left in range((px + PADDING) % STRIDE, K, STRIDE):
                    # Rows and columns from the pixels' cell to their window.
                    below = (py + PADDING - up) // STRIDE
                    right = (px + PADDING - left) // STRIDE
                    exists = in_image & _inside(row + below, rows)
                    exists &= _inside(column + right, columns)
                    query = (window + (below * columns + right) * heads) * AREA
                    keys = logits + (query + up * K + left) * AREA
                    # The window's first pixel.
                    top = (row + below) * STRIDE - PADDING
                    edge = (column + right) * STRIDE - PADDING
                    distance = (below * width + right) * STRIDE
                    distance -= PADDING * (width + 1)
                    corner = value + first + distance * (heads * D)
                    row_logits = ()
                    largest = tl.full([CELLS], float('-inf'), tl.float32)
                    for key in tl.static_range(AREA):
                        logit = tl.load(keys + key, mask=exists, other=0.0)
                        logit = logit.to(tl.float32) * scale
                        largest = tl.maximum(largest, logit)
                        row_logits += (logit,)
                    total = tl.full([CELLS], 0.0, tl.float32)
                    attended = tl.full([CELLS, BLOCK_D], 0.0, tl.float32)
                    for dy in tl.static_range(K):
                        in_rows = exists & _inside(top + dy, height)
                        for dx in tl.static_range(K):
                            weight = tl.exp(row_logits[dy * K + dx] - largest)
                            total += weight
                            seen = in_rows & _inside(edge + dx, width)
                            pixel = tl.load(
                                corner + (dy * width + dx) * (heads * D),
                                mask=seen[:, None] & in_head,
                                other=0.0,
                            )
                            attended += weight[:, None] * pixel.to(tl.float32)
                    mixed += attended * (1.0 / total)[:, None]
            tl.store(
                output + first + (py * width + px) * (heads * D),
                mixed.to(output.dtype.element_ty),
                mask=in_image[:, None] & in_head,
            )


@triton.jit
def grad_logits_kernel(
    value,
    logits,
    grad_output,
    grad_logits,
    log_sums,
    num_windows,
    height,
    width,
    rows,
    columns,
    heads,
    scale,
    K: tl.constexpr,
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_AREA: tl.constexpr,
    WINDOWS: tl.constexpr,
):
    """Compute the gradients of one head's logits for a run of windows.

    Also writes the logarithms of the softmax's sums. With them, the gradient of the
    values reads one column of the attention weights instead of all.
    """
    AREA: tl.constexpr = K * K
    head = tl.program_id(0) % heads
    window = tl.program_id(0) // heads * WINDOWS + tl.arange(0, WINDOWS)
    image, row, column = _split(window, rows, columns)
    exists = window < num_windows
    place = tl.arange(0, BLOCK_AREA)
    channel = tl.arange(0, BLOCK_D)

    # The pixels of the windows, as queries and as keys: (WINDOWS, BLOCK_AREA, BLOCK_D).
    y = row[:, None] * STRIDE - PADDING + (place // K)[None, :]
    x = column[:, None] * STRIDE - PADDING + (place % K)[None, :]
    seen = _inside(y, height) & _inside(x, width)
    seen &= exists[:, None] & (place < AREA)[None, :]
    pixel = (image[:, None] * height + y) * width + x
    pixel = (pixel * (heads * D) + head * D)[:, :, None] + channel[None, None, :]
    seen = seen[:, :, None] & (channel < D)[None, None, :]
    keys = tl.load(value + pixel, mask=seen, other=0.0)
    grads = tl.load(grad_output + pixel, mask=seen, other=0.0)
    # (WINDOWS, query, key), like everything below.
    grad_attention = tl.dot(grads, tl.permute(keys, [0, 2, 1]), input_precision='ieee')

    attention = window.to(tl.int64) * heads + head
    queries = attention[:, None] * AREA + place[None, :]
    is_query = exists[:, None] & (place < AREA)[None, :]
    elements = queries[:, :, None] * AREA + place[None, None, :]
    is_key = (place < AREA)[None, None, :]
    is_element = is_query[:, :, None] & is_key
    logit = tl.load(logits + elements, mask=is_element, other=0.0).to(tl.float32)
    logit = tl.where(is_key, logit * scale, float('-inf'))
    largest = tl.max(logit, axis=2)
    weights = tl.exp(logit - largest[:, :, None])
    total = tl.sum(weights, axis=2)
    tl.store(log_sums + queries, largest + tl.log(total), mask=is_query)
    weights = weights / total[:, :, None]
    mean = tl.sum(weights * grad_attention, axis=2)
    grad = scale * weights * (grad_attention - mean[:, :, None])
    tl.store(
        grad_logits + elements, grad.to(grad_logits.dtype.element_ty), mask=is_element
    )


@triton.jit
def grad_value_kernel(
    logits,
    log_sums,
    grad_output,
    grad_value,
    num_cells,
    height,
    width,
    rows,
    columns,
    heads,
    scale,
    K: tl.constexpr,
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    CELLS: tl.constexpr,
):
    """Compute the gradients of one head's values for a run of cells.

    The forward pass with queries and keys exchanged: a pixel is a key of its windows
    and sums over all their queries. Every logit is read once here too.
    """
    AREA: tl.constexpr = K * K
    row, column, first, window = _locate_cells(
        num_cells, height, width, rows, columns, heads, STRIDE, D, BLOCK_D, CELLS
    )
    in_head = (tl.arange(0, BLOCK_D) < D)[None, :]
    for py in tl.static_range(STRIDE):
        for px in tl.static_range(STRIDE):
            in_image = _inside(row * STRIDE + py, height)
            in_image &= _inside(column * STRIDE + px, width)
            gathered = tl.full([CELLS, BLOCK_D], 0.0, tl.float32)
            for up in range((py + PADDING) % STRIDE, K, STRIDE):
                for left in range((px + PADDING) % STRIDE, K, STRIDE):
                    below = (py + PADDING - up) // STRIDE
                    right = (px + PADDING - left) // STRIDE
                    exists = in_image & _inside(row + below, rows)
                    exists &= _inside(column + right, columns)
                    queries = (window + (below * columns + right) * heads) * AREA
                    top = (row + below) * STRIDE - PADDING
                    edge = (column + right) * STRIDE - PADDING
                    distance = (below * width + right) * STRIDE
                    distance -= PADDING * (width + 1)
                    corner = grad_output + first + distance * (heads * D)
                    for dy in tl.static_range(K):
                        in_rows = exists & _inside(top + dy, height)
                        for dx in tl.static_range(K):
                            seen = in_rows & _inside(edge + dx, width)
                            query = queries + dy * K + dx
                            logit = tl.load(
                                logits + query * AREA + up * K + left,
                                mask=seen,
                                other=0.0,
                            ).to(tl.float32)
                            log_sum = tl.load(log_sums + query, mask=seen, other=0.0)
                            weight = tl.exp(logit * scale - log_sum)
                            pixel = tl.load(
                                corner + (dy * width + dx) * (heads * D),
                                mask=seen[:, None] & in_head,
                                other=0.0,
                            )
                            gathered += weight[:, None] * pixel.to(tl.float32)
            tl.store(
                grad_value + first + (py * width + px) * (heads * D),
                gathered.to(grad_value.dtype.element_ty),
                mask=in_image[:, None] & in_head,
            )
