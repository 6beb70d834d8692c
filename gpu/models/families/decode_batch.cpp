#include "gpu/models/families/decode_batch.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>

#include "gpu/models/rule_tables.hpp"
#include "protocols/limits.hpp"

namespace troupe::gpu::models {

using protocols::fail;
using protocols::fault;
using protocols::result;
using protocols::limits::kv_block_tokens;

namespace {

std::span<const std::byte> bytes_from(const std::vector<std::int32_t>& values, std::size_t first, std::size_t count) {
  return std::as_bytes(std::span{values}.subspan(first, count));
}

/// Row `number` of an i32 table, its first `count` elements.
tensor_view line(const tensor_view& table, std::int64_t number, std::int64_t count,
                 element_kind element = element_kind::i32) {
  return {table.i32() + number * table.stride(0), element, table.device(), {count}};
}

} // namespace

decode_batch::decode_batch(text_decoder& with, const batch_options& how)
    : with_(with), rows_max_(how.rows_max),
      blocks_most_(
          std::min(with.layout_.blocks, (with.config_.facts.context_max + kv_block_tokens - 1) / kv_block_tokens)),
      captures_(captures(with, how)), room_(*with.run_), table_(std::size_t{fields} * rows_max_, 0),
      block_table_(std::size_t{rows_max_} * blocks_most_, 0), row_of_place_(rows_max_, rows_max_),
      told_of_place_(rows_max_, 0) {
  place_of_row_.reserve(rows_max_);
  tokens_.reserve(rows_max_);
  for (std::uint32_t row = 0; row < rows_max_; ++row)
    at(context, row) = at(rule_place, row) = -1;
  for (flight& each : flights_) {
    each.ended = with_.stream_->make_event();
    each.places.reserve(rows_max_);
    each.told.reserve(rows_max_);
  }
}

bool decode_batch::captures(const text_decoder& with, const batch_options& how) noexcept {
  return how.capture && with.stream_->gains_by_capture();
}

capture_counts decode_batch::captures() const noexcept {
  const auto kept = std::ranges::count_if(steps_, [](const auto& each) { return each != nullptr; });
  return {.graphs = static_cast<std::uint32_t>(kept), .eager = eager_};
}

std::uint32_t decode_batch::opening_collectives(const text_decoder& with, const batch_options& how) noexcept {
  const auto sizes = static_cast<std::uint32_t>(std::bit_width(std::bit_ceil(how.rows_max)));
  return with.mesh_collectives(true) * sizes * (captures(with, how) ? 2 : 1);
}

result<std::unique_ptr<running_batch>> decode_batch::open(text_decoder& with, const batch_options& how, group* mesh) {
  if (!with.part_.first_stage() || !with.part_.last_stage() || how.rows_max == 0)
    return fail(fault::invalid_request, "a batch of " + std::to_string(how.rows_max) + " rows on stage " +
                                            std::to_string(with.part_.stage) + " of " +
                                            std::to_string(with.part_.pipeline_parallel) +
                                            "; valid here: at least one row, and one stage that holds all layers");
  if ((mesh ? mesh->size() : 1) != with.part_.tensor_parallel)
    return fail(fault::invalid_request, "a mesh of " + std::to_string(mesh ? mesh->size() : 1) +
                                            " ranks for a shard of " + std::to_string(with.part_.tensor_parallel));
  std::unique_ptr<decode_batch> batch{new decode_batch{with, how}};
  if (auto done = batch->allocate(); !done)
    return tl::unexpected(done.error());
  if (auto done = batch->warm_up(mesh); !done)
    return tl::unexpected(done.error());
  return batch;
}

result<void> decode_batch::allocate() {
  const operations& run = *with_.run_;
  const std::int64_t rows = rows_max_;
  const auto half = static_cast<std::int64_t>(with_.frequencies_.size());
  const auto placed = room_.place([&](scratch& from) {
    fields_ = from.take({fields, rows}, element_kind::i32);
    ids_ = from.take({rows}, element_kind::i32);
    blocks_ = from.take({rows, blocks_most_}, element_kind::i32);
    chosen_ = from.take({rows}, element_kind::i32);
    turn_ = from.take({1}, element_kind::i32);
    frequencies_ = from.take({half});
    rules_.records = from.take({rows, rule_words}, element_kind::i32);
    rules_.marks = from.take({rows, with_.config_.facts.vocabulary}, element_kind::i32);
    rules_.turn = turn_;
    return with_.describe(from, {.tokens = rows, .sequences = rows, .blocks = 0, .rows = 0, .logits = rows});
  });
  if (!placed)
    return tl::unexpected(placed.error());
  space_ = *placed;
  auto told = run.allocate_shared(std::size_t{steps_ahead_max} * rows_max_ * sizeof(std::int32_t));
  if (!told)
    return tl::unexpected(told.error());
  told_memory_ = std::move(*told);
  auto told_rules =
      run.allocate_shared(std::size_t{steps_ahead_max} * rows_max_ * std::size_t{told_words} * sizeof(std::int32_t));
  if (!told_rules)
    return tl::unexpected(told_rules.error());
  told_rules_memory_ = std::move(*told_rules);
  rules_.told = {
      told_rules_memory_->data(), element_kind::i32, run.device(), {steps_ahead_max, rows, std::int64_t{told_words}}};
  told_ = {told_memory_->data(), element_kind::i32, run.device(), {steps_ahead_max, rows}};

  std::vector<std::int32_t> first(rows_max_ + 1);
  std::iota(first.begin(), first.end(), 0);
  run.upload(*with_.stream_, bytes_from(first, 0, first.size()), space_.where.first);
  run.upload(*with_.stream_, std::as_bytes(std::span{with_.frequencies_}), frequencies_);
  run.upload(*with_.stream_, bytes_from(block_table_, 0, block_table_.size()), blocks_);
  run.upload(*with_.stream_, bytes_from(table_, 0, table_.size()), fields_);
  return with_.stream_->synchronize();
}

/// Every size once, on rows of nobody: what the operations allocate is there when steps are captured, and the first
/// sequence pays for nothing (B20).
result<void> decode_batch::warm_up(group* mesh) {
  stream& on = *with_.stream_;
  for (std::uint32_t rows = 1;; rows = std::min(2 * rows, rows_max_)) {
    if (auto done = run(rows, mesh); !done)
      return done;
    if (captures_) {
      auto work = on.capture([this, rows, mesh] { return run(rows, mesh); });
      if (!work)
        return tl::unexpected(work.error());
      steps_.resize(rows + 1);
      steps_[rows] = std::move(*work);
    }
    if (rows == rows_max_)
      break;
  }
  const std::int32_t none = 0;
  with_.run_->upload(on, std::as_bytes(std::span{&none, 1}), turn_);
  return on.synchronize();
}

// ---- who is in it -------------------------------------------------------------------------------------------------

result<void> decode_batch::validate(const joining& who) const {
  if (size_ == rows_max_)
    return fail(fault::queue_full, "a batch of " + std::to_string(rows_max_) + " sequences");
  if (who.newest < 0 || static_cast<std::uint32_t>(who.newest) >= with_.config_.facts.vocabulary)
    return fail(fault::invalid_request, "token " + std::to_string(who.newest) + "; the vocabulary has " +
                                            std::to_string(with_.config_.facts.vocabulary));
  if (who.blocks.size() * kv_block_tokens < who.context || who.context >= with_.config_.facts.context_max)
    return fail(fault::invalid_request, std::to_string(who.blocks.size()) + " KV blocks for a context of " +
                                            std::to_string(who.context) + "; at most " +
                                            std::to_string(with_.config_.facts.context_max) + " tokens");
  for (const protocols::block_index block : who.blocks)
    if (block.value >= with_.layout_.blocks)
      return fail(fault::invalid_request,
                  "KV block " + std::to_string(block.value) + " of " + std::to_string(with_.layout_.blocks));
  return {};
}

void decode_batch::write_blocks(std::uint32_t row) {
  const std::size_t first = std::size_t{row} * blocks_most_;
  with_.run_->upload(*with_.stream_, bytes_from(block_table_, first, blocks_most_), line(blocks_, row, blocks_most_));
}

/// The tables are the place's: a row that moves leaves them where they are.
void decode_batch::write_rules(std::uint32_t place, const joining& who) {
  const auto& rules = who.sampling.rules;
  record_.assign(rule_words, 0);
  write_record(rules, record_);
  with_.run_->upload(*with_.stream_, bytes_from(record_, 0, record_.size()), rules_.records.rows(place, 1));
  if (!rules.change_logits())
    return;
  marks_.resize(with_.config_.facts.vocabulary);
  write_marks(rules, marks_);
  mark_answer(who.before, marks_);
  mark_answer({&who.newest, 1}, marks_);
  with_.run_->upload(*with_.stream_, bytes_from(marks_, 0, marks_.size()), rules_.marks.rows(place, 1));
}

result<std::uint32_t> decode_batch::join(const joining& who) {
  if (auto valid = validate(who); !valid)
    return tl::unexpected(valid.error());
  const std::uint32_t row = size_++;
  const auto place = static_cast<std::uint32_t>(std::ranges::find(row_of_place_, rows_max_) - row_of_place_.begin());
  row_of_place_[place] = row;
  place_of_row_.push_back(place);

  const std::size_t blocks = std::min<std::size_t>(who.blocks.size(), blocks_most_);
  for (std::size_t i = 0; i < blocks; ++i)
    block_table_[std::size_t{row} * blocks_most_ + i] = static_cast<std::int32_t>(who.blocks[i].value);
  at(context, row) = static_cast<std::int32_t>(who.context);
  at(capacity, row) =
      static_cast<std::int32_t>(std::min<std::size_t>(blocks * kv_block_tokens, with_.config_.facts.context_max));
  at(shift, row) = who.position_delta;
  at(answered, row) = static_cast<std::int32_t>(who.answered);
  at(temperature, row) = std::bit_cast<std::int32_t>(who.sampling.temperature);
  at(top_p, row) = std::bit_cast<std::int32_t>(who.sampling.top_p);
  at(seed_low, row) = static_cast<std::int32_t>(who.sampling.seed & 0xffff'ffffU);
  at(seed_high, row) = static_cast<std::int32_t>(who.sampling.seed >> 32);
  const auto& rules = who.sampling.rules;
  at(rule_place, row) = rules.are_plain() ? -1 : static_cast<std::int32_t>(place);
  told_of_place_[place] = rules.told();
  if (!rules.are_plain())
    write_rules(place, who);
  changed_ = true;
  write_blocks(row);
  with_.run_->upload(*with_.stream_, std::as_bytes(std::span{&who.newest, 1}), ids_.rows(row, 1));
  return place;
}

result<void> decode_batch::leave(std::uint32_t place) {
  if (place >= rows_max_ || row_of_place_[place] == rows_max_)
    return fail(fault::invalid_request, "place " + std::to_string(place) + " is nobody's");
  const std::uint32_t row = row_of_place_[place];
  const std::uint32_t last = --size_;
  row_of_place_[place] = rows_max_;
  if (row != last) {
    for (std::uint8_t each = 0; each < fields; ++each)
      at(static_cast<field>(each), row) = at(static_cast<field>(each), last);
    std::copy_n(block_table_.begin() + std::ptrdiff_t{last} * blocks_most_, blocks_most_,
                block_table_.begin() + std::ptrdiff_t{row} * blocks_most_);
    write_blocks(row);
    // The newest token is known to the device alone.
    const auto one = [&](std::uint32_t of) {
      return tensor_view{ids_.i32() + of, element_kind::f32, ids_.device(), {1, 1}};
    };
    with_.run_->copy(*with_.stream_, one(last), one(row));
    place_of_row_[row] = place_of_row_[last];
    row_of_place_[place_of_row_[row]] = row;
  }
  place_of_row_.pop_back();
  at(context, last) = at(rule_place, last) = -1;
  changed_ = true;
  return {};
}

// ---- steps --------------------------------------------------------------------------------------------------------

std::uint32_t decode_batch::size_of_step(std::uint32_t rows) const noexcept {
  return captures_ ? std::min(std::bit_ceil(rows), rows_max_) : rows;
}

text_decoder::workspace decode_batch::first_rows(std::uint32_t rows) const {
  workspace some = space_;
  for (tensor_view* each : {&some.hidden, &some.qkv, &some.mixed, &some.delta, &some.activated, &some.cos, &some.sin,
                            &some.logits, &some.where.slots, &some.where.context})
    *each = each->rows(0, rows);
  some.where.first = some.where.first.rows(0, rows + 1);
  some.where.blocks = blocks_.rows(0, rows);
  if (with_.vocabulary_is_cut())
    some.share = some.share.rows(0, rows);
  return some;
}

batch_rows decode_batch::table_of(std::uint32_t rows) const {
  row_rules rules = rules_;
  rules.place = line(fields_, rule_place, rows);
  const auto of = [&](field which, element_kind element = element_kind::i32) {
    return line(fields_, which, rows, element);
  };
  return {.ids = ids_.rows(0, rows),
          .context = of(context),
          .capacity = of(capacity),
          .shift = of(shift),
          .answered = of(answered),
          .temperature = of(temperature, element_kind::f32),
          .top_p = of(top_p, element_kind::f32),
          .seed = fields_.rows(seed_low, 2).columns(0, rows),
          .blocks = blocks_.rows(0, rows),
          .rules = rules};
}

/// One step of the first `rows` rows, as it is captured.
result<void> decode_batch::run(std::uint32_t rows, group* mesh) {
  const operations& run = *with_.run_;
  stream& on = *with_.stream_;
  const workspace with = first_rows(rows);
  const batch_rows table = table_of(rows);
  group* const sums = with_.part_.tensor_parallel > 1 ? mesh : nullptr;

  run.place_rows(on, table, kv_block_tokens, frequencies_, with.where, with.cos, with.sin);
  run.gather(on, with_.embeddings_.view, table.ids, with.hidden);
  for (std::uint32_t local = 0; local < with_.layout_.layers; ++local)
    if (auto done = with_.run_layer(local, with, sums); !done)
      return done;
  if (auto done = with_.predict(with.hidden, with, sums); !done)
    return done;
  const tensor_view choice = chosen_.rows(0, rows);
  run.sample(on, with.logits, table, choice);
  run.advance_rows(on, table, with.where.context, choice, turn_, told_.columns(0, rows));
  return {};
}

result<void> decode_batch::step(group* mesh) {
  if (size_ == 0)
    return fail(fault::invalid_request, "a step of nobody");
  if (begun_ - collected_ == steps_ahead_max)
    return fail(fault::queue_full, std::to_string(steps_ahead_max) + " steps are on their way");
  stream& on = *with_.stream_;
  if (changed_)
    with_.run_->upload(on, bytes_from(table_, 0, table_.size()), fields_);
  changed_ = false;
  const std::uint32_t rows = size_of_step(size_);
  eager_ += !captures_ && on.gains_by_capture() ? 1 : 0;
  if (auto done = captures_ ? on.launch(*steps_[rows]) : run(rows, mesh); !done)
    return done;
  flight& now = flights_[begun_++ % steps_ahead_max];
  on.record(*now.ended);
  now.places.assign(place_of_row_.begin(), place_of_row_.end());
  now.told.clear();
  for (const auto place : now.places)
    now.told.push_back(told_of_place_[place]);
  for (std::uint32_t row = 0; row < size_; ++row)
    if (at(context, row) < at(capacity, row)) {
      ++at(context, row);
      ++at(answered, row);
    }
  return {};
}

result<std::span<const running_batch::chosen>> decode_batch::collect(protocols::time_point deadline) {
  if (begun_ == collected_)
    return fail(fault::invalid_request, "no step is on its way");
  const auto turn = collected_ % steps_ahead_max;
  const flight& oldest = flights_[turn];
  if (auto ended = with_.stream_->await(*oldest.ended, deadline); !ended)
    return tl::unexpected(ended.error());
  ++collected_;
  const auto* const ids = reinterpret_cast<const std::int32_t*>(told_memory_->data()) + turn * rows_max_;
  const auto* const told =
      reinterpret_cast<const std::int32_t*>(told_rules_memory_->data()) + turn * rows_max_ * std::size_t{told_words};
  tokens_.clear();
  logprobs_.clear();
  logprobs_.reserve(std::accumulate(oldest.told.begin(), oldest.told.end(), std::size_t{0})); // spans of it stay
  for (std::size_t row = 0; row < oldest.places.size(); ++row) {
    auto& one = tokens_.emplace_back(chosen{oldest.places[row], ids[row]});
    if (one.id < 0 || oldest.told[row] == 0)
      continue;
    const auto before = logprobs_.size();
    read_told({told + one.place * std::size_t{told_words}, 2 * std::size_t{oldest.told[row]}}, logprobs_);
    one.logprobs = std::span{logprobs_}.subspan(before);
  }
  return std::span<const chosen>{tokens_};
}

} // namespace troupe::gpu::models
