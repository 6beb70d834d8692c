#include "gpu/cpu/cpu_operations.hpp"

#include <bit>
#include <cmath>
#include <cstring>
#include <new>

#include "gpu/cpu/attention.hpp"
#include "gpu/cpu/batch.hpp"
#include "gpu/cpu/cpu_stream.hpp"
#include "gpu/cpu/kernels.hpp"
#include "gpu/cpu/product.hpp"
#include "gpu/cpu/widened.hpp"

namespace troupe::gpu::cpu {

using protocols::fail;
using protocols::fault;
using protocols::result;

namespace {

constexpr std::align_val_t alignment{64};

class cpu_buffer final : public buffer {
public:
  explicit cpu_buffer(std::size_t bytes)
      : data_(static_cast<std::byte*>(::operator new(bytes, alignment, std::nothrow))), bytes_(bytes) {
    if (data_)
      std::memset(data_, 0, bytes);
  }
  ~cpu_buffer() override { ::operator delete(data_, alignment); }
  std::byte* data() const noexcept override { return data_; }
  std::size_t bytes() const noexcept override { return bytes_; }

private:
  std::byte* data_;
  std::size_t bytes_;
};

cpu_stream& own(stream& on) {
  return static_cast<cpu_stream&>(on);
}

/// Calls `body` with the pointers to each row (every dimension but the last) of views of one shape.
template <class Body, class... Views>
void for_rows(Body body, const tensor_view& like, const Views&... views) {
  TROUPE_ASSERT("rows", ((views.rank() == like.rank() && views.shape(like.rank() - 2) == like.shape(like.rank() - 2) &&
                          views.shape(0) == like.shape(0)) &&
                         ...));
  if (like.rank() == 2) {
    for (std::int64_t i = 0; i < like.shape(0); ++i)
      body(like.f32() + i * like.stride(0), (views.f32() + i * views.stride(0))...);
    return;
  }
  TROUPE_ASSERT("rows", like.rank() == 3);
  for (std::int64_t i = 0; i < like.shape(0); ++i)
    for (std::int64_t j = 0; j < like.shape(1); ++j)
      body(like.f32() + i * like.stride(0) + j * like.stride(1),
           (views.f32() + i * views.stride(0) + j * views.stride(1))...);
}

std::int64_t width_of(const tensor_view& view) {
  return view.shape(view.rank() - 1);
}

class cpu_operations final : public operations {
public:
  explicit cpu_operations(bool captures) : captures_(captures) {}

  device_kind device() const noexcept override { return device_kind::cpu; }

  result<std::unique_ptr<buffer>> allocate(std::size_t bytes) const override {
    auto memory = std::make_unique<cpu_buffer>(bytes);
    if (!memory->data())
      return fail(fault::no_memory, std::to_string(bytes) + " bytes");
    return memory;
  }
  result<std::unique_ptr<buffer>> allocate_shared(std::size_t bytes) const override { return allocate(bytes); }
  std::unique_ptr<stream> make_stream() const override { return std::make_unique<cpu_stream>(captures_); }

  void upload(stream&, std::span<const std::byte> from, const tensor_view& to) const override {
    TROUPE_ASSERT("upload", to.contiguous() && from.size() == to.bytes());
    if (!from.empty())
      std::memcpy(to.data(), from.data(), from.size());
  }
  void download(stream&, const tensor_view& from, std::span<std::byte> to) const override {
    TROUPE_ASSERT("download", from.contiguous() && to.size() == from.bytes());
    if (!to.empty())
      std::memcpy(to.data(), from.data(), to.size());
  }
  void upload_published(stream&, const published_slice& from, const tensor_view& into) const override {
    TROUPE_ASSERT("upload", into.rank() == 2 && into.shape(0) == from.rows && into.shape(1) == from.columns);
    const widened rounded{into, access::write};
    const tensor_view& to = rounded.view();
    for (std::int64_t row = 0; row < from.rows; ++row) {
      const std::byte* const line = from.data + row * from.row_bytes;
      float* const out = to.f32() + row * to.stride(0);
      switch (from.kind) {
      case published_kind::f32:
        std::memcpy(out, line, static_cast<std::size_t>(from.columns) * sizeof(float));
        break;
      case published_kind::bf16:
        for (std::int64_t i = 0; i < from.columns; ++i) {
          std::uint16_t high = 0;
          std::memcpy(&high, line + 2 * i, sizeof high);
          out[i] = widen(bfloat16{high});
        }
        break;
      }
    }
  }

