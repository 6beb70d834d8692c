// The bodies of `kernels`, included by one source for each instruction set, which names it in TROUPE_KERNELS, gives the
// floats of its widest register in TROUPE_LANES and opens its target. Nothing from a header may be instantiated here:
// the linker would keep one copy of it for all machines, perhaps this one.

namespace troupe::gpu::cpu::detail {
namespace {

constexpr std::int64_t lanes = TROUPE_LANES;
using vec = float __attribute__((vector_size(TROUPE_LANES * 4)));
using ivec = std::int32_t __attribute__((vector_size(TROUPE_LANES * 4)));
using loose = float __attribute__((vector_size(TROUPE_LANES * 4), aligned(4), may_alias));

inline vec load(const float* from) {
  return *reinterpret_cast<const loose*>(from);
}
inline void store(float* to, vec value) {
  *reinterpret_cast<loose*>(to) = value;
}
inline vec all(float value) {
  return vec{} + value;
}
inline vec larger(vec a, vec b) {
  return a > b ? a : b;
}

/// Pairwise, halves onto halves: short chains, and less rounding than one after another.
template <std::int64_t Width = lanes>
inline float sum(vec value) {
  if constexpr (Width == 1) {
    return value[0];
  } else {
    vec upper{};
    for (std::int64_t i = 0; i < lanes; ++i)
      upper[i] = value[i ^ (Width / 2)];
    return sum<Width / 2>(value + upper);
  }
}
inline float largest(const float* row, std::int64_t n) {
  float most = row[0];
  std::int64_t i = 0;
  if (n >= lanes) {
    vec each = load(row);
    for (i = lanes; i + lanes <= n; i += lanes)
      each = larger(each, load(row + i));
    for (std::int64_t j = 0; j < lanes; ++j)
      most = each[j] > most ? each[j] : most;
  }
  for (; i < n; ++i)
    most = row[i] > most ? row[i] : most;
  return most;
}

/// e^x within 2 units of the last place; beyond the range of f32 it stays at the range's end.
inline vec exponential(vec x) {
  x = larger(x, all(-87.3F));
  x = x < all(88.0F) ? x : all(88.0F);
  const vec rounder = all(12582912.0F); // adding 1.5 x 2^23 rounds to an integer in the low bits
  const vec power = (x * 1.44269504F + rounder) - rounder;
  const vec rest = (x - power * 0.693359375F) + power * 2.12194440e-4F;
  vec p = all(1.9875691500e-4F);
  p = p * rest + 1.3981999507e-3F;
  p = p * rest + 8.3334519073e-3F;
  p = p * rest + 4.1665795894e-2F;
  p = p * rest + 1.6666665459e-1F;
  p = p * rest + 5.0000001201e-1F;
  const vec mantissa = p * rest * rest + rest + 1.0F;
  const ivec bits = (__builtin_convertvector(power, ivec) + 127) << 23;
  return mantissa * __builtin_bit_cast(vec, bits);
}

/// Runs `body` over n floats: whole registers, then one register filled up with zeros.
template <class Body>
inline void over(std::int64_t n, Body body) {
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    body(i, lanes);
  if (i < n)
    body(i, n - i);
}
inline vec load_some(const float* from, std::int64_t count) {
  if (count == lanes)
    return load(from);
  vec value{};
  for (std::int64_t i = 0; i < count; ++i)
    value[i] = from[i];
  return value;
}
inline void store_some(float* to, vec value, std::int64_t count) {
  if (count == lanes)
    return store(to, value);
  for (std::int64_t i = 0; i < count; ++i)
    to[i] = value[i];
}

/// R rows of x against C rows of w.
template <int R, int C>
inline void dot_tile(const float* x, std::int64_t x_stride, const float* w, std::int64_t w_stride, std::int64_t k,
                     float* out, std::int64_t out_stride) {
  vec total[R][C] = {};
  std::int64_t i = 0;
  for (; i + lanes <= k; i += lanes) {
    vec left[R];
    for (int r = 0; r < R; ++r)
      left[r] = load(x + r * x_stride + i);
    for (int c = 0; c < C; ++c) {
      const vec right = load(w + c * w_stride + i);
      for (int r = 0; r < R; ++r)
        total[r][c] += left[r] * right;
    }
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) {
      float value = sum(total[r][c]);
      for (std::int64_t j = i; j < k; ++j)
        value += x[r * x_stride + j] * w[c * w_stride + j];
      out[r * out_stride + c] = value;
    }
}

template <int R>
inline void dot_few(const float* x, std::int64_t x_stride, const float* w, std::int64_t w_stride, std::int64_t n,
                    std::int64_t k, float* out, std::int64_t out_stride) {
  constexpr int wide = R <= 2 ? 4 : 2; // as many sums as registers hold
  std::int64_t i = 0;
  for (; i + wide <= n; i += wide)
    dot_tile<R, wide>(x, x_stride, w + i * w_stride, w_stride, k, out + i, out_stride);
  for (; i < n; ++i)
    dot_tile<R, 1>(x, x_stride, w + i * w_stride, w_stride, k, out + i, out_stride);
}

void dot_rows(const float* x, std::int64_t x_stride, std::int64_t rows, const float* w, std::int64_t w_stride,
              std::int64_t n, std::int64_t k, float* out, std::int64_t out_stride) {
  for (; rows >= 4; rows -= 4, x += 4 * x_stride, out += 4 * out_stride)
    dot_few<4>(x, x_stride, w, w_stride, n, k, out, out_stride);
  if (rows == 3)
    dot_few<3>(x, x_stride, w, w_stride, n, k, out, out_stride);
  else if (rows == 2)
    dot_few<2>(x, x_stride, w, w_stride, n, k, out, out_stride);
  else if (rows == 1)
    dot_few<1>(x, x_stride, w, w_stride, n, k, out, out_stride);
}

/// C registers of R rows: R x C independent sums, so that none waits for the one before.
template <int R, int C>
inline void weigh_tile(const float* p, std::int64_t p_stride, const float* v, std::int64_t n, std::int64_t width,
                       float* out, std::int64_t out_stride) {
  vec total[R][C];
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c)
      total[r][c] = load(out + r * out_stride + c * lanes);
  for (std::int64_t j = 0; j < n; ++j)
    for (int c = 0; c < C; ++c) {
      const vec value = load(v + j * width + c * lanes);
      for (int r = 0; r < R; ++r)
        total[r][c] += value * p[r * p_stride + j];
    }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c)
      store(out + r * out_stride + c * lanes, total[r][c]);
}

