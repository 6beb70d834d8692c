#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "gpu/stream.hpp"
#include "gpu/tensor.hpp"
#include "protocols/fault.hpp"

namespace troupe::gpu {

/// What numbers a model file holds.
enum class published_kind : std::uint8_t { f32, bf16 };

/// A part of a published matrix in the mapped file: `rows` rows of `columns` elements, `row_bytes` apart, at no
/// particular alignment.
struct published_slice {
  const std::byte* data = nullptr;
  published_kind kind = published_kind::f32;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t row_bytes = 0;
};

/// Where the new tokens of a step stand in a paged pool of keys and values; i32 on the device.
struct paged_tokens {
  tensor_view slots;   ///< [tokens]: block x block tokens + place, where the token's keys and values go; -1: nowhere
  tensor_view first;   ///< [sequences + 1]: first new token of each sequence, then their count
  tensor_view context; ///< [sequences]: tokens that were in the pool before the step; -1: it attends to nothing, and
                       ///< what it would be given is left as it is
  tensor_view blocks;  ///< [sequences, most]: block numbers
};

/// Rows that count as divided by their root mean square and scaled.
struct normed_rows {
  tensor_view x;      ///< [m, k]
  tensor_view weight; ///< f32 [k]
  float epsilon = 0.0F;
};

/// What new tokens bring to the attention of one layer.
struct new_heads {
  tensor_view joined;               ///< [tokens, (query heads + 2 kv heads) x elements]: queries, keys, values
  tensor_view query_norm, key_norm; ///< f32 [elements], or none: rms norms of each head before it is turned
  float epsilon = 0.0F;             ///< theirs
  tensor_view cos, sin;             ///< f32 [tokens, elements / 2]
};

/// What some sequences of a batch ask of their choices beyond that (rule_record.hpp); tables by the place that a
/// sequence keeps while its row may change. i32.
struct row_rules {
  tensor_view place;   ///< [rows]: of the row's sequence; -1: it asks for nothing
  tensor_view records; ///< [places, rule_words]
  tensor_view marks;   ///< [places, vocabulary]: a choice reads them, `advance_rows` adds the chosen token
  tensor_view turn;    ///< [1]: as in `advance_rows`
  tensor_view told;    ///< [turns, places, told_words]: log-probabilities, where a record asks for them
};

/// The sequences of a running batch, one a row; i32 [rows] unless it says otherwise.
struct batch_rows {
  tensor_view ids;                ///< newest token, whose keys and values are not in the pool yet
  tensor_view context;            ///< tokens that are in the pool; -1: nobody's row
  tensor_view capacity;           ///< tokens that its blocks hold; a sequence that has as many rests
  tensor_view shift;              ///< of a token: its position less its index
  tensor_view answered;           ///< index of the token that is chosen next
  tensor_view temperature, top_p; ///< f32
  tensor_view seed;               ///< [2, rows]: lower and upper half
  tensor_view blocks;             ///< [rows, most]
  row_rules rules = {};           ///< none: no row has any
};

enum class gelu_kind : std::uint8_t { tanh, erf };

/// Everything that a model computes with: models are written against this and run on whatever implements it.
/// Numbers are f32 or bf16 as the view says, and every sum is taken in f32; "rows" are every dimension but the last.
/// Inputs and outputs may be strided views; an output may be its input where the text says so and must not overlap it
/// otherwise. The views of one call are of one kind unless the text says otherwise; weights of norms, cosines and sines
/// are always f32.
/// Threads: immutable; a stream and what runs on it belong to one thread.
/// Errors: shapes that do not fit break an invariant; what a device reports comes out of stream::synchronize.
class operations {
public:
  virtual ~operations() = default;

  virtual device_kind device() const noexcept = 0;
  /// Zeroed. Errors: no_memory; executor_failed, what else the device reports.
  virtual protocols::result<std::unique_ptr<buffer>> allocate(std::size_t bytes) const = 0;
  /// Host memory, zeroed, that the device reads and writes where it lies: what it holds is of the device for operations
  /// and can be read by the host once they have happened. Errors: no_memory; executor_failed.
  virtual protocols::result<std::unique_ptr<buffer>> allocate_shared(std::size_t bytes) const = 0;
  virtual std::unique_ptr<stream> make_stream() const = 0;

  // ---- between host and device; `to` and `from` contiguous. `from` is free when an upload returns, `to` is filled
  // when the stream is synchronized ----
  virtual void upload(stream& on, std::span<const std::byte> from, const tensor_view& to) const = 0;
  virtual void download(stream& on, const tensor_view& from, std::span<std::byte> to) const = 0;
  /// Widens or rounds what a file, or another host memory, holds.
  virtual void upload_published(stream& on, const published_slice& from, const tensor_view& to) const = 0;

  // ---- rows; of either kind each ----
  virtual void copy(stream& on, const tensor_view& from, const tensor_view& to) const = 0;
  /// to += what
  virtual void add(stream& on, const tensor_view& to, const tensor_view& what) const = 0;
  /// to[i] = table[index[i]]
  virtual void gather(stream& on, const tensor_view& table, const tensor_view& index, const tensor_view& to) const = 0;
  /// to[i] += sum over j of weight[i, j] x table[index[i, j]]
  virtual void add_weighted(stream& on, const tensor_view& table, const tensor_view& index, const tensor_view& weight,
                            const tensor_view& to) const = 0;

  /// into (i32 [1]) += the sum of (2 i + 1) x the i-th word of `values` (contiguous f32), modulo 2^32
  virtual void checksum(stream& on, const tensor_view& values, const tensor_view& into) const = 0;

