#include "tests/sim/forward.hpp"

#include <algorithm>

#include "tests/sim/serve_node.hpp"
#include "tests/sim/simulated_model.hpp"
#include "tests/sim/world.hpp"

namespace troupe::sim {

using namespace protocols;

namespace {

/// Parts that should be copies of each other.
class copies {
public:
  void add(std::uint64_t value) {
    if (has_value_ && value != value_)
      apart_ = mix(mix(value_, apart_), value);
    else if (!has_value_)
      value_ = value;
    has_value_ = true;
  }
  std::uint64_t get() const { return apart_ == 0 ? value_ : apart_; }

private:
  bool has_value_ = false;
  std::uint64_t value_ = 0;
  std::uint64_t apart_ = 0;
};

constexpr std::uint32_t tokens_a_block = limits::kv_block_tokens;

} // namespace

std::uint64_t forward::read_block(block_index which) const {
  copies all;
  for (const auto* const member : company_.members) {
    const auto& layout = member->layout_;
    const auto& pool = member->rank.memory->at(member->pool_);
    for (auto head = layout.first_head; head < layout.first_head + layout.heads; ++head)
      for (auto layer = layout.first_layer; layer < layout.first_layer + layout.layers; ++layer)
        all.add(pool.units[layout.offset(which.value, head, layer) / pool.unit_bytes] ^ share_mask(head, layer));
  }
  return all.get();
}

void forward::write_block(block_index which, std::uint64_t value) const {
  for (auto* const member : company_.members) {
    const auto& layout = member->layout_;
    auto& pool = member->rank.memory->at(member->pool_);
    for (auto head = layout.first_head; head < layout.first_head + layout.heads; ++head)
      for (auto layer = layout.first_layer; layer < layout.first_layer + layout.layers; ++layer)
        pool.units[layout.offset(which.value, head, layer) / pool.unit_bytes] = value ^ share_mask(head, layer);
  }
}

forward::context forward::read_context(std::span<const block_index> blocks, std::uint32_t length) const {
  context of;
  const auto whole = (length + tokens_a_block - 1) / tokens_a_block;
  for (std::uint32_t i = 0; i < whole; ++i) {
    if (i > 0)
      of.before = folded(of.before, of.block);
    of.block = read_block(blocks[i]);
  }
  return of;
}

std::uint64_t forward::read_pixels(const tower_item& item) const {
  const auto& facts = leader_.rank.all.cluster.facts;
  const auto side = facts.patch_pixels * facts.merge;
  const auto patches = item.height / side * (item.width / side);
  copies all;
  for (const auto* const member : company_.members) {
    const auto pixels = member->rank.memory->at(area::pixels).slot(item.pixels);
    std::uint64_t picture = 0;
    for (std::uint32_t i = 0; i < patches; ++i)
      picture = seen(picture, pixels[i]);
    all.add(picture);
  }
  return all.get();
}

std::uint64_t forward::read_row(const prefill_picture& picture, std::uint32_t row) const {
  copies all;
  for (const auto* const member : company_.members)
    all.add(member->rank.memory->at(area::rows).slot(picture.rows)[row]);
  return all.get();
}

token_id forward::append(std::span<const block_index> blocks, std::uint32_t length, token_id id,
                         std::uint64_t sampling) const {
  auto of = read_context(blocks, length);
  const auto at = length % tokens_a_block;
  if (at == 0 && length > 0)
    of.before = folded(of.before, of.block);
  of.block = grown(at == 0 ? of.before : of.block, token_word(id, spoiled_));
  write_block(blocks[length / tokens_a_block], of.block);
  return chosen(folded(of.before, of.block), length + 1, sampling);
}

std::uint64_t forward::look() {
  std::uint64_t all = 1;
  const auto add_context = [&](std::span<const block_index> blocks, std::uint32_t length) {
    const auto of = read_context(blocks, length);
    all = mix(all, folded(of.before, of.block));
  };
  const auto& plan = call_.plan;
  if (plan.kind == plan_kind::encode)
    for (const auto& item : plan.pictures)
      all = mix(all, read_pixels(item));
  if (plan.kind == plan_kind::prefill) {
    add_context(plan.prefill.blocks, plan.prefill.begin);
    for (const auto& picture : plan.prefill.pictures)
      for (std::uint32_t row = 0; row < picture.tokens; ++row)
        all = mix(all, read_row(picture, row));
  }
  if (plan.kind == plan_kind::decode)
    for (const auto& row : leader_.batch_)
      if (row)
        add_context(row->blocks, row->context);
  return all;
}

void forward::run() {
  spoiled_ = look() == call_.seen ? 0 : 0x5B011;
  switch (call_.plan.kind) {
  case plan_kind::vote:
    return vote();
  case plan_kind::encode:
    return encode();
  case plan_kind::prefill:
    return prefill();
  case plan_kind::decode:
    return decode();
  case plan_kind::warm:
  case plan_kind::stop:
    return;
  }
}

void forward::vote() {
  auto least = leader_.outcome_.votes;
  for (const auto* const member : company_.members)
    for (std::size_t i = 0; i < least.size(); ++i)
      least[i] = std::min(least[i], member->outcome_.votes.at(i));
  for (auto* const member : company_.members)
    member->outcome_.votes = least;
}

void forward::encode() {
  for (const auto& item : call_.plan.pictures) {
    const auto picture = read_pixels(item) ^ spoiled_;
    leader_.rank.memory->at(area::tower).holders.at(item.rows.value) = item.room;
    auto rows = leader_.rank.memory->at(area::tower).slot(item.rows);
    for (std::uint32_t i = 0; i < rows.size(); ++i)
      rows[i] = row_word(picture, i);
    leader_.rank.serves->encoded(item.room);
  }
}

void forward::prefill() {
  const auto& piece = call_.plan.prefill;
  for (auto* const member : company_.members)
    for (const auto block : piece.blocks)
      member->rank.memory->at(area::kv_prefill).holders.at(block.value) = piece.kv_room;
  auto of = read_context(piece.blocks, piece.begin);
  auto at = piece.begin;
  for (const auto id : piece.ids) {
    std::uint64_t row = 0;
    for (const auto& picture : piece.pictures)
      if (at >= picture.first_token && at < picture.first_token + picture.tokens)
        row = read_row(picture, at - picture.first_token);
    const bool first = at % tokens_a_block == 0;
    if (first && at > 0)
      of.before = folded(of.before, of.block);
    of.block = grown(first ? of.before : of.block, token_word(id, row ^ spoiled_));
    ++at;
    if (at % tokens_a_block == 0 || at == piece.begin + piece.ids.size())
      write_block(piece.blocks[(at - 1) / tokens_a_block], of.block);
  }
  if (!piece.last)
    return;
  leader_.outcome_.chosen.push_back(chosen(folded(of.before, of.block), at, sampling_word(piece.sampling)));
  for (auto* const member : company_.members)
    member->rank.serves->prefilled(piece);
}

// ---- decode -------------------------------------------------------------------------------------------------------

void forward::decode() {
  if (leader_.cell.pipeline_parallel > 1)
    return step_chain();
  for (auto* const member : company_.members)
    change_batch(*member);
  if (leader_.machine_.work().steps)
    step_batch();
  for (auto* const member : company_.members)
    collect(*member);
}

/// As a running batch gives places: the lowest that is free.
void forward::change_batch(executor& of) const {
  const auto& work = of.machine_.work();
  const auto& step = call_.plan.decode;
  for (const auto place : work.leaves)
    of.batch_[place].reset();
  const auto stayed = step.ids.size() - step.joins.size();
  for (std::size_t i = 0; i < step.joins.size(); ++i) {
    const auto free = std::ranges::find_if(of.batch_, [](const auto& row) { return !row.has_value(); });
    if (free == of.batch_.end() || free - of.batch_.begin() != work.joins[i])
      return of.rank.all.past.violate("lockstep", "a sequence joins at another place");
    const auto& who = step.joins[i];
    *free = executor::sequence{who.request, step.ids[stayed + i], who.context, who.blocks, sampling_word(who.sampling)};
  }
}

void forward::step_batch() {
  std::vector<std::pair<std::uint32_t, token_id>> told;
  for (std::uint32_t place = 0; place < leader_.batch_.size(); ++place) {
    auto& row = leader_.batch_[place];
    for (auto* const member : company_.members)
      if (member->batch_[place].has_value() != row.has_value() ||
          (row && member->batch_[place]->request != row->request))
        return leader_.rank.all.past.violate("lockstep", "two ranks step other sequences");
    if (!row)
      continue;
    if (row->context >= row->blocks.size() * tokens_a_block) {
      told.emplace_back(place, step_machine::no_token);
      continue;
    }
    leader_.rank.all.service.on_step_writes(leader_.rank, row->request, row->blocks[row->context / tokens_a_block]);
    const auto next = append(row->blocks, row->context, row->newest, row->sampling);
    told.emplace_back(place, next);
    for (auto* const member : company_.members) {
      member->batch_[place]->newest = std::max(next, 0);
      ++member->batch_[place]->context;
    }
  }
  for (auto* const member : company_.members)
    member->uncollected_.push_back(told);
}

void forward::collect(executor& of) const {
  for (; of.outcome_.collected < of.machine_.work().collects; ++of.outcome_.collected) {
    for (const auto& [place, id] : of.uncollected_.front())
      of.outcome_.tokens.push_back({of.outcome_.collected, place, id});
    of.uncollected_.pop_front();
  }
}

void forward::step_chain() {
  const auto& rows = leader_.machine_.work().rows;
  for (std::size_t i = 0; i < rows.size(); ++i)
    leader_.outcome_.chosen.push_back(
        append(rows[i].blocks, rows[i].context, call_.plan.decode.ids[i], sampling_word(*rows[i].sampling)));
}

} // namespace troupe::sim