  void copy(stream&, const tensor_view& from, const tensor_view& to) const override {
    TROUPE_ASSERT("copy", width_of(from) == width_of(to));
    const widened source{from, access::read};
    const widened target{to, access::write};
    const auto bytes = static_cast<std::size_t>(width_of(to)) * sizeof(float);
    for_rows([&](float* out, const float* in) { std::memcpy(out, in, bytes); }, target.view(), source.view());
  }
  void add(stream&, const tensor_view& to, const tensor_view& what) const override {
    TROUPE_ASSERT("add", width_of(what) == width_of(to));
    const widened sum{to, access::change};
    const widened term{what, access::read};
    for_rows([&](float* out, const float* in) { run_.add(out, in, width_of(to)); }, sum.view(), term.view());
  }
  void gather(stream& on, const tensor_view& table, const tensor_view& index, const tensor_view& to) const override {
    TROUPE_ASSERT("gather", width_of(table) == width_of(to) && index.shape(0) == to.shape(0));
    for (std::int64_t i = 0; i < to.shape(0); ++i) {
      const std::int32_t row = index.i32()[i];
      TROUPE_ASSERT("gather", row >= 0 && row < table.shape(0));
      copy(on, table.rows(row, 1), to.rows(i, 1));
    }
  }
  void add_weighted(stream&, const tensor_view& table, const tensor_view& index, const tensor_view& weight,
                    const tensor_view& to) const override {
    TROUPE_ASSERT("gather", width_of(table) == width_of(to) && index.shape(0) == to.shape(0));
    const widened sum{to, access::change};
    for (std::int64_t i = 0; i < to.shape(0); ++i)
      for (std::int64_t j = 0; j < index.shape(1); ++j) {
        const std::int32_t row = index.i32()[i * index.stride(0) + j];
        TROUPE_ASSERT("gather", row >= 0 && row < table.shape(0));
        const widened from{table.rows(row, 1), access::read};
        run_.add_scaled(sum.view().f32() + i * sum.view().stride(0), from.view().f32(),
                        weight.f32()[i * weight.stride(0) + j], width_of(to));
      }
  }

  void checksum(stream&, const tensor_view& values, const tensor_view& into) const override {
    TROUPE_ASSERT("checksum", values.contiguous() && into.elements() == 1);
    std::uint32_t sum = 0;
    for (std::int64_t i = 0; i < values.elements(); ++i)
      sum += (2 * static_cast<std::uint32_t>(i) + 1) * std::bit_cast<std::uint32_t>(values.f32()[i]);
    *into.i32() = std::bit_cast<std::int32_t>(std::bit_cast<std::uint32_t>(*into.i32()) + sum);
  }