  // ---- dense ----
  /// out [m, n] = x [m, k] . weight [n, k] transposed + bias [n] (or none); out of either kind, bias of out's. The
  /// weight must be there when the operation before this one begins: a device reads it ahead.
  virtual void matmul(stream& on, const tensor_view& x, const tensor_view& weight, const tensor_view& bias,
                      const tensor_view& out) const = 0;
  /// `out` may be `x`, and of another kind.
  virtual void rms_norm(stream& on, const tensor_view& x, const tensor_view& weight, float epsilon,
                        const tensor_view& out) const = 0;
  /// `out` may be `x`, and of another kind.
  virtual void layer_norm(stream& on, const tensor_view& x, const tensor_view& weight, const tensor_view& bias,
                          float epsilon, const tensor_view& out) const = 0;
  virtual void gelu(stream& on, const tensor_view& in_place, gelu_kind kind) const = 0;
  /// out [m, n] = silu(x[:, :n]) * x[:, n:]
  virtual void silu_mul(stream& on, const tensor_view& x, const tensor_view& out) const = 0;

  // ---- attention; heads are [tokens, heads, elements] ----
  /// Turns the pair (i, i + elements / 2) by the angle of `cos` and `sin` [tokens, elements / 2], in place.
  virtual void rotate(stream& on, const tensor_view& heads, const tensor_view& cos, const tensor_view& sin) const = 0;
  /// Every token attends to every token; as many key heads as query heads.
  virtual void attention(stream& on, const tensor_view& q, const tensor_view& k, const tensor_view& v, float scale,
                         const tensor_view& out) const = 0;
  /// Writes keys and values of the new tokens. `pool` is one layer's view:
  /// [blocks, kv heads, keys and values (2), block tokens, elements].
  virtual void store_kv(stream& on, const tensor_view& k, const tensor_view& v, const tensor_view& slots,
                        const tensor_view& pool) const = 0;
  /// Each new token attends to its sequence up to itself, read from the pool; query heads in groups share a kv head.
  virtual void paged_attention(stream& on, const tensor_view& q, const tensor_view& pool, const paged_tokens& where,
                               float scale, const tensor_view& out) const = 0;

  // ---- several of the above in one, as layers are made of them: the same numbers within rounding, and on a device in
  // as few launches as it can. Weights, norms and what is in the pool before must be there when the operation before
  // this one begins: a device reads them ahead. ----
  /// out [m, n] = norm(x) . weight [n, k] transposed + bias [n] (or none). The normed rows are of weight's kind.
  virtual void norm_matmul(stream& on, const normed_rows& x, const tensor_view& weight, const tensor_view& bias,
                           const tensor_view& out) const = 0;
  /// out [m, n] = silu(h[:, :n]) * h[:, n:] with h = norm(x) . weight [2 n, k] transposed + bias [2 n], of out's kind
  virtual void norm_matmul_silu(stream& on, const normed_rows& x, const tensor_view& weight, const tensor_view& bias,
                                const tensor_view& out) const = 0;
  /// to [m, n] += x [m, k] . weight [n, k] transposed + bias [n] (or none)
  virtual void matmul_add(stream& on, const tensor_view& x, const tensor_view& weight, const tensor_view& bias,
                          const tensor_view& to) const = 0;
  /// Norms and turns the new tokens' queries and keys, stores their keys and values, and lets them attend.
  /// out [tokens, query heads, elements]. What `heads.joined` holds afterwards is not said.
  virtual void attend_new(stream& on, const new_heads& heads, const tensor_view& pool, const paged_tokens& where,
                          float scale, const tensor_view& out) const = 0;

  // ---- a running batch's own ----
  /// Where the newest token of each row goes: where.slots, where.context, and the angles position x frequencies [half].
  /// Rows of nobody and rows that rest go nowhere.
  virtual void place_rows(stream& on, const batch_rows& rows, std::int64_t block_tokens, const tensor_view& frequencies,
                          const paged_tokens& where, const tensor_view& cos, const tensor_view& sin) const = 0;
  /// chosen [rows] from logits [rows, vocabulary] as gpu::choose does, in sums of 2^-44 of the largest weight: the
  /// choice is another one only where the draw comes as near as that to the border between two tokens.
  virtual void sample(stream& on, const tensor_view& logits, const batch_rows& rows,
                      const tensor_view& chosen) const = 0;
  /// Takes up what was chosen: ids, context, answered and marks of the rows that where.context says went somewhere.
  /// Their tokens, and -1 for the others, go to told [turns, rows] at `turn` [1] modulo turns, and `turn` is one more.
  virtual void advance_rows(stream& on, const batch_rows& rows, const tensor_view& context, const tensor_view& chosen,
                            const tensor_view& turn, const tensor_view& told) const = 0;
};

/// from -> to, whichever of the two lies on `run`'s device and whichever on the host; both contiguous. As for `upload`
/// and `download`: what was on the host is free at once, what goes there is there when the stream is synchronized.
inline void copy_across(const operations& run, stream& on, const tensor_view& from, const tensor_view& to) {
  if (from.device() == to.device())
    run.copy(on, from, to);
  else if (to.device() == device_kind::cpu)
    run.download(on, from, {static_cast<std::byte*>(to.data()), to.bytes()});
  else
    run.upload(on, {static_cast<const std::byte*>(from.data()), from.bytes()}, to);
}

} // namespace troupe::gpu
