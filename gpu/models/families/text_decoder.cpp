#include "gpu/models/families/text_decoder.hpp"

#include <algorithm>
#include <cmath>

#include "gpu/models/families/decode_batch.hpp"
#include "protocols/limits.hpp"
#include "runtime/base/clock.hpp"

namespace troupe::gpu::models {

using protocols::fail;
using protocols::fault;
using protocols::result;
using protocols::limits::kv_block_tokens;
namespace limits = protocols::limits;

namespace {

/// So many layers pass between two looks at how far the device has come.
constexpr std::uint32_t layers_a_mark = 8;

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span{values});
}

std::string number(std::uint64_t value) {
  return std::to_string(value);
}

} // namespace

text_decoder::text_decoder(const model_config& config, std::shared_ptr<const operations> run, const shard& part,
                           const kv_layout& layout, std::span<std::byte> kv, element_kind element,
                           protocols::duration step_max)
    : config_(config), run_(std::move(run)), stream_(run_->make_stream()), part_(part), layout_(layout), kv_(kv),
      step_max_(step_max), element_(element), query_heads_(config.facts.query_heads / part.tensor_parallel),
      intermediate_(config.facts.intermediate / part.tensor_parallel),
      frequencies_(config.text.rope.frequencies(config.facts.head_elements)),
      axes_(config.text.rope.axes(config.facts.head_elements)), scratch_(*run_) {}

bool text_decoder::vocabulary_is_cut() const noexcept {
  return part_.tensor_parallel > 1 && config_.facts.vocabulary % part_.tensor_parallel == 0;
}

std::uint32_t text_decoder::opening_collectives(const batch_options& how) const noexcept {
  return decode_batch::opening_collectives(*this, how);
}

std::uint32_t text_decoder::mesh_collectives(bool any_logits) const noexcept {
  if (part_.tensor_parallel == 1)
    return 0;
  return 2 * layout_.layers + (any_logits && part_.last_stage() && vocabulary_is_cut() ? 1 : 0);
}

tensor_view text_decoder::pool_of(std::uint32_t local_layer) const {
  const auto elements = [&](std::uint64_t bytes) { return static_cast<std::int64_t>(bytes / bytes_of(element_)); };
  std::byte* const first = kv_.data() + layout_.run_bytes() * local_layer;
  return tensor_view{first,
                     element_,
                     run_->device(),
                     {layout_.blocks, layout_.heads, 2, std::int64_t{kv_block_tokens}, layout_.head_elements}}
      .with_stride(0, elements(layout_.block_bytes()))
      .with_stride(1, elements(layout_.run_bytes() * layout_.layers));
}

result<void> text_decoder::validate(const sequence& each) const {
  const model_facts& facts = config_.facts;
  if (each.ids.empty() || each.positions.size() != each.ids.size())
    return fail(fault::invalid_request,
                number(each.ids.size()) + " tokens with " + number(each.positions.size()) + " positions");
  const std::uint64_t length = each.context + each.ids.size();
  if (length > facts.context_max)
    return fail(fault::context_exceeded, number(length) + " tokens; at most " + number(facts.context_max));
  const std::uint64_t needed = (length + kv_block_tokens - 1) / kv_block_tokens;
  if (each.blocks.size() < needed)
    return fail(fault::invalid_request, number(each.blocks.size()) + " KV blocks for " + number(length) + " tokens; " +
                                            number(needed) + " needed");
  for (const protocols::block_index block : each.blocks)
    if (block.value >= layout_.blocks)
      return fail(fault::invalid_request, "KV block " + number(block.value) + " of " + number(layout_.blocks));
  for (const protocols::token_id id : each.ids)
    if (id < 0 || static_cast<std::uint32_t>(id) >= facts.vocabulary)
      return fail(fault::invalid_request,
                  "token " + std::to_string(id) + "; the vocabulary has " + number(facts.vocabulary));
  for (const rows_at& rows : each.pictures)
    if (!facts.has_vision || !rows.rows || rows.rows.elements() != std::int64_t{rows.count} * facts.row_elements() ||
        std::uint64_t{rows.first} + rows.count > each.ids.size())
      return fail(fault::invalid_request, "picture rows at " + number(rows.first) + ", " + number(rows.count) +
                                              " of them, among " + number(each.ids.size()) + " tokens");
  return {};
}

