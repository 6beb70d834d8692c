#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <vector>

#include <doctest/doctest.h>
#include <xxhash.h>

#include "gpu/models/model.hpp"
#include "gpu/not_finite.hpp"
#include "gpu/uniform_draw.hpp"

using namespace troupe;
using gpu::models::choose;

TEST_CASE("greedy takes the largest, and the lowest id of equals") {
  CHECK(choose(std::vector<float>{1, 3, 2}, {}, 0) == 1);
  CHECK(choose(std::vector<float>{1, 3, 3, 0}, {}, 9) == 1);
  CHECK(choose(std::vector<float>{-5}, {}, 0) == 0);
}

TEST_CASE("K8: of logits of which one is not finite none is chosen, wherever it stands") {
  constexpr float none = std::numeric_limits<float>::quiet_NaN();
  constexpr float most = std::numeric_limits<float>::infinity();
  for (const float temperature : {0.0F, 1.0F})
    for (const float bad : {none, -none, most, -most})
      for (std::size_t at = 0; at < 3; ++at) {
        CAPTURE(temperature);
        CAPTURE(bad);
        CAPTURE(at);
        std::vector<float> logits{-2, 5, std::numeric_limits<float>::max()};
        logits[at] = bad;
        CHECK(choose(logits, {.temperature = temperature}, 0) == gpu::not_finite);
      }
  CHECK(choose(std::vector<float>{-std::numeric_limits<float>::max(), std::numeric_limits<float>::max()}, {}, 0) == 1);
}

TEST_CASE("G10: a choice depends on seed and position alone, and differs between them") {
  const std::vector<float> logits(64, 0.0F);
  std::map<protocols::token_id, int> by_position;
  std::map<protocols::token_id, int> by_seed;
  for (std::uint64_t i = 0; i < 200; ++i) {
    const protocols::sampling_options one{.temperature = 1.0F, .seed = 7};
    CHECK(choose(logits, one, i) == choose(logits, one, i));
    ++by_position[choose(logits, one, i)];
    ++by_seed[choose(logits, {.temperature = 1.0F, .seed = i}, 0)];
  }
  CHECK(by_position.size() > 40);
  CHECK(by_seed.size() > 40);
}

TEST_CASE("sampling follows the softmax at its temperature") {
  const std::vector<float> logits{0.0F, 1.0F, 2.0F, -40.0F};
  constexpr int draws = 20000;
  for (const float temperature : {0.7F, 1.0F, 2.0F}) {
    CAPTURE(temperature);
    std::map<protocols::token_id, int> seen;
    for (int i = 0; i < draws; ++i)
      ++seen[choose(logits, {.temperature = temperature, .seed = 3}, static_cast<std::uint64_t>(i))];
    double total = 0.0;
    for (const float each : logits)
      total += std::exp(each / temperature);
    for (protocols::token_id id = 0; id < 3; ++id)
      CHECK(seen[id] / double{draws} ==
            doctest::Approx(std::exp(logits[static_cast<std::size_t>(id)] / temperature) / total).epsilon(0.05));
    CHECK(seen[3] == 0);
  }
}

TEST_CASE("top_p keeps the likeliest tokens that reach it, and always one") {
  // 0.5, 0.3 and 0.2 of the whole.
  const std::vector<float> logits{std::log(0.2F), std::log(0.5F), std::log(0.3F)};
  const auto seen = [&](float top_p) {
    std::map<protocols::token_id, int> ids;
    for (std::uint64_t i = 0; i < 500; ++i)
      ++ids[choose(logits, {.temperature = 1.0F, .top_p = top_p, .seed = 1}, i)];
    return ids;
  };
  CHECK(seen(1.0F).size() == 3);
  CHECK(seen(0.75F).size() == 2);
  CHECK_FALSE(seen(0.75F).contains(0));
  CHECK(seen(0.4F).size() == 1);
  CHECK(seen(0.0F).contains(1));
  CHECK(seen(0.0F).size() == 1);
}

TEST_CASE("G10: draws are XXH3 of seed and position") {
  std::mt19937_64 from{11};
  for (int i = 0; i < 1000; ++i) {
    const std::array<std::uint64_t, 2> key{from(), i % 2 == 0 ? from() : static_cast<std::uint64_t>(i)};
    CHECK(gpu::hash_pair(key[0], key[1]) == XXH3_64bits(key.data(), sizeof key));
    CHECK(gpu::uniform_draw(key[0], key[1]) < 1.0);
  }
}
