#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include <doctest/doctest.h>

#include "gpu/cpu/cpu_stream.hpp"
#include "gpu/group.hpp"
#include "gpu/models/model.hpp"

namespace troupe::tests {

inline constexpr std::uint32_t vocabulary = 64;
inline constexpr std::uint32_t hidden = 4;

/// A model that answers a token with the next one, and can only do so with every rank of its mesh and every stage: each
/// mesh rank brings its share of the logits, and the value of a token reaches the last stage through the hidden states.
class counting_model final : public gpu::models::text_model {
public:
  /// What stood in one sequence of a step.
  struct seen {
    std::uint32_t step = 0;
    std::size_t ids = 0;
    std::uint32_t context = 0;
    bool operator==(const seen&) const = default;
  };

  explicit counting_model(gpu::models::shard part) : part_(part) {}

  std::function<protocols::result<void>()> before_forward; ///< a fault that a test plants
  std::function<bool(protocols::token_id)> breaks_at;      ///< what follows this token has no finite logits
  std::vector<seen> log;
  gpu::models::capture_counts captures;                   ///< of its running batch
  std::shared_ptr<const gpu::stream_event> stands_behind; ///< its `ready`
  std::uint32_t finished = 0;

  protocols::result<void> finish() override {
    ++finished;
    return {};
  }
  std::shared_ptr<const gpu::stream_event> ready() const override {
    finished_when_ready = finished;
    return stands_behind;
  }
  mutable std::uint32_t finished_when_ready = 0; ///< passes that the host had waited for when `ready` was asked for
  protocols::replica holds;                      ///< of every prompt
  protocols::result<void> gather_replicas(gpu::group& mesh, std::span<protocols::replica> all) override {
    const auto mine = std::bit_cast<std::array<float, sizeof holds / sizeof(float)>>(holds);
    std::vector<float> gathered(mine.size() * mesh.size());
    auto done = mesh.all_gather(mine, gathered);
    if (done && !all.empty())
      std::ranges::copy(std::as_bytes(std::span{gathered}), std::as_writable_bytes(all).begin());
    return done;
  }

  const gpu::models::kv_layout& kv() const noexcept override { return layout_; }
  std::uint32_t mesh_collectives(bool any_logits) const noexcept override {
    return part_.last_stage() && any_logits ? 2 : 1;
  }
  protocols::result<void> begin(std::span<const sequence> batch, gpu::models::stage_hops* hops, std::span<float> logits,
                                gpu::group* mesh) override {
    if (before_forward)
      if (auto planted = before_forward(); !planted)
        return planted;
    ++steps_;
    float rows = 1;
    if (mesh)
      if (auto done = mesh->all_reduce_sum({&rows, 1}); !done)
        return done;
    std::size_t tokens = 0;
    for (const auto& one : batch)
      tokens += one.ids.size();
    states_.assign(tokens * hidden, 0.0F);
    const gpu::tensor_view states{states_.data(),
                                  gpu::element_kind::f32,
                                  gpu::device_kind::cpu,
                                  {static_cast<std::int64_t>(tokens), std::int64_t{hidden}}};
    if (!part_.first_stage())
      if (auto came = hops->receive(stream_, states); !came)
        return came;
    // Where nobody reads them the sum over them is taken all the same.
    std::vector<float> unread;
    if (logits.empty() && part_.last_stage()) {
      unread.resize(static_cast<std::size_t>(std::ranges::count_if(batch, &sequence::wants_logits)) * vocabulary);
      logits = unread;
    }
    std::size_t token = 0;
    std::size_t wanted = 0;
    std::ranges::fill(logits, 0.0F);
    for (const auto& one : batch) {
      log.push_back({steps_, one.ids.size(), one.context});
      for (const auto& id : one.ids) {
        const float value = part_.first_stage() ? static_cast<float>(id) : states_[token * hidden];
        states_[token * hidden] = value;
        ++token;
        if (part_.last_stage() && one.wants_logits && &id == &one.ids.back())
          logits[wanted++ * vocabulary + static_cast<std::size_t>(value + 1) % vocabulary] =
              breaks_at && breaks_at(id) ? std::numeric_limits<float>::quiet_NaN() : 1.0F / rows;
      }
    }
    if (!part_.last_stage())
      if (auto gone = hops->send(stream_, states); !gone)
        return gone;
    return mesh && !logits.empty() ? mesh->all_reduce_sum(logits) : protocols::result<void>{};
  }