result<text_decoder::step_shape> text_decoder::validate(std::span<const sequence> batch, const stage_hops* hops,
                                                        std::span<const float> logits, const group* mesh) const {
  step_shape shape{.sequences = static_cast<std::int64_t>(batch.size())};
  for (const sequence& each : batch) {
    if (auto valid = validate(each); !valid)
      return tl::unexpected(valid.error());
    shape.tokens += static_cast<std::int64_t>(each.ids.size());
    shape.blocks = std::max(shape.blocks, static_cast<std::int64_t>(each.blocks.size()));
    shape.logits += each.wants_logits ? 1 : 0;
    for (const rows_at& rows : each.pictures)
      shape.rows += rows.count;
  }
  const std::size_t wanted = part_.last_stage() ? static_cast<std::size_t>(shape.logits) * config_.facts.vocabulary : 0;
  if (shape.tokens == 0 || (!logits.empty() && logits.size() != wanted))
    return fail(fault::invalid_request, "a step of " + number(static_cast<std::uint64_t>(shape.tokens)) +
                                            " tokens gives " + number(wanted) + " logits, and was given room for " +
                                            number(logits.size()));
  if (hops == nullptr && part_.pipeline_parallel > 1)
    return fail(fault::invalid_request,
                "stage " + number(part_.stage) + " of " + number(part_.pipeline_parallel) + " without its neighbours");
  if ((mesh ? mesh->size() : 1) != part_.tensor_parallel)
    return fail(fault::invalid_request, "a mesh of " + number(mesh ? mesh->size() : 1) + " ranks for a shard of " +
                                            number(part_.tensor_parallel));
  return shape;
}

text_decoder::workspace text_decoder::describe(scratch& from, const step_shape& shape) const {
  const model_facts& facts = config_.facts;
  const std::int64_t width = facts.head_elements;
  const std::int64_t cut = vocabulary_is_cut() ? part_.tensor_parallel : 1;
  workspace with;
  with.hidden = from.take({shape.tokens, facts.hidden});
  with.qkv = from.take({shape.tokens, (query_heads_ + 2 * layout_.heads) * width}, element_);
  with.mixed = from.take({shape.tokens, query_heads_ * width}, element_);
  with.delta = from.take({shape.tokens, facts.hidden});
  with.activated = from.take({shape.tokens, intermediate_}, element_);
  with.ids = from.take({shape.tokens}, element_kind::i32);
  with.cos = from.take({shape.tokens, width / 2});
  with.sin = from.take({shape.tokens, width / 2});
  with.rows = from.take({shape.rows, facts.row_elements()});
  with.last = from.take({shape.logits}, element_kind::i32);
  with.last_hidden = from.take({shape.logits, facts.hidden});
  with.logits = from.take({shape.logits, facts.vocabulary});
  with.share = from.take({cut > 1 ? shape.logits : 0, facts.vocabulary / cut});
  with.where.slots = from.take({shape.tokens}, element_kind::i32);
  with.where.first = from.take({shape.sequences + 1}, element_kind::i32);
  with.where.context = from.take({shape.sequences}, element_kind::i32);
  with.where.blocks = from.take({shape.sequences, shape.blocks}, element_kind::i32);
  return with;
}

void text_decoder::write_tables(std::span<const sequence> batch, const step_shape& shape) {
  for (auto* table : {&ids_, &slots_, &first_, &context_, &last_})
    table->clear();
  cos_.clear();
  sin_.clear();
  blocks_.assign(static_cast<std::size_t>(shape.sequences * shape.blocks), 0);
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const sequence& each = batch[i];
    first_.push_back(static_cast<std::int32_t>(ids_.size()));
    context_.push_back(static_cast<std::int32_t>(each.context));
    for (std::size_t j = 0; j < each.blocks.size(); ++j)
      blocks_[i * static_cast<std::size_t>(shape.blocks) + j] = static_cast<std::int32_t>(each.blocks[j].value);
    for (std::size_t j = 0; j < each.ids.size(); ++j) {
      const std::size_t place = each.context + j;
      ids_.push_back(each.ids[j]);
      slots_.push_back(static_cast<std::int32_t>(each.blocks[place / kv_block_tokens].value * kv_block_tokens +
                                                 place % kv_block_tokens));
      for (std::size_t k = 0; k < frequencies_.size(); ++k) {
        const float angle = static_cast<float>(each.positions[j][axes_[k]]) * frequencies_[k];
        cos_.push_back(std::cos(angle));
        sin_.push_back(std::sin(angle));
      }
    }
    if (each.wants_logits)
      last_.push_back(static_cast<std::int32_t>(ids_.size()) - 1);
  }
  first_.push_back(static_cast<std::int32_t>(ids_.size()));
}

