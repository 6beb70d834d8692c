#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gpu/group.hpp"
#include "gpu/models/capture_counts.hpp"
#include "gpu/models/families/running_batch.hpp"
#include "gpu/stream.hpp"
#include "gpu/tensor.hpp"
#include "protocols/cluster/program.hpp"
#include "protocols/fault.hpp"
#include "protocols/ids.hpp"
#include "protocols/mesh/replicas.hpp"
#include "protocols/serve/model_bounds.hpp"
#include "protocols/serve/request_messages.hpp"

/// A published model (a Hugging Face folder), cut to what one rank computes.
/// Families: Qwen3-VL (vision tower with deepstack, interleaved M-RoPE); the dense text models Qwen3, Qwen2.5 and
/// Llama.
namespace troupe::gpu::models {

/// What the rest of the runtime may know of a model; read from config.json, generation_config.json and
/// preprocessor_config.json alone, without touching a weight.
struct model_facts {
  std::string name;         ///< the folder's, for messages
  std::string architecture; ///< "Qwen3VLForConditionalGeneration"
  std::uint32_t vocabulary = 0;
  std::uint32_t hidden = 0;
  std::uint32_t layers = 0;
  std::uint32_t query_heads = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_elements = 0;
  std::uint32_t context_max = 0;
  std::vector<protocols::token_id> end_tokens;

  bool has_vision = false;
  std::uint32_t vision_heads = 0;
  std::uint32_t vision_intermediate = 0;
  std::uint32_t intermediate = 0;
  std::uint32_t vision_layers = 0;
  std::uint32_t deepstack_levels = 0;
  std::uint32_t patch_pixels = 0;       ///< side of a patch
  std::uint32_t merge = 0;              ///< patches of a token, a side
  std::uint64_t picture_pixels_min = 0; ///< of the preprocessor's `size`
  std::uint64_t picture_pixels_max = 0;
  protocols::token_id image_token = -1;
  protocols::token_id vision_start_token = -1;
  protocols::token_id vision_end_token = -1;

  protocols::model_bounds bounds() const {
    return {.context_max = context_max,
            .picture_tokens_max = picture_tokens_max(),
            .row_elements = row_elements(),
            .vocabulary = vocabulary,
            .end_tokens = end_tokens};
  }
  /// Elements of one embedding row as it is sent: hidden x (1 + deepstack levels), main part first.
  std::uint32_t row_elements() const noexcept { return hidden * (1 + deepstack_levels); }
  /// Tokens of the largest picture.
  std::uint32_t picture_tokens_max() const noexcept;
  /// Bytes of the largest picture after the resize, RGB u8.
  std::uint64_t picture_bytes_max() const noexcept { return picture_pixels_max * 3; }
};

/// Errors: config_invalid with file, key, and what would be valid.
protocols::result<model_facts> read_facts(const std::filesystem::path& folder);

/// Whether these parts of the model can be cut so. Errors: config_invalid ("tensor_parallel 3 does not divide the 8
/// query heads of reader; valid here: 1, 2, 4").
protocols::result<void> check_layout(const model_facts& facts, protocols::model_parts parts,
                                     std::uint32_t tensor_parallel, std::uint32_t pipeline_parallel);

struct shard;
/// Bytes of the weights that a rank will hold of one part of the model, as `element` all of them. Errors: as
/// `read_facts`.
protocols::result<std::uint64_t> weight_bytes(const std::filesystem::path& folder, protocols::model_parts one,
                                              const shard& part, element_kind element);

/// Which part of a model this rank holds.
struct shard {
  std::uint32_t tensor_parallel = 1;
  std::uint32_t mesh_rank = 0;
  std::uint32_t pipeline_parallel = 1;
  std::uint32_t stage = 0;

  bool first_stage() const noexcept { return stage == 0; }
  bool last_stage() const noexcept { return stage + 1 == pipeline_parallel; }
};
/// Layers [first, last) of `stage`; the earlier stages take one more when they do not divide.
std::pair<std::uint32_t, std::uint32_t> layers_of(const model_facts& facts, const shard& part) noexcept;

/// Layout of the KV pool of one rank, part of the hand-over contract between prefill and decode.
/// A block holds `limits::kv_block_tokens` tokens of one sequence. Elements stand as
/// [block][local kv head][local layer][key, value][token][element], so that what one (block, head) holds over all
/// layers is one contiguous run whatever the tensor-parallel degree of either side.
struct kv_layout {
  std::uint32_t blocks = 0;
  std::uint32_t first_head = 0; ///< of the model
  std::uint32_t heads = 0;
  std::uint32_t first_layer = 0; ///< of the model
  std::uint32_t layers = 0;
  std::uint32_t head_elements = 0;
  element_kind element = element_kind::f32;