  std::function<void(protocols::token_id&)> change_choice; ///< a rank that decides differently, of its running batch
  protocols::result<std::unique_ptr<gpu::models::running_batch>> open_batch(const gpu::models::batch_options& how,
                                                                            gpu::group* mesh) override;

private:
  gpu::models::shard part_;
  gpu::cpu::cpu_stream stream_;
  std::vector<float> states_; ///< of a step's tokens
  gpu::models::kv_layout layout_;
  std::uint32_t steps_ = 0;
};

/// Steps of `counting_model`, which are over when they have begun.
class counting_batch final : public gpu::models::running_batch {
public:
  counting_batch(counting_model& with, std::uint32_t rows_max, bool on_mesh)
      : with_(with), rows_(rows_max), on_mesh_(on_mesh) {}

  protocols::result<std::uint32_t> join(const joining& who) override {
    const auto place = std::ranges::find_if(rows_, [](const auto& row) { return !row; }) - rows_.begin();
    rows_.at(static_cast<std::size_t>(place)) = going{.newest = who.newest, .context = who.context};
    ++size_;
    return static_cast<std::uint32_t>(place);
  }
  protocols::result<void> leave(std::uint32_t place) override {
    rows_.at(place).reset();
    --size_;
    return {};
  }
  std::uint32_t size() const noexcept override { return size_; }
  gpu::models::capture_counts captures() const noexcept override { return with_.captures; }
  std::uint32_t collectives() const noexcept override { return on_mesh_ ? with_.mesh_collectives(true) : 0; }

  protocols::result<void> step(gpu::group* mesh) override {
    std::vector<gpu::models::text_model::sequence> batch;
    std::vector<chosen> tokens;
    for (std::uint32_t place = 0; place < rows_.size(); ++place)
      if (rows_[place]) {
        batch.push_back({.ids = {&rows_[place]->newest, 1},
                         .positions = {},
                         .context = rows_[place]->context,
                         .blocks = {},
                         .pictures = {},
                         .wants_logits = true});
        tokens.push_back({place});
      }
    std::vector<float> logits(batch.size() * vocabulary);
    if (auto done = with_.forward(batch, nullptr, logits, mesh); !done)
      return done;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      auto& row = *rows_[tokens[i].place];
      tokens[i].id = gpu::models::choose(std::span{logits}.subspan(i * vocabulary, vocabulary), {}, 0);
      if (with_.change_choice)
        with_.change_choice(tokens[i].id);
      row.newest = std::max(tokens[i].id, 0);
      ++row.context;
    }
    REQUIRE(on_their_way_.size() < steps_ahead_max);
    on_their_way_.push_back(std::move(tokens));
    return {};
  }
  protocols::result<std::span<const chosen>> collect(protocols::time_point) override {
    REQUIRE_FALSE(on_their_way_.empty());
    collected_ = std::move(on_their_way_.front());
    on_their_way_.pop_front();
    return collected_;
  }

private:
  struct going {
    protocols::token_id newest = 0;
    std::uint32_t context = 0;
  };
  counting_model& with_;
  std::vector<std::optional<going>> rows_;
  bool on_mesh_;
  std::uint32_t size_ = 0;
  std::deque<std::vector<chosen>> on_their_way_;
  std::vector<chosen> collected_;
};

inline protocols::result<std::unique_ptr<gpu::models::running_batch>>
counting_model::open_batch(const gpu::models::batch_options& how, gpu::group* mesh) {
  return std::make_unique<counting_batch>(*this, how.rows_max, mesh != nullptr);
}

} // namespace troupe::tests
