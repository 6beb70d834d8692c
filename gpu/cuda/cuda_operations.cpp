#include "gpu/cuda/cuda_operations.hpp"

#include "gpu/cuda/cuda_stream.hpp"
#include "gpu/cuda/kernels.hpp"
#include "gpu/cuda/weight_stream.hpp"
#include "runtime/base/clock.hpp"

namespace troupe::gpu::cuda {

using protocols::fail;
using protocols::fault;
using protocols::result;

namespace {

constexpr std::int64_t head_elements_max = 128; // what the attention kernels hold in registers and shared memory

/// Bytes of a published matrix that go over before they are converted.
constexpr std::size_t staging_bytes = std::size_t{64} << 20;

cuda_stream& own(stream& on) {
  return static_cast<cuda_stream&>(on);
}

std::int64_t width_of(const tensor_view& view) {
  return view.shape(view.rank() - 1);
}
bool same_rows(const tensor_view& a, const tensor_view& b) {
  return a.rank() == b.rank() && a.shape(0) == b.shape(0) && (a.rank() < 3 || a.shape(1) == b.shape(1));
}
bool same_kind(std::initializer_list<tensor_view> views) {
  for (const tensor_view& each : views)
    if (each.element() != views.begin()->element())
      return false;
  return true;
}

element_kind element_of(published_kind kind) {
  return kind == published_kind::bf16 ? element_kind::bf16 : element_kind::f32;
}

class cuda_operations final : public operations {
public:
  explicit cuda_operations(const gpu::cuda::device& on) : device_(on) {}

  device_kind device() const noexcept override { return device_kind::cuda; }

  result<std::unique_ptr<buffer>> allocate(std::size_t bytes) const override {
    auto memory = cuda_buffer::make(device_, bytes);
    if (!memory)
      return tl::unexpected(memory.error());
    if (bytes == 0)
      return *std::move(memory);
    if (const auto error = cudaMemset((*memory)->data(), 0, bytes); error != cudaSuccess)
      return fail(fault::executor_failed, words_of(error, "cudaMemset"));
    // Our streams do not wait for that one.
    if (auto zeroed =
            await_queue(device_, cudaStreamLegacy, "cudaMemset", base::now() + protocols::limits::device_deadline);
        !zeroed)
      return tl::unexpected(zeroed.error());
    return *std::move(memory);
  }
  result<std::unique_ptr<buffer>> allocate_shared(std::size_t bytes) const override {
    return shared_buffer::make(device_, bytes);
  }
  std::unique_ptr<stream> make_stream() const override { return std::make_unique<cuda_stream>(device_); }

  void upload(stream& on, std::span<const std::byte> from, const tensor_view& to) const override {
    TROUPE_ASSERT("upload", to.contiguous() && from.size() == to.bytes());
    own(on).upload(static_cast<std::byte*>(to.data()), from.data(), from.size(), 1, from.size());
  }
  void download(stream& on, const tensor_view& from, std::span<std::byte> to) const override {
    TROUPE_ASSERT("download", from.contiguous() && to.size() == from.bytes());
    own(on).download(to, static_cast<const std::byte*>(from.data()));
  }
  void upload_published(stream& on, const published_slice& from, const tensor_view& to) const override {
    TROUPE_ASSERT("upload", to.rank() == 2 && to.shape(0) == from.rows && to.shape(1) == from.columns);
    const element_kind published = element_of(from.kind);
    const auto row = static_cast<std::size_t>(from.columns) * bytes_of(published);
    const auto copy_to = [&](void* target, std::int64_t first, std::int64_t rows) {
      own(on).upload(static_cast<std::byte*>(target), from.data + first * from.row_bytes, row,
                     static_cast<std::size_t>(rows), static_cast<std::size_t>(from.row_bytes));
    };
    if (row == 0 || from.rows == 0)
      return;
    if (published == to.element() && to.contiguous())
      return copy_to(to.data(), 0, from.rows);
    const std::int64_t rows_at_once = std::max<std::int64_t>(1, static_cast<std::int64_t>(staging_bytes / row));
    for (std::int64_t first = 0; first < from.rows; first += rows_at_once) {
      const std::int64_t rows = std::min(rows_at_once, from.rows - first);
      void* const staging = own(on).scratch(static_cast<std::size_t>(rows) * row);
      if (staging == nullptr)
        return; // the stream has failed, and says so
      copy_to(staging, first, rows);
      copy(on, {staging, published, device_kind::cuda, {rows, from.columns}}, to.rows(first, rows));
    }
  }