void text_decoder::upload_tables(const workspace& with) {
  run_->upload(*stream_, bytes_of(ids_), with.ids);
  run_->upload(*stream_, bytes_of(cos_), with.cos);
  run_->upload(*stream_, bytes_of(sin_), with.sin);
  run_->upload(*stream_, bytes_of(last_), with.last);
  run_->upload(*stream_, bytes_of(slots_), with.where.slots);
  run_->upload(*stream_, bytes_of(first_), with.where.first);
  run_->upload(*stream_, bytes_of(context_), with.where.context);
  run_->upload(*stream_, bytes_of(blocks_), with.where.blocks);
}

void text_decoder::embed(std::span<const sequence> batch, const workspace& with) {
  const model_facts& facts = config_.facts;
  if (part_.first_stage())
    run_->gather(*stream_, embeddings_.view, with.ids, with.hidden);
  std::int64_t row = 0;
  std::int64_t token = 0;
  for (const sequence& each : batch) {
    for (const rows_at& rows : each.pictures) {
      const tensor_view here = with.rows.rows(row, rows.count);
      copy_across(*run_, *stream_, rows.rows, here);
      if (part_.first_stage())
        run_->copy(*stream_, here.columns(0, facts.hidden), with.hidden.rows(token + rows.first, rows.count));
      row += rows.count;
    }
    token += static_cast<std::int64_t>(each.ids.size());
  }
  if (!replica_.memory)
    return;
  const tensor_view sum{replica_.memory->data(), element_kind::i32, run_->device(), {1}};
  run_->checksum(*stream_, with.rows, sum); // of all prompts' rows: pieces of several come by turns
}

void text_decoder::add_deepstack(std::span<const sequence> batch, std::uint32_t level, const workspace& with) {
  const std::int64_t width = config_.facts.hidden;
  std::int64_t row = 0;
  std::int64_t token = 0;
  for (const sequence& each : batch) {
    for (const rows_at& rows : each.pictures) {
      run_->add(*stream_, with.hidden.rows(token + rows.first, rows.count),
                with.rows.rows(row, rows.count).columns(width * (1 + level), width));
      row += rows.count;
    }
    token += static_cast<std::int64_t>(each.ids.size());
  }
}

result<void> text_decoder::attend(const layer& of, std::uint32_t local, const workspace& with, group* mesh) {
  const float epsilon = config_.text.norm_epsilon;
  run_->norm_matmul(*stream_, {with.hidden, of.input_norm.view, epsilon}, of.qkv.view, of.qkv_bias.view, with.qkv);
  run_->attend_new(*stream_, {with.qkv, of.query_norm.view, of.key_norm.view, epsilon, with.cos, with.sin},
                   pool_of(local), with.where, 1.0F / std::sqrt(static_cast<float>(config_.facts.head_elements)),
                   with.mixed.split_last(query_heads_));
  return add_product(with.mixed, of.output, of.output_bias, with, mesh);
}

result<void> text_decoder::transform(const layer& of, const workspace& with, group* mesh) {
  run_->norm_matmul_silu(*stream_, {with.hidden, of.mlp_norm.view, config_.text.norm_epsilon}, of.gate_up.view,
                         of.gate_up_bias.view, with.activated);
  return add_product(with.activated, of.down, of.down_bias, with, mesh);
}

