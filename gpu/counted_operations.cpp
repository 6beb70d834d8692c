#include "gpu/counted_operations.hpp"

#include <utility>

#include "runtime/base/flight_recorder.hpp"

namespace troupe::gpu {

namespace {

class counted_operations final : public operations {
public:
  explicit counted_operations(std::shared_ptr<const operations> with) : with_(std::move(with)) {}

  device_kind device() const noexcept override { return with_->device(); }
  protocols::result<std::unique_ptr<buffer>> allocate(std::size_t bytes) const override {
    return with_->allocate(bytes);
  }
  protocols::result<std::unique_ptr<buffer>> allocate_shared(std::size_t bytes) const override {
    return with_->allocate_shared(bytes);
  }
  std::unique_ptr<stream> make_stream() const override { return with_->make_stream(); }

  void upload(stream& on, std::span<const std::byte> from, const tensor_view& to) const override {
    with_->upload(on, from, to);
    count();
  }
  void download(stream& on, const tensor_view& from, std::span<std::byte> to) const override {
    with_->download(on, from, to);
    count();
  }
  void upload_published(stream& on, const published_slice& from, const tensor_view& to) const override {
    with_->upload_published(on, from, to);
    count();
  }
  void copy(stream& on, const tensor_view& from, const tensor_view& to) const override {
    with_->copy(on, from, to);
    count();
  }
  void add(stream& on, const tensor_view& to, const tensor_view& what) const override {
    with_->add(on, to, what);
    count();
  }
  void gather(stream& on, const tensor_view& table, const tensor_view& index, const tensor_view& to) const override {
    with_->gather(on, table, index, to);
    count();
  }
  void add_weighted(stream& on, const tensor_view& table, const tensor_view& index, const tensor_view& weight,
                    const tensor_view& to) const override {
    with_->add_weighted(on, table, index, weight, to);
    count();
  }
  void matmul(stream& on, const tensor_view& x, const tensor_view& weight, const tensor_view& bias,
              const tensor_view& out) const override {
    with_->matmul(on, x, weight, bias, out);
    count();
  }
  void rms_norm(stream& on, const tensor_view& x, const tensor_view& weight, float epsilon,
                const tensor_view& out) const override {
    with_->rms_norm(on, x, weight, epsilon, out);
    count();
  }
  void layer_norm(stream& on, const tensor_view& x, const tensor_view& weight, const tensor_view& bias, float epsilon,
                  const tensor_view& out) const override {
    with_->layer_norm(on, x, weight, bias, epsilon, out);
    count();
  }
  void gelu(stream& on, const tensor_view& in_place, gelu_kind kind) const override {
    with_->gelu(on, in_place, kind);
    count();
  }
  void silu_mul(stream& on, const tensor_view& x, const tensor_view& out) const override {
    with_->silu_mul(on, x, out);
    count();
  }
  void rotate(stream& on, const tensor_view& heads, const tensor_view& cos, const tensor_view& sin) const override {
    with_->rotate(on, heads, cos, sin);
    count();
  }
  void attention(stream& on, const tensor_view& q, const tensor_view& k, const tensor_view& v, float scale,
                 const tensor_view& out) const override {
    with_->attention(on, q, k, v, scale, out);
    count();
  }
  void store_kv(stream& on, const tensor_view& k, const tensor_view& v, const tensor_view& slots,
                const tensor_view& pool) const override {
    with_->store_kv(on, k, v, slots, pool);
    count();
  }
  void paged_attention(stream& on, const tensor_view& q, const tensor_view& pool, const paged_tokens& where,
                       float scale, const tensor_view& out) const override {
    with_->paged_attention(on, q, pool, where, scale, out);
    count();
  }
  void norm_matmul(stream& on, const normed_rows& x, const tensor_view& weight, const tensor_view& bias,
                   const tensor_view& out) const override {
    with_->norm_matmul(on, x, weight, bias, out);
    count();
  }
  void norm_matmul_silu(stream& on, const normed_rows& x, const tensor_view& weight, const tensor_view& bias,
                        const tensor_view& out) const override {
    with_->norm_matmul_silu(on, x, weight, bias, out);
    count();
  }
  void matmul_add(stream& on, const tensor_view& x, const tensor_view& weight, const tensor_view& bias,
                  const tensor_view& to) const override {
    with_->matmul_add(on, x, weight, bias, to);
    count();
  }
  void attend_new(stream& on, const new_heads& heads, const tensor_view& pool, const paged_tokens& where, float scale,
                  const tensor_view& out) const override {
    with_->attend_new(on, heads, pool, where, scale, out);
    count();
  }
  void place_rows(stream& on, const batch_rows& rows, std::int64_t block_tokens, const tensor_view& frequencies,
                  const paged_tokens& where, const tensor_view& cos, const tensor_view& sin) const override {
    with_->place_rows(on, rows, block_tokens, frequencies, where, cos, sin);
    count();
  }
  void sample(stream& on, const tensor_view& logits, const batch_rows& rows, const tensor_view& chosen) const override {
    with_->sample(on, logits, rows, chosen);
    count();
  }
  void advance_rows(stream& on, const batch_rows& rows, const tensor_view& context, const tensor_view& chosen,
                    const tensor_view& turn, const tensor_view& told) const override {
    with_->advance_rows(on, rows, context, chosen, turn, told);
    count();
  }

private:
  static void count() noexcept { base::flight().tick(); }

  std::shared_ptr<const operations> with_;
};

} // namespace

std::shared_ptr<const operations> count_operations(std::shared_ptr<const operations> with) {
  return std::make_shared<counted_operations>(std::move(with));
}

} // namespace troupe::gpu