  void copy(stream& on, const tensor_view& from, const tensor_view& to) const override {
    TROUPE_ASSERT("copy", same_rows(from, to) && width_of(from) == width_of(to));
    own(on).enqueue("copy", [&](cudaStream_t queue) { return copy_rows(queue, from, to); });
  }
  void add(stream& on, const tensor_view& to, const tensor_view& what) const override {
    TROUPE_ASSERT("add", same_rows(what, to) && width_of(what) == width_of(to));
    own(on).enqueue("add", [&](cudaStream_t queue) { return add_rows(queue, to, what); });
  }
  void gather(stream& on, const tensor_view& table, const tensor_view& index, const tensor_view& to) const override {
    TROUPE_ASSERT("gather", width_of(table) == width_of(to) && index.shape(0) == to.shape(0));
    own(on).enqueue("gather", [&](cudaStream_t queue) { return gather_rows(queue, table, index, to); });
  }
  void add_weighted(stream& on, const tensor_view& table, const tensor_view& index, const tensor_view& weight,
                    const tensor_view& to) const override {
    TROUPE_ASSERT("gather", width_of(table) == width_of(to) && index.shape(0) == to.shape(0));
    TROUPE_ASSERT("gather", weight.shape(0) == index.shape(0) && weight.shape(1) == index.shape(1));
    own(on).enqueue("add_weighted",
                    [&](cudaStream_t queue) { return add_weighted_rows(queue, table, index, weight, to); });
  }

  void checksum(stream& on, const tensor_view& values, const tensor_view& into) const override {
    TROUPE_ASSERT("checksum", values.contiguous() && into.elements() == 1);
    own(on).enqueue("checksum", [&](cudaStream_t queue) { return add_checksum(queue, values, into); });
  }

  void matmul(stream& on, const tensor_view& x, const tensor_view& weight, const tensor_view& bias,
              const tensor_view& out) const override {
    multiply(own(on), {.x = x, .weight = weight, .bias = bias, .out = out});
  }
  void rms_norm(stream& on, const tensor_view& x, const tensor_view& weight, float epsilon,
                const tensor_view& out) const override {
    TROUPE_ASSERT("norm", same_rows(x, out) && weight.elements() == width_of(x) && width_of(out) == width_of(x));
    own(on).enqueue("rms_norm", [&](cudaStream_t queue) { return cuda::rms_norm(queue, x, weight, epsilon, out); });
  }
  void layer_norm(stream& on, const tensor_view& x, const tensor_view& weight, const tensor_view& bias, float epsilon,
                  const tensor_view& out) const override {
    TROUPE_ASSERT("norm", same_rows(x, out) && weight.elements() == width_of(x) && width_of(out) == width_of(x));
    TROUPE_ASSERT("norm", bias.elements() == width_of(x));
    own(on).enqueue("layer_norm",
                    [&](cudaStream_t queue) { return cuda::layer_norm(queue, x, weight, bias, epsilon, out); });
  }
  void gelu(stream& on, const tensor_view& in_place, gelu_kind kind) const override {
    own(on).enqueue("gelu", [&](cudaStream_t queue) {
      return kind == gelu_kind::tanh ? gelu_tanh(queue, in_place) : gelu_erf(queue, in_place);
    });
  }
  void silu_mul(stream& on, const tensor_view& x, const tensor_view& out) const override {
    const std::int64_t width = width_of(out);
    TROUPE_ASSERT("silu", same_rows(x, out) && width_of(x) == 2 * width);
    own(on).enqueue("silu_mul", [&](cudaStream_t queue) {
      return cuda::silu_mul(queue, x.columns(0, width), x.columns(width, width), out);
    });
  }