template <int R>
inline void weigh_few(const float* p, std::int64_t p_stride, const float* v, std::int64_t n, std::int64_t width,
                      float* out, std::int64_t out_stride) {
  std::int64_t at = 0;
  for (; at + 2 * lanes <= width; at += 2 * lanes)
    weigh_tile<R, 2>(p, p_stride, v + at, n, width, out + at, out_stride);
  for (; at + lanes <= width; at += lanes)
    weigh_tile<R, 1>(p, p_stride, v + at, n, width, out + at, out_stride);
  for (; at < width; ++at)
    for (int r = 0; r < R; ++r)
      for (std::int64_t j = 0; j < n; ++j)
        out[r * out_stride + at] += p[r * p_stride + j] * v[j * width + at];
}

void weigh_rows(const float* p, std::int64_t p_stride, std::int64_t rows, const float* v, std::int64_t n,
                std::int64_t width, float* out, std::int64_t out_stride) {
  for (; rows >= 2; rows -= 2, p += 2 * p_stride, out += 2 * out_stride)
    weigh_few<2>(p, p_stride, v, n, width, out, out_stride);
  if (rows == 1)
    weigh_few<1>(p, p_stride, v, n, width, out, out_stride);
}

void softmax(float* row, std::int64_t n, float scale) {
  const float most = largest(row, n);
  vec total{};
  float total_rest = 0.0F;
  over(n, [&](std::int64_t at, std::int64_t count) {
    const vec value = exponential((load_some(row + at, count) - most) * scale);
    store_some(row + at, value, count);
    if (count == lanes)
      total += value;
    else
      for (std::int64_t i = 0; i < count; ++i)
        total_rest += value[i];
  });
  const float factor = 1.0F / (sum(total) + total_rest);
  over(n,
       [&](std::int64_t at, std::int64_t count) { store_some(row + at, load_some(row + at, count) * factor, count); });
}