  void matmul(stream&, const tensor_view& x_as_is, const tensor_view& weight_as_is, const tensor_view& bias_as_is,
              const tensor_view& out_as_is) const override {
    multiply_into(x_as_is, weight_as_is, bias_as_is, out_as_is, false);
  }
  void rms_norm(stream&, const tensor_view& x, const tensor_view& weight, float epsilon,
                const tensor_view& out) const override {
    TROUPE_ASSERT("norm", weight.elements() == width_of(x) && width_of(out) == width_of(x));
    const widened source{x, access::read};
    const widened target{out, access::write};
    for_rows([&](float* to, const float* from) { run_.rms_norm(from, weight.f32(), epsilon, width_of(x), to); },
             target.view(), source.view());
  }
  void layer_norm(stream&, const tensor_view& x, const tensor_view& weight, const tensor_view& bias, float epsilon,
                  const tensor_view& out) const override {
    TROUPE_ASSERT("norm", weight.elements() == width_of(x) && bias.elements() == width_of(x));
    TROUPE_ASSERT("norm", width_of(out) == width_of(x));
    const widened source{x, access::read};
    const widened target{out, access::write};
    for_rows([&](float* to,
                 const float* from) { run_.layer_norm(from, weight.f32(), bias.f32(), epsilon, width_of(x), to); },
             target.view(), source.view());
  }
  void gelu(stream&, const tensor_view& in_place, gelu_kind kind) const override {
    const std::int64_t width = width_of(in_place);
    const widened rows{in_place, access::change};
    switch (kind) {
    case gelu_kind::tanh:
      for_rows([&](float* row) { run_.gelu_tanh(row, width); }, rows.view());
      break;
    case gelu_kind::erf:
      for_rows(
          [&](float* row) {
            for (std::int64_t i = 0; i < width; ++i)
              row[i] *= 0.5F * (1.0F + std::erf(row[i] * 0.70710678F));
          },
          rows.view());
      break;
    }
  }
  void silu_mul(stream&, const tensor_view& x, const tensor_view& out) const override {
    const std::int64_t width = width_of(out);
    TROUPE_ASSERT("silu", width_of(x) == 2 * width);
    const widened source{x, access::read};
    const widened target{out, access::write};
    for_rows([&](float* to, const float* from) { run_.silu_mul(from, from + width, width, to); }, target.view(),
             source.view());
  }

  void rotate(stream&, const tensor_view& as_is, const tensor_view& cos, const tensor_view& sin) const override {
    const widened turned{as_is, access::change};
    const tensor_view& heads = turned.view();
    const std::int64_t half = heads.shape(2) / 2;
    TROUPE_ASSERT("rotate", width_of(cos) == half && width_of(sin) == half && cos.shape(0) == heads.shape(0));
    for (std::int64_t token = 0; token < heads.shape(0); ++token)
      for (std::int64_t head = 0; head < heads.shape(1); ++head)
        run_.rotate(heads.f32() + token * heads.stride(0) + head * heads.stride(1), cos.f32() + token * cos.stride(0),
                    sin.f32() + token * sin.stride(0), half);
  }
  void attention(stream& on, const tensor_view& q, const tensor_view& k, const tensor_view& v, float scale,
                 const tensor_view& out) const override {
    const widened queries{q, access::read};
    const widened keys{k, access::read};
    const widened values{v, access::read};
    const widened answers{out, access::write};
    attend(own(on), queries.view(), keys.view(), values.view(), scale, answers.view());
  }
  void store_kv(stream&, const tensor_view& k, const tensor_view& v, const tensor_view& slots,
                const tensor_view& pool) const override {
    cpu::store_kv(k, v, slots, pool);
  }
  void paged_attention(stream& on, const tensor_view& q, const tensor_view& pool, const paged_tokens& where,
                       float scale, const tensor_view& out) const override {
    const widened queries{q, access::read};
    const widened answers{out, access::change}; // rows of nobody stay as they are
    attend_paged(own(on), queries.view(), pool, where, scale, answers.view());
  }