  void rotate(stream& on, const tensor_view& heads, const tensor_view& cos, const tensor_view& sin) const override {
    const std::int64_t half = heads.shape(2) / 2;
    TROUPE_ASSERT("rotate", width_of(cos) == half && width_of(sin) == half);
    TROUPE_ASSERT("rotate", cos.shape(0) == heads.shape(0) && sin.shape(0) == heads.shape(0));
    own(on).enqueue("rotate", [&](cudaStream_t queue) { return rotate_heads(queue, heads, cos, sin); });
  }
  void attention(stream& on, const tensor_view& q, const tensor_view& k, const tensor_view& v, float scale,
                 const tensor_view& out) const override {
    TROUPE_ASSERT("attention", same_rows(q, k) && same_rows(q, v) && same_rows(q, out) && same_kind({q, k, v, out}));
    TROUPE_ASSERT("attention", q.shape(2) <= head_elements_max);
    own(on).enqueue("attention", [&](cudaStream_t queue) { return attend_tiles(queue, q, k, v, scale, out); });
  }
  void store_kv(stream& on, const tensor_view& k, const tensor_view& v, const tensor_view& slots,
                const tensor_view& pool) const override {
    TROUPE_ASSERT("kv", k.shape(0) == slots.shape(0) && k.shape(1) == pool.shape(1) && k.shape(2) == pool.shape(4));
    TROUPE_ASSERT("kv", same_rows(k, v) && same_kind({k, v, pool}));
    own(on).enqueue("store_kv", [&](cudaStream_t queue) { return cuda::store_kv(queue, k, v, slots, pool); });
  }
  void paged_attention(stream& on, const tensor_view& q, const tensor_view& pool, const paged_tokens& where,
                       float scale, const tensor_view& out) const override {
    TROUPE_ASSERT("attention", q.shape(1) % pool.shape(1) == 0 && q.shape(2) == pool.shape(4));
    TROUPE_ASSERT("attention", same_rows(q, out) && out.shape(2) == q.shape(2) && same_kind({q, pool, out}));
    TROUPE_ASSERT("attention", q.shape(2) <= head_elements_max);
    const page_tables tables{.first = where.first.i32(),
                             .context = where.context.i32(),
                             .blocks = where.blocks.i32(),
                             .blocks_stride = where.blocks.stride(0),
                             .sequences = static_cast<int>(where.context.shape(0)),
                             .blocks_most = static_cast<int>(where.blocks.shape(1))};
    cuda_stream& queue = own(on);
    const bool some_have_more = q.shape(0) > tables.sequences; // than one new token
    if (tables.sequences > 1 || !some_have_more) {
      const split_plan plan = plan_splits(q, pool, tables, device_.multiprocessors);
      void* const scratch = plan.scratch_bytes ? queue.scratch(plan.scratch_bytes) : nullptr;
      queue.enqueue("paged_attention", [&](cudaStream_t handle) {
        return attend_split(handle, q, pool, tables, scale, plan, scratch, out);
      });
    }
    if (some_have_more)
      queue.enqueue("paged_attention",
                    [&](cudaStream_t handle) { return attend_paged_tiles(handle, q, pool, tables, scale, out); });
  }