/// hidden += x . matrix transposed + bias, summed over the mesh.
result<void> text_decoder::add_product(const tensor_view& x, const weight& matrix, const weight& bias,
                                       const workspace& with, group* mesh) {
  if (!mesh) {
    run_->matmul_add(*stream_, x, matrix.view, bias.view, with.hidden);
    return {};
  }
  return mesh->add_product(*run_, *stream_, {x, matrix.view, bias.view, with.delta}, with.hidden);
}

result<void> text_decoder::run_layer(std::uint32_t local, const workspace& with, group* mesh) {
  if (auto done = attend(layers_[local], local, with, mesh); !done)
    return done;
  return transform(layers_[local], with, mesh);
}

/// with.logits of `rows` of hidden states.
result<void> text_decoder::predict(const tensor_view& rows, const workspace& with, group* mesh) {
  const normed_rows last{rows, norm_.view, config_.text.norm_epsilon};
  if (!vocabulary_is_cut()) {
    run_->norm_matmul(*stream_, last, head_view_, {}, with.logits);
    return {};
  }
  run_->norm_matmul(*stream_, last, head_view_, {}, with.share);
  return mesh->all_gather(*stream_, with.share, with.logits);
}

result<std::unique_ptr<running_batch>> text_decoder::open_batch(const batch_options& how, group* mesh) {
  return decode_batch::open(*this, how, mesh);
}

result<void> text_decoder::begin(std::span<const sequence> batch, stage_hops* hops, std::span<float> logits,
                                 group* mesh) {
  const auto shape = validate(batch, hops, logits, mesh);
  if (!shape)
    return tl::unexpected(shape.error());
  auto& passed = passed_[++begun_ % passed_.size()];
  if (passed)
    if (auto ended = stream_->await(*passed, base::now() + step_max_, wait_policy::backoff); !ended)
      return ended;
  passed = stream_->make_event(); // the one before may be held by a transfer
  how_ = shape->tokens == shape->sequences ? wait_policy::spin : wait_policy::backoff;
  const auto with = scratch_.place([&](scratch& from) { return describe(from, *shape); });
  if (!with)
    return tl::unexpected(with.error());

  write_tables(batch, *shape);
  upload_tables(*with);
  if (!part_.first_stage())
    if (auto came = hops->receive(*stream_, with->hidden); !came)
      return came;
  embed(batch, *with);
  const auto rows_read = shape->rows > 0 ? stream_->make_event() : nullptr;
  if (rows_read)
    stream_->record(*rows_read);

  group* const sums = part_.tensor_parallel > 1 ? mesh : nullptr;
  for (std::uint32_t local = 0; local < layout_.layers; ++local) {
    if (local % layers_a_mark == 0)
      stream_->mark("layer", layout_.first_layer + local);
    if (auto done = run_layer(local, *with, sums); !done)
      return done;
    if (const std::uint32_t level = layout_.first_layer + local; level < config_.facts.deepstack_levels)
      add_deepstack(batch, level, *with);
  }
  newest_hidden_ = with->hidden.rows(shape->tokens - 1, 1);
  if (!part_.last_stage()) {
    if (auto gone = hops->send(*stream_, with->hidden); !gone)
      return gone;
  } else if (shape->logits > 0) {
    run_->gather(*stream_, with->hidden, with->last, with->last_hidden);
    if (auto done = predict(with->last_hidden, *with, sums); !done)
      return done;
    if (!logits.empty())
      run_->download(*stream_, with->logits, std::as_writable_bytes(logits));
  }
  stream_->record(*passed);
  return rows_read ? stream_->await(*rows_read, base::now() + step_max_, wait_policy::backoff) : result<void>{};
}

result<void> text_decoder::gather_replicas(group& mesh, std::span<protocols::replica> all) {
  const auto elements = std::min<std::int64_t>(replica_.view.shape(1) - 1, config_.facts.hidden);
  run_->copy(*stream_, newest_hidden_.columns(0, elements), replica_.view.columns(1, elements));
  if (auto gathered = mesh.all_gather(*stream_, replica_.view, replicas_.view); !gathered)
    return gathered;
  if (!all.empty())
    run_->download(*stream_, replicas_.view, std::as_writable_bytes(all));
  return {};
}

result<void> text_decoder::finish() {
  return stream_->synchronize(base::now() + step_max_, how_);
}

} // namespace troupe::gpu::models