  void norm_matmul(stream& on, const normed_rows& x, const tensor_view& weight, const tensor_view& bias,
                   const tensor_view& out) const override {
    const auto floats = own(on).scratch(static_cast<std::size_t>(x.x.elements()));
    const tensor_view normed{floats.data(), weight.element(), device_kind::cpu, {x.x.shape(0), x.x.shape(1)}};
    rms_norm(on, x.x, x.weight, x.epsilon, normed);
    matmul(on, normed, weight, bias, out);
  }
  void norm_matmul_silu(stream& on, const normed_rows& x, const tensor_view& weight, const tensor_view& bias,
                        const tensor_view& out) const override {
    const std::int64_t rows = x.x.shape(0);
    const auto floats = own(on).scratch(static_cast<std::size_t>(x.x.elements() + rows * weight.shape(0)));
    const tensor_view normed{floats.data(), weight.element(), device_kind::cpu, {rows, x.x.shape(1)}};
    const tensor_view both{floats.data() + x.x.elements(), out.element(), device_kind::cpu, {rows, weight.shape(0)}};
    rms_norm(on, x.x, x.weight, x.epsilon, normed);
    matmul(on, normed, weight, bias, both);
    silu_mul(on, both, out);
  }
  void matmul_add(stream&, const tensor_view& x, const tensor_view& weight, const tensor_view& bias,
                  const tensor_view& to) const override {
    multiply_into(x, weight, bias, to, true);
  }
  void attend_new(stream& on, const new_heads& heads, const tensor_view& pool, const paged_tokens& where, float scale,
                  const tensor_view& out) const override {
    const std::int64_t queries = out.shape(1);
    const std::int64_t width = out.shape(2);
    const std::int64_t keys = pool.shape(1);
    const tensor_view q = heads.joined.columns(0, queries * width).split_last(queries);
    const tensor_view k = heads.joined.columns(queries * width, keys * width).split_last(keys);
    const tensor_view v = heads.joined.columns((queries + keys) * width, keys * width).split_last(keys);
    if (heads.query_norm) {
      rms_norm(on, q, heads.query_norm, heads.epsilon, q);
      rms_norm(on, k, heads.key_norm, heads.epsilon, k);
    }
    rotate(on, q, heads.cos, heads.sin);
    rotate(on, k, heads.cos, heads.sin);
    store_kv(on, k, v, where.slots, pool);
    paged_attention(on, q, pool, where, scale, out);
  }

  void place_rows(stream&, const batch_rows& rows, std::int64_t block_tokens, const tensor_view& frequencies,
                  const paged_tokens& where, const tensor_view& cos, const tensor_view& sin) const override {
    cpu::place_rows(rows, block_tokens, frequencies, where, cos, sin);
  }
  void sample(stream&, const tensor_view& logits, const batch_rows& rows, const tensor_view& chosen) const override {
    cpu::sample(logits, rows, chosen);
  }
  void advance_rows(stream&, const batch_rows& rows, const tensor_view& context, const tensor_view& chosen,
                    const tensor_view& turn, const tensor_view& told) const override {
    cpu::advance_rows(rows, context, chosen, turn, told);
  }

private:
  /// out [m, n] = (out +) x . weight transposed + bias
  static void multiply_into(const tensor_view& x_as_is, const tensor_view& weight_as_is, const tensor_view& bias_as_is,
                            const tensor_view& out_as_is, bool add) {
    const widened left{x_as_is, access::read};
    const widened right{weight_as_is, access::read};
    const widened start{bias_as_is, access::read};
    const widened product{out_as_is, add ? access::change : access::write};
    const tensor_view& x = left.view();
    const tensor_view& weight = right.view();
    const tensor_view& bias = start.view();
    const tensor_view& out = product.view();
    const std::int64_t m = x.shape(0);
    const std::int64_t n = weight.shape(0);
    const std::int64_t k = weight.shape(1);
    TROUPE_ASSERT("matmul", x.rank() == 2 && x.shape(1) == k && out.shape(0) == m && out.shape(1) == n);
    TROUPE_ASSERT("matmul", !bias || bias.shape(0) == n);
    if (m == 0)
      return;
    if (bias)
      for (std::int64_t row = 0; row < m; ++row) {
        float* const to = out.f32() + row * out.stride(0);
        if (add)
          best_kernels().add(to, bias.f32(), n);
        else
          std::memcpy(to, bias.f32(), static_cast<std::size_t>(n) * sizeof(float));
      }
    multiply({.m = m, .n = n, .k = k, .right_transposed = true, .accumulate = add || bias}, x.f32(), x.stride(0),
             weight.f32(), weight.stride(0), out.f32(), out.stride(0));
  }

  const kernels& run_ = best_kernels();
  bool captures_;
};

} // namespace

std::shared_ptr<const operations> make_operations(bool captures) {
  return std::make_shared<cpu_operations>(captures);
}

} // namespace troupe::gpu::cpu