  std::uint64_t block_bytes() const noexcept;
  std::uint64_t bytes() const noexcept { return block_bytes() * blocks; }
  /// Byte offset in the pool of (block, model head, model layer)'s keys; values follow the keys.
  std::uint64_t offset(std::uint32_t block, std::uint32_t head, std::uint32_t layer) const noexcept;
  /// Bytes of keys and values of one (block, head, layer).
  std::uint64_t run_bytes() const noexcept;
};
kv_layout layout_of(const model_facts& facts, const shard& part, std::uint32_t kv_tokens_max,
                    element_kind element = element_kind::f32) noexcept;

/// The vision tower, sharded over a mesh by heads and by column/row. The whole tower is on every pipeline stage.
/// Threads: the executor's.
class vision_model {
public:
  virtual ~vision_model() = default;

  struct picture {
    std::span<const std::byte> rgb; ///< u8 [height, width, 3], already resized to multiples of patch x merge
    std::uint32_t height = 0;
    std::uint32_t width = 0;
    /// Out: f32 [tokens, row_elements], contiguous, of the host or of the model's device; none: nobody reads them here.
    tensor_view rows;
  };
  /// Collectives that the next `begin` of `picture` issues on the mesh: none without tensor parallelism, nor where what
  /// was captured is launched.
  virtual std::uint32_t collectives(const picture& which, const group* mesh) const noexcept = 0;
  /// Puts the tower on its way; the pixels are read when it returns, and rows in the device's memory are there at
  /// `ready`. `mesh` null without tensor parallelism. Errors: invalid_request (shapes), those of the collectives.
  virtual protocols::result<void> begin(const picture& which, group* mesh) = 0;
  /// Waits until what was begun has ended: rows in the host's memory are there. Errors: timeout, executor_failed.
  virtual protocols::result<void> finish() = 0;
  /// The point behind what was begun last; none where that has happened at once.
  virtual std::shared_ptr<const stream_event> ready() const { return nullptr; }
  /// Since it was loaded.
  virtual capture_counts captures() const noexcept { return {}; }

  protocols::result<void> encode(const picture& which, group* mesh) {
    return begin(which, mesh).and_then([this] { return finish(); });
  }
};

/// How the hidden states of a step come from the stage before and go to the next: f32 [tokens, hidden] of the model's
/// device, contiguous, in the order of its stream. Errors of both: those of the group that carries them.
class stage_hops {
public:
  virtual ~stage_hops() = default;
  virtual protocols::result<void> receive(stream& on, const tensor_view& hidden) = 0;
  virtual protocols::result<void> send(stream& on, const tensor_view& hidden) = 0;
};

/// The text model of one rank: its stage's layers, its share of the heads.
/// Threads: the executor's. Allocates nothing in `forward` once it has seen the largest batch.
class text_model {
public:
  virtual ~text_model() = default;

  /// Embedding rows that stand in for image tokens.
  struct rows_at {
    std::uint32_t first = 0; ///< index within `ids`
    std::uint32_t count = 0;
    tensor_view rows; ///< f32 [count, row_elements], contiguous, of the host or of the model's device
  };
  struct sequence {
    std::span<const protocols::token_id> ids;               ///< new tokens of this step
    std::span<const std::array<std::int32_t, 3>> positions; ///< of each: (t, h, w); equal without pictures
    std::uint32_t context = 0;                              ///< tokens whose keys and values are in `blocks` already
    std::span<const protocols::block_index> blocks;         ///< for context + ids
    std::span<const rows_at> pictures;
    bool wants_logits = false; ///< of the last of `ids`
  };

  virtual const kv_layout& kv() const noexcept = 0;

  /// Collectives of one `forward` on the mesh; the hops between stages are counted by the caller's cell group.
  virtual std::uint32_t mesh_collectives(bool any_logits) const noexcept = 0;

