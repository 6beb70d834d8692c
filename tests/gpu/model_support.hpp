#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include "fabric/lanes/connect.hpp"
#include "gpu/group.hpp"
#include "gpu/models/model.hpp"
#include "protocols/limits.hpp"

/// What the model tests share: meshes of threads, pools, an answer by a chain of stages.
namespace troupe::tests {

namespace models = gpu::models;

inline const std::filesystem::path reader_folder = std::filesystem::path{TROUPE_SOURCE_DIR} / "deploy/models/reader";
inline const std::filesystem::path golden_folder = std::filesystem::path{TROUPE_SOURCE_DIR} / "tests/golden";

/// Rows of `width` floats on the host, as the models take and give them.
inline gpu::tensor_view on_host(std::span<const float> values, std::int64_t width) {
  return {const_cast<float*>(values.data()),
          gpu::element_kind::f32,
          gpu::device_kind::cpu,
          {static_cast<std::int64_t>(values.size()) / width, width}};
}

/// Fails the test with the failure's words.
template <class T>
T take(protocols::result<T> outcome) {
  if (!outcome)
    FAIL(protocols::to_string(outcome.error()));
  if constexpr (!std::is_void_v<T>)
    return std::move(*outcome);
}

/// Norm of the difference over the norm of what is expected.
inline double relative_error(std::span<const float> actual, std::span<const float> expected) {
  REQUIRE(actual.size() == expected.size());
  double difference = 0.0;
  double norm = 0.0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    difference += std::pow(static_cast<double>(actual[i]) - expected[i], 2);
    norm += std::pow(static_cast<double>(expected[i]), 2);
  }
  return std::sqrt(difference / norm);
}

/// The groups of a mesh whose ranks are threads of this process, over shared-memory lanes.
inline std::vector<std::unique_ptr<gpu::group>> make_mesh(std::uint32_t size) {
  const protocols::group_plan plan{protocols::group_id{0}, "mesh", [&] {
                                     std::vector<protocols::rank_id> members;
                                     for (std::uint32_t i = 0; i < size; ++i)
                                       members.emplace_back(i);
                                     return members;
                                   }()};
  std::vector<std::shared_ptr<gpu::group_lanes>> lanes;
  for (std::uint32_t i = 0; i < size; ++i) {
    lanes.push_back(std::make_shared<gpu::group_lanes>(gpu::group_lanes{plan, i, {}}));
    lanes.back()->to.resize(size);
  }
  for (std::uint32_t i = 0; i < size; ++i)
    for (std::uint32_t j = i + 1; j < size; ++j)
      std::tie(lanes[i]->to[j], lanes[j]->to[i]) = fabric::make_shared_memory_pair({});
  std::vector<std::unique_ptr<gpu::group>> mesh;
  for (std::uint32_t i = 0; i < size; ++i)
    mesh.push_back(std::make_unique<gpu::group>(plan, i, gpu::make_host_backend(lanes[i]), std::chrono::seconds{10}));
  return mesh;
}

/// Runs `body(rank)` on `size` threads and fails with the first failure.
inline void on_ranks(std::uint32_t size, const std::function<protocols::result<void>(std::uint32_t)>& body) {
  std::vector<protocols::result<void>> outcomes(size);
  std::vector<std::thread> threads;
  for (std::uint32_t i = 0; i < size; ++i)
    threads.emplace_back([&, i] { outcomes[i] = body(i); });
  for (std::thread& each : threads)
    each.join();
  for (const auto& each : outcomes)
    if (!each)
      FAIL(protocols::to_string(each.error()));
}

/// What a stage is given by the one before and leaves for the next, of a host's memory.
class kept_hops final : public models::stage_hops {
public:
  std::vector<float> hidden;

  protocols::result<void> receive(gpu::stream&, const gpu::tensor_view& into) override {
    REQUIRE(hidden.size() == static_cast<std::size_t>(into.elements()));
    std::ranges::copy(hidden, into.f32());
    return {};
  }
  protocols::result<void> send(gpu::stream&, const gpu::tensor_view& from) override {
    hidden.assign(from.f32(), from.f32() + from.elements());
    return {};
  }
};

/// One text model cut into stages x mesh ranks, all in this process.
class text_company {
public:
  static constexpr std::uint32_t pool_tokens = 512;