  void norm_matmul(stream& on, const normed_rows& x, const tensor_view& weight, const tensor_view& bias,
                   const tensor_view& out) const override {
    multiply_normed(own(on), x, {.weight = weight, .bias = bias, .out = out});
  }
  void norm_matmul_silu(stream& on, const normed_rows& x, const tensor_view& weight, const tensor_view& bias,
                        const tensor_view& out) const override {
    multiply_normed(own(on), x, {.weight = weight, .bias = bias, .out = out, .end = product_end::silu_mul});
  }
  void matmul_add(stream& on, const tensor_view& x, const tensor_view& weight, const tensor_view& bias,
                  const tensor_view& to) const override {
    multiply(own(on), {.x = x, .weight = weight, .bias = bias, .out = to, .end = product_end::add});
  }
  void attend_new(stream& on, const new_heads& heads, const tensor_view& pool, const paged_tokens& where, float scale,
                  const tensor_view& out) const override {
    const std::int64_t queries = out.shape(1);
    const std::int64_t width = out.shape(2);
    const std::int64_t keys = pool.shape(1);
    TROUPE_ASSERT("attention", width_of(heads.joined) == (queries + 2 * keys) * width && width == pool.shape(4));
    cuda_stream& queue = own(on);
    if (heads.joined.shape(0) == where.context.shape(0) && fits_step_attention(heads, pool, out)) {
      if (fits_clusters(pool, out, device_.multiprocessors))
        return queue.enqueue("attend_new", [&](cudaStream_t handle) {
          return attend_in_clusters(handle, heads, pool, where, scale, device_.multiprocessors, out);
        });
      const step_splits plan = plan_step_splits(pool, out, device_.multiprocessors);
      void* const scratch = queue.scratch(plan.scratch_bytes);
      std::uint32_t* const counters = queue.counters(plan.counters);
      return queue.enqueue("attend_new", [&](cudaStream_t handle) {
        return attend_new_tokens(handle, heads, pool, where, scale, plan, scratch, counters, out);
      });
    }
    const tensor_view q = heads.joined.columns(0, queries * width).split_last(queries);
    if (fits_settling(heads, pool))
      queue.enqueue("attend_new", [&](cudaStream_t handle) {
        return settle_heads(handle, heads, static_cast<int>(queries), where.slots, pool);
      });
    else
      settle(on, heads, q, where.slots, pool);
    paged_attention(on, q, pool, where, scale, out);
  }

  void place_rows(stream& on, const batch_rows& rows, std::int64_t block_tokens, const tensor_view& frequencies,
                  const paged_tokens& where, const tensor_view& cos, const tensor_view& sin) const override {
    own(on).enqueue("place_rows", [&](cudaStream_t queue) {
      return cuda::place_rows(queue, rows, static_cast<int>(block_tokens), frequencies, where.slots, where.context, cos,
                              sin);
    });
  }
  void sample(stream& on, const tensor_view& logits, const batch_rows& rows, const tensor_view& chosen) const override {
    void* const scratch = own(on).scratch(sampling_scratch_bytes(logits));
    own(on).enqueue("sample", [&](cudaStream_t queue) { return sample_rows(queue, logits, rows, chosen, scratch); });
  }
  void advance_rows(stream& on, const batch_rows& rows, const tensor_view& context, const tensor_view& chosen,
                    const tensor_view& turn, const tensor_view& told) const override {
    own(on).enqueue("advance_rows",
                    [&](cudaStream_t queue) { return cuda::advance_rows(queue, rows, context, chosen, turn, told); });
  }

private:
  /// What new tokens bring, one operation after the other.
  void settle(stream& on, const new_heads& heads, const tensor_view& q, const tensor_view& slots,
              const tensor_view& pool) const {
    const std::int64_t keys = pool.shape(1);
    const std::int64_t columns = keys * pool.shape(4);
    const std::int64_t first = q.shape(1) * q.shape(2);
    const tensor_view k = heads.joined.columns(first, columns).split_last(keys);
    const tensor_view v = heads.joined.columns(first + columns, columns).split_last(keys);
    if (heads.query_norm) {
      rms_norm(on, q, heads.query_norm, heads.epsilon, q);
      rms_norm(on, k, heads.key_norm, heads.epsilon, k);
    }
    rotate(on, q, heads.cos, heads.sin);
    rotate(on, k, heads.cos, heads.sin);
    store_kv(on, k, v, slots, pool);
  }