  /// Puts this stage's pass over a batch on its way. `hops`: null for a model of one stage. `logits`: one row
  /// [vocabulary] for each sequence that wants them, in order, of the last stage; empty where nobody reads them here;
  /// filled by `finish`, which they must outlive. Pictures' rows are read when it returns. Two passes at most are on
  /// their way: it waits for the one before the last. Errors: invalid_request; those of the collectives and hops;
  /// timeout and executor_failed, of an earlier pass too.
  virtual protocols::result<void> begin(std::span<const sequence> batch, stage_hops* hops, std::span<float> logits,
                                        group* mesh) = 0;
  /// Waits until what was begun has ended. Errors: timeout, executor_failed.
  virtual protocols::result<void> finish() { return {}; }
  /// The point behind what was begun last, keys and values included; none where that has happened at once.
  virtual std::shared_ptr<const stream_event> ready() const { return nullptr; }
  /// One collective of the mesh, behind the last piece of a prompt: what each member holds of it that all hold (G9), in
  /// member order. `all`: one for each member, filled by `finish`, which it must outlive; empty where nobody reads it.
  virtual protocols::result<void> gather_replicas(group& mesh, std::span<protocols::replica> all) = 0;

  protocols::result<void> forward(std::span<const sequence> batch, stage_hops* hops, std::span<float> logits,
                                  group* mesh) {
    return begin(batch, hops, logits, mesh).and_then([this] { return finish(); });
  }

  /// Collectives of one opening of a batch, on the mesh: every size is run once, and run again where it is captured.
  virtual std::uint32_t opening_collectives(const batch_options&) const noexcept { return 0; }
  /// A batch to decode with (see running_batch), warmed up for every size that it can have. It must not outlive the
  /// model; `forward` may run between its steps, on the same stream.
  /// Errors: invalid_request, where this shard is one stage of several: a chain of stages steps with `forward`;
  /// no_memory.
  virtual protocols::result<std::unique_ptr<running_batch>> open_batch(const batch_options&, group*) {
    return protocols::fail(protocols::fault::invalid_request, "this model runs no batch of its own");
  }
};

/// An opened folder: the files are mapped once, models copy only their share.
class model_folder {
public:
  virtual ~model_folder() = default;
  virtual const model_facts& facts() const noexcept = 0;
  /// XXH3-64 over names, types, shapes and bytes of what the shard uses; equal on ranks that must agree (G8).
  virtual std::uint64_t fingerprint() const = 0;
  /// Errors: config_invalid with tensor name, what is there, what would be valid.
  virtual protocols::result<std::unique_ptr<vision_model>> load_vision(const shard& part) = 0;
  /// `kv` is this rank's pool in the device's memory, kv_layout::bytes() long; it must outlive the model.
  virtual protocols::result<std::unique_ptr<text_model>> load_text(const shard& part, const kv_layout& layout,
                                                                   std::span<std::byte> kv) = 0;
};
/// Whether what can be captured is, where nobody says otherwise.
inline const std::atomic<bool> always_captured = true;

/// What a folder's models compute on, and with which numbers. Keys, values and what lies between two products are of
/// `element`; what ranks exchange (rows of pictures, hidden states and sums over a mesh, logits) is f32 always.
struct compute_options {
  std::string device = "cpu"; ///< or "cuda", "cuda:1"
  unsigned threads = 1;       ///< of one matrix product, cpu only
  element_kind element = element_kind::f32;
  protocols::duration step_max = protocols::limits::device_deadline; ///< that a step may take on the device
  const std::atomic<bool>* captures = &always_captured;              ///< whether what can be captured is; never null
};
/// Opens, maps and checks names, types and shapes against the config; the device is opened by what is loaded first.
/// Errors: config_invalid.
protocols::result<std::unique_ptr<model_folder>> open_folder(const std::filesystem::path& folder,
                                                             const compute_options& with = {});

/// Chooses from one row of logits. `position` is the token's index in the answer: with the seed it gives the same
/// choice whatever the batch. Greedy takes the lowest id of equals.
protocols::token_id choose(std::span<const float> logits, const protocols::sampling_options& options,
                           std::uint64_t position);

/// What has been said of a sequence when its next token is chosen.
struct answer_so_far {
  std::uint64_t position = 0;                    ///< index in the answer of the token that is chosen
  std::span<const protocols::token_id> tokens{}; ///< of the answer, where `sampling_rules::counts_tokens`
};
/// The same by all rules, with the log-probabilities that they ask for behind `told`: none where nothing can be chosen.
protocols::token_id choose(std::span<const float> logits, const protocols::sampling_options& options,
                           const answer_so_far& so_far, std::vector<protocols::token_logprob>& told);

} // namespace troupe::gpu::models