  text_company(models::model_folder& folder, std::uint32_t tensor_parallel, std::uint32_t pipeline_parallel)
      : facts_(folder.facts()), mesh_size_(tensor_parallel) {
    for (std::uint32_t s = 0; s < pipeline_parallel; ++s) {
      stage part;
      if (tensor_parallel > 1)
        part.mesh = make_mesh(tensor_parallel);
      for (std::uint32_t r = 0; r < tensor_parallel; ++r) {
        const models::shard cut{tensor_parallel, r, pipeline_parallel, s};
        part.layouts.push_back(models::layout_of(facts_, cut, pool_tokens));
        part.pools.emplace_back(part.layouts.back().bytes());
        part.models.push_back(take(folder.load_text(cut, part.layouts.back(), part.pools.back())));
      }
      stages_.push_back(std::move(part));
    }
  }

  /// Logits of the sequences that want them, as every mesh rank of the last stage has them.
  std::vector<float> forward(std::span<const models::text_model::sequence> batch) {
    std::size_t rows = 0;
    for (const auto& each : batch)
      rows += each.wants_logits ? 1 : 0;
    std::vector<kept_hops> hops(mesh_size_);
    std::vector<std::vector<float>> logits(mesh_size_);
    for (std::size_t s = 0; s < stages_.size(); ++s) {
      const bool last = s + 1 == stages_.size();
      for (auto& each : logits)
        each.assign(last ? rows * facts_.vocabulary : 0, 0.0F);
      on_ranks(mesh_size_, [&](std::uint32_t r) {
        stage& part = stages_[s];
        gpu::group* const mesh = part.mesh.empty() ? nullptr : part.mesh[r].get();
        if (mesh)
          mesh->begin(protocols::call_id{++calls_[r]}, "forward", part.models[r]->mesh_collectives(rows > 0));
        auto done = part.models[r]->forward(batch, &hops[r], logits[r], mesh);
        return done && mesh ? mesh->end() : done;
      });
      for (std::uint32_t r = 1; r < mesh_size_; ++r) {
        CHECK(hops[r].hidden == hops[0].hidden);
        CHECK(logits[r] == logits[0]);
      }
    }
    return logits[0];
  }

  /// Copies blocks to another company's pools run by run, as a hand-over between tensor-parallel degrees does.
  void hand_over(text_company& to, std::span<const protocols::block_index> blocks) const {
    for (const stage& from : stages_)
      for (std::size_t r = 0; r < from.pools.size(); ++r) {
        const models::kv_layout& mine = from.layouts[r];
        for (const auto block : blocks)
          for (std::uint32_t head = mine.first_head; head < mine.first_head + mine.heads; ++head)
            for (std::uint32_t layer = mine.first_layer; layer < mine.first_layer + mine.layers; ++layer)
              to.put_run(block.value, head, layer,
                         std::span{from.pools[r]}.subspan(mine.offset(block.value, head, layer), mine.run_bytes()));
      }
  }

  const models::model_facts& facts() const noexcept { return facts_; }

private:
  struct stage {
    std::vector<models::kv_layout> layouts;
    std::vector<std::vector<std::byte>> pools;
    std::vector<std::unique_ptr<models::text_model>> models;
    std::vector<std::unique_ptr<gpu::group>> mesh;
  };

  void put_run(std::uint32_t block, std::uint32_t head, std::uint32_t layer, std::span<const std::byte> bytes) {
    for (stage& part : stages_)
      for (std::size_t r = 0; r < part.pools.size(); ++r) {
        const models::kv_layout& layout = part.layouts[r];
        if (head - layout.first_head < layout.heads && layer - layout.first_layer < layout.layers)
          std::ranges::copy(bytes,
                            part.pools[r].begin() + static_cast<std::ptrdiff_t>(layout.offset(block, head, layer)));
      }
  }

  models::model_facts facts_;
  std::uint32_t mesh_size_;
  std::vector<stage> stages_;
  std::array<std::uint64_t, 8> calls_{};
};

inline std::vector<protocols::block_index> blocks_from(std::uint32_t first, std::uint32_t count) {
  std::vector<protocols::block_index> blocks;
  for (std::uint32_t i = 0; i < count; ++i)
    blocks.emplace_back(first + i);
  return blocks;
}

inline std::vector<std::array<std::int32_t, 3>> plain_positions(std::int32_t first, std::size_t count) {
  std::vector<std::array<std::int32_t, 3>> positions;
  for (std::size_t i = 0; i < count; ++i, ++first)
    positions.push_back({first, first, first});
  return positions;
}

} // namespace troupe::tests