  void stream_product(cuda_stream& on, const char* name, const few_rows_product& what) const {
    on.enqueue(name, [&](cudaStream_t handle) { return stream_weights(handle, what, device_.multiprocessors); });
  }

  /// Products of few rows by the kernels that stream the weight, others by cuBLASLt.
  void multiply(cuda_stream& on, const few_rows_product& what) const {
    const tensor_view& x = what.x;
    const tensor_view& weight = what.weight;
    const tensor_view& bias = what.bias;
    const tensor_view& out = what.out;
    TROUPE_ASSERT("matmul", x.rank() == 2 && x.shape(1) == weight.shape(1));
    TROUPE_ASSERT("matmul", out.shape(0) == x.shape(0) && out.shape(1) == weight.shape(0));
    TROUPE_ASSERT("matmul", same_kind({x, weight}));
    TROUPE_ASSERT("matmul", !bias || (bias.shape(0) == weight.shape(0) && same_kind({bias, out})));
    if (x.shape(0) == 0)
      return;
    const bool add = what.end == product_end::add;
    const char* const name = add ? "matmul_add" : "matmul";
    if (fits_weight_stream(x, weight, out))
      return stream_product(on, name, what);
    on.enqueue(name, [&](cudaStream_t handle) {
      if (!add && is_few_rows(x, weight))
        return multiply_few_rows(handle, x, weight, bias, out);
      if (auto words = on.products().multiply(device_, handle, x, weight, bias, out, add); !words.empty())
        on.fail("matmul " + std::to_string(x.shape(0)) + " x " + std::to_string(weight.shape(0)) + " x " +
                std::to_string(x.shape(1)) + ": " + words);
      return cudaSuccess;
    });
  }

  /// The same of rows that are normed before: on the way where that is possible, else in the stream's scratch memory.
  void multiply_normed(cuda_stream& on, const normed_rows& x, few_rows_product what) const {
    const bool paired = what.end == product_end::silu_mul;
    TROUPE_ASSERT("matmul", what.weight.shape(0) == what.out.shape(1) * (paired ? 2 : 1));
    if (x.x.shape(0) == 0)
      return;
    const bool streams =
        fits_weight_stream(x.x, what.weight, what.out) && (!paired || what.out.element() == element_kind::bf16);
    if (streams && fits_normed(x.x)) {
      what.normed = &x;
      return stream_product(on, "norm_matmul", what);
    }
    const std::int64_t rows = x.x.shape(0);
    const tensor_view normed{nullptr, what.weight.element(), device_kind::cuda, {rows, x.x.shape(1)}};
    const std::size_t normed_bytes = (normed.bytes() + 255) / 256 * 256;
    const tensor_view both{nullptr, what.out.element(), device_kind::cuda, {rows, what.weight.shape(0)}};
    auto* const scratch = static_cast<std::byte*>(on.scratch(normed_bytes + (paired && !streams ? both.bytes() : 0)));
    what.x = {scratch, normed.element(), device_kind::cuda, {rows, x.x.shape(1)}};
    rms_norm(on, x.x, x.weight, x.epsilon, what.x);
    if (!paired)
      return multiply(on, what);
    if (streams)
      return stream_product(on, "norm_matmul_silu", what);
    const tensor_view gate_up{scratch + normed_bytes, both.element(), device_kind::cuda, {rows, both.shape(1)}};
    multiply(on, {.x = what.x, .weight = what.weight, .bias = what.bias, .out = gate_up});
    silu_mul(on, gate_up, what.out);
  }

  gpu::cuda::device device_;
};

} // namespace

result<std::shared_ptr<const operations>> make_operations(unsigned device_number) {
  const auto opened = open_device(device_number);
  if (!opened)
    return tl::unexpected(opened.error());
  return std::make_shared<cuda_operations>(*opened);
}

} // namespace troupe::gpu::cuda
