#include "gpu/observed_operations.hpp"

#include <utility>

namespace troupe::gpu {

namespace {

class observed_operations final : public operations {
public:
  observed_operations(std::shared_ptr<const operations> with, operation_observer after)
      : with_(std::move(with)), after_(std::move(after)) {}

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
    after_(on, "upload", to);
  }
  void download(stream& on, const tensor_view& from, std::span<std::byte> to) const override {
    with_->download(on, from, to);
    after_(on, "download", from);
  }
  void upload_published(stream& on, const published_slice& from, const tensor_view& to) const override {
    with_->upload_published(on, from, to);
    after_(on, "upload_published", to);
  }
  void copy(stream& on, const tensor_view& from, const tensor_view& to) const override {
    with_->copy(on, from, to);
    after_(on, "copy", to);
  }
  void add(stream& on, const tensor_view& to, const tensor_view& what) const override {
    with_->add(on, to, what);
    after_(on, "add", to);
  }
  void gather(stream& on, const tensor_view& table, const tensor_view& index, const tensor_view& to) const override {
    with_->gather(on, table, index, to);
    after_(on, "gather", to);
  }
  void add_weighted(stream& on, const tensor_view& table, const tensor_view& index, const tensor_view& weight,
                    const tensor_view& to) const override {
    with_->add_weighted(on, table, index, weight, to);
    after_(on, "add_weighted", to);
  }
  void checksum(stream& on, const tensor_view& values, const tensor_view& into) const override {
    with_->checksum(on, values, into);
    after_(on, "checksum", into);
  }
  void matmul(stream& on, const tensor_view& x, const tensor_view& weight, const tensor_view& bias,
              const tensor_view& out) const override {
    with_->matmul(on, x, weight, bias, out);
    after_(on, "matmul", weight);
  }
  void rms_norm(stream& on, const tensor_view& x, const tensor_view& weight, float epsilon,
                const tensor_view& out) const override {
    with_->rms_norm(on, x, weight, epsilon, out);
    after_(on, "rms_norm", out);
  }
  void layer_norm(stream& on, const tensor_view& x, const tensor_view& weight, const tensor_view& bias, float epsilon,
                  const tensor_view& out) const override {
    with_->layer_norm(on, x, weight, bias, epsilon, out);
    after_(on, "layer_norm", out);
  }
  void gelu(stream& on, const tensor_view& in_place, gelu_kind kind) const override {
    with_->gelu(on, in_place, kind);
    after_(on, "gelu", in_place);
  }
  void silu_mul(stream& on, const tensor_view& x, const tensor_view& out) const override {
    with_->silu_mul(on, x, out);
    after_(on, "silu_mul", out);
  }
  void rotate(stream& on, const tensor_view& heads, const tensor_view& cos, const tensor_view& sin) const override {
    with_->rotate(on, heads, cos, sin);
    after_(on, "rotate", heads);
  }
  void attention(stream& on, const tensor_view& q, const tensor_view& k, const tensor_view& v, float scale,
                 const tensor_view& out) const override {
    with_->attention(on, q, k, v, scale, out);
    after_(on, "attention", out);
  }
  void store_kv(stream& on, const tensor_view& k, const tensor_view& v, const tensor_view& slots,
                const tensor_view& pool) const override {
    with_->store_kv(on, k, v, slots, pool);
    after_(on, "store_kv", pool);
  }
  void paged_attention(stream& on, const tensor_view& q, const tensor_view& pool, const paged_tokens& where,
                       float scale, const tensor_view& out) const override {
    with_->paged_attention(on, q, pool, where, scale, out);
    after_(on, "paged_attention", out);
  }
  void norm_matmul(stream& on, const normed_rows& x, const tensor_view& weight, const tensor_view& bias,
                   const tensor_view& out) const override {
    with_->norm_matmul(on, x, weight, bias, out);
    after_(on, "norm_matmul", weight);
  }
  void norm_matmul_silu(stream& on, const normed_rows& x, const tensor_view& weight, const tensor_view& bias,
                        const tensor_view& out) const override {
    with_->norm_matmul_silu(on, x, weight, bias, out);
    after_(on, "norm_matmul_silu", weight);
  }
  void matmul_add(stream& on, const tensor_view& x, const tensor_view& weight, const tensor_view& bias,
                  const tensor_view& to) const override {
    with_->matmul_add(on, x, weight, bias, to);
    after_(on, "matmul_add", weight);
  }
  void attend_new(stream& on, const new_heads& heads, const tensor_view& pool, const paged_tokens& where, float scale,
                  const tensor_view& out) const override {
    with_->attend_new(on, heads, pool, where, scale, out);
    after_(on, "attend_new", out);
  }
  void place_rows(stream& on, const batch_rows& rows, std::int64_t block_tokens, const tensor_view& frequencies,
                  const paged_tokens& where, const tensor_view& cos, const tensor_view& sin) const override {
    with_->place_rows(on, rows, block_tokens, frequencies, where, cos, sin);
    after_(on, "place_rows", where.slots);
  }
  void sample(stream& on, const tensor_view& logits, const batch_rows& rows, const tensor_view& chosen) const override {
    with_->sample(on, logits, rows, chosen);
    after_(on, "sample", chosen);
  }
  void advance_rows(stream& on, const batch_rows& rows, const tensor_view& context, const tensor_view& chosen,
                    const tensor_view& turn, const tensor_view& told) const override {
    with_->advance_rows(on, rows, context, chosen, turn, told);
    after_(on, "advance_rows", told);
  }

private:
  std::shared_ptr<const operations> with_;
  operation_observer after_;
};

} // namespace

std::shared_ptr<const operations> observe_operations(std::shared_ptr<const operations> with, operation_observer after) {
  return std::make_shared<observed_operations>(std::move(with), std::move(after));
}

} // namespace troupe::gpu
