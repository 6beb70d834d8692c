#pragma once

#include <cstring>
#include <functional>
#include <future>
#include <memory>
#include <random>
#include <thread>

#include <doctest/doctest.h>

#include "gpu/group.hpp"
#include "runtime/base/clock.hpp"
#include "tests/fabric/lane_fixture.hpp"

/// Groups whose members are threads of one process, over lanes of any form.
namespace group_fixture {

using namespace troupe;
using namespace troupe::protocols;
using namespace std::chrono_literals;
using lane_fixture::lane_form;

/// Frames of 64 KiB, rings of 128 KiB: a large collective is many times what a lane holds.
inline constexpr fabric::lane_options narrow{.frame_bytes_max = 64 * 1024, .in_flight_bytes_max = 128 * 1024};

/// Group of `members` ranks, numbered from 10.
inline std::vector<std::shared_ptr<gpu::group_lanes>> make_lanes(std::uint32_t members, lane_form form) {
  group_plan plan{.id = group_id{3}, .name = "prefill.0", .members = {}};
  for (std::uint32_t i = 0; i < members; ++i)
    plan.members.push_back(rank_id{10 + i});
  std::vector<std::shared_ptr<gpu::group_lanes>> all;
  for (std::uint32_t i = 0; i < members; ++i) {
    all.push_back(std::make_shared<gpu::group_lanes>(gpu::group_lanes{.plan = plan, .self = i, .to = {}}));
    all.back()->to.resize(members);
  }
  for (std::uint32_t i = 0; i < members; ++i)
    for (std::uint32_t j = i + 1; j < members; ++j)
      std::tie(all[i]->to[j], all[j]->to[i]) = [&] {
        auto made = lane_fixture::make_pair(form, narrow);
        return std::pair{std::move(made.first), std::move(made.second)};
      }();
  return all;
}

struct cast {
  explicit cast(std::uint32_t members, duration deadline = 10s, lane_form form = lane_form::shared_memory)
      : lanes(make_lanes(members, form)) {
    for (std::uint32_t i = 0; i < members; ++i)
      groups.push_back(std::make_unique<gpu::group>(lanes[i]->plan, i, gpu::make_host_backend(lanes[i]), deadline));
  }

  /// Runs `part` on a thread a member and gives what each ended with.
  std::vector<result<void>> play(const std::function<result<void>(gpu::group&)>& part) {
    std::vector<result<void>> ends(groups.size());
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < groups.size(); ++i)
      threads.emplace_back([&, i] {
        ends[i] = part(*groups[i]);
        if (!ends[i]) // what a rank does that fails: it leaves, and its lanes with it
          for (auto& lane : lanes[i]->to)
            if (lane)
              lane->close();
      });
    for (auto& each : threads)
      each.join();
    return ends;
  }

  std::vector<std::shared_ptr<gpu::group_lanes>> lanes;
  std::vector<std::unique_ptr<gpu::group>> groups;
};

inline std::vector<float> random_floats(std::uint64_t seed, std::size_t count) {
  std::mt19937_64 random{seed};
  std::uniform_real_distribution<float> spread{-1000.0F, 1000.0F};
  std::vector<float> values(count);
  for (auto& value : values)
    value = spread(random);
  return values;
}

inline bool same_bits(std::span<const float> one, std::span<const float> other) {
  return one.size() == other.size() && std::memcmp(one.data(), other.data(), one.size_bytes()) == 0;
}

inline std::string words(const result<void>& outcome) {
  return outcome ? "no failure" : to_string(outcome.error());
}

inline bool contains(const result<void>& outcome, std::string_view text) {
  return words(outcome).find(text) != std::string::npos;
}

} // namespace group_fixture