void rms_norm(const float* x, const float* weight, float epsilon, std::int64_t n, float* out) {
  vec squares{};
  over(n, [&](std::int64_t at, std::int64_t count) {
    const vec value = load_some(x + at, count);
    squares += value * value;
  });
  const float factor = 1.0F / __builtin_sqrtf(sum(squares) / static_cast<float>(n) + epsilon);
  over(n, [&](std::int64_t at, std::int64_t count) {
    store_some(out + at, load_some(x + at, count) * factor * load_some(weight + at, count), count);
  });
}

void layer_norm(const float* x, const float* weight, const float* bias, float epsilon, std::int64_t n, float* out) {
  vec total{};
  over(n, [&](std::int64_t at, std::int64_t count) { total += load_some(x + at, count); });
  const float mean = sum(total) / static_cast<float>(n);
  vec squares{};
  float squares_rest = 0.0F;
  over(n, [&](std::int64_t at, std::int64_t count) {
    const vec value = load_some(x + at, count) - mean;
    if (count == lanes)
      squares += value * value;
    else
      for (std::int64_t i = 0; i < count; ++i)
        squares_rest += value[i] * value[i];
  });
  const float factor = 1.0F / __builtin_sqrtf((sum(squares) + squares_rest) / static_cast<float>(n) + epsilon);
  over(n, [&](std::int64_t at, std::int64_t count) {
    const vec value = (load_some(x + at, count) - mean) * factor;
    store_some(out + at, value * load_some(weight + at, count) + load_some(bias + at, count), count);
  });
}

/// x / 2 (1 + tanh u) with u = sqrt(2 / pi) (x + 0.044715 x^3), which is x / (1 + e^(-2u)).
void gelu_tanh(float* x, std::int64_t n) {
  over(n, [&](std::int64_t at, std::int64_t count) {
    const vec value = load_some(x + at, count);
    const vec inner = (value + value * value * value * 0.044715F) * -1.5957691216F;
    store_some(x + at, value / (exponential(inner) + 1.0F), count);
  });
}

void silu_mul(const float* gate, const float* up, std::int64_t n, float* out) {
  over(n, [&](std::int64_t at, std::int64_t count) {
    const vec value = load_some(gate + at, count);
    store_some(out + at, value / (exponential(-value) + 1.0F) * load_some(up + at, count), count);
  });
}

void add(float* to, const float* what, std::int64_t n) {
  over(n, [&](std::int64_t at, std::int64_t count) {
    store_some(to + at, load_some(to + at, count) + load_some(what + at, count), count);
  });
}

void add_scaled(float* to, const float* what, float factor, std::int64_t n) {
  over(n, [&](std::int64_t at, std::int64_t count) {
    store_some(to + at, load_some(to + at, count) + load_some(what + at, count) * factor, count);
  });
}

void rotate(float* head, const float* cos, const float* sin, std::int64_t half) {
  over(half, [&](std::int64_t at, std::int64_t count) {
    const vec a = load_some(head + at, count);
    const vec b = load_some(head + half + at, count);
    const vec c = load_some(cos + at, count);
    const vec s = load_some(sin + at, count);
    store_some(head + at, a * c - b * s, count);
    store_some(head + half + at, b * c + a * s, count);
  });
}

} // namespace

const kernels TROUPE_KERNELS{.name = TROUPE_KERNELS_NAME,
                             .dot_rows = dot_rows,
                             .weigh_rows = weigh_rows,
                             .softmax = softmax,
                             .rms_norm = rms_norm,
                             .layer_norm = layer_norm,
                             .gelu_tanh = gelu_tanh,
                             .silu_mul = silu_mul,
                             .add = add,
                             .add_scaled = add_scaled,
                             .rotate = rotate};

} // namespace troupe::gpu::cpu::detail
