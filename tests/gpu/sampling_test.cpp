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

// ---- rules ----------------------------------------------------------------------------------------------------------

namespace {

using protocols::sampling_options;
using protocols::sampling_rules;
using protocols::token_id;
using protocols::token_logprob;

token_id choose_by(const std::vector<float>& logits, const sampling_options& options, std::uint64_t position = 0,
                   const std::vector<token_id>& answer = {}) {
  std::vector<token_logprob> told;
  return gpu::models::choose(logits, options, {.position = position, .tokens = answer}, told);
}

/// How often each token is drawn.
std::map<token_id, int> drawn(const std::vector<float>& logits, sampling_options options, int draws = 4000) {
  std::map<token_id, int> seen;
  for (int i = 0; i < draws; ++i)
    ++seen[choose_by(logits, options, static_cast<std::uint64_t>(i))];
  return seen;
}

} // namespace

TEST_CASE("penalties take from the logits of tokens that were there: repetition, frequency, presence, in this order") {
  // Given 2 and -2 and a token that was never there
  const std::vector<float> logits{2.0F, -2.0F, 0.9F};
  const auto greedy = [&](sampling_rules rules, const std::vector<token_id>& answer) {
    return choose_by(logits, {.rules = std::move(rules)}, answer.size(), answer);
  };
  CHECK(greedy({}, {0}) == 0);
  CHECK(greedy({.presence_penalty = 1.0F}, {0}) == 0);        // 1
  CHECK(greedy({.presence_penalty = 1.2F}, {0}) == 2);        // 0.8
  CHECK(greedy({.presence_penalty = 1.0F}, {0, 0, 0}) == 0);  // once, however often
  CHECK(greedy({.frequency_penalty = 0.5F}, {0, 0}) == 0);    // 1
  CHECK(greedy({.frequency_penalty = 0.5F}, {0, 0, 0}) == 2); // 0.5
  CHECK(greedy({.frequency_penalty = 0.5F}, {1, 1, 1}) == 0);
  CHECK(greedy({.repetition_penalty = 2.0F}, {0}) == 0);                   // 1
  CHECK(greedy({.repetition_penalty = 2.5F}, {0}) == 2);                   // 0.8
  CHECK(greedy({.repetition_penalty = 2.0F, .prompt_ids = {0}}, {}) == 0); // the prompt's count too
  CHECK(greedy({.repetition_penalty = 2.5F, .prompt_ids = {0}}, {}) == 2);
  CHECK(greedy({.presence_penalty = 2.0F, .prompt_ids = {0}}, {}) == 0); // here they do not
  // 2 / 2 - 0.3: the other way round it would be 0.85
  CHECK(greedy({.presence_penalty = 0.3F, .repetition_penalty = 2.0F}, {0}) == 2);
  CHECK(greedy({.presence_penalty = -2.0F, .repetition_penalty = 0.25F}, {1}) == 0); // -0.5 + 2 = 1.5
  CHECK(greedy({.presence_penalty = -2.0F, .repetition_penalty = 0.01F}, {1, 0}) == 0);
}

TEST_CASE("a bias is added to its token's logit, after penalties") {
  const std::vector<float> logits{2.0F, 1.0F, 0.0F};
  CHECK(choose_by(logits, {.rules = {.bias = {{2, 2.5F}}}}) == 2);
  CHECK(choose_by(logits, {.rules = {.bias = {{0, -1.5F}, {2, -100.0F}}}}) == 1);
  // (2 / 4) + 1: a bias before the penalty would leave 0.75, and token 1 with 1
  CHECK(choose_by(logits, {.rules = {.repetition_penalty = 4.0F, .bias = {{0, 1.0F}}, .prompt_ids = {0}}}) == 0);
}

TEST_CASE("before min_tokens what ends the answer is not chosen, greedy or drawn, and then it may be") {
  const std::vector<float> logits{9.0F, 1.0F, 8.0F};
  for (const float temperature : {0.0F, 1.0F}) {
    const sampling_options how{.temperature = temperature, .rules = {.min_tokens = 2, .stop_ids = {2, 0}}};
    CHECK(choose_by(logits, how, 0) == 1);
    CHECK(choose_by(logits, how, 1) == 1);
    CHECK(choose_by(logits, how, 2) != 1);
  }
  // A bias does not bring it back.
  CHECK(choose_by(logits, {.rules = {.bias = {{0, 100.0F}}, .min_tokens = 1, .stop_ids = {0}}}, 0) == 2);
}

TEST_CASE("top_k keeps so many likeliest tokens, of equals the lower ids") {
  const std::vector<float> logits{1.0F, 1.1F, 1.0F, 0.9F, 1.0F};
  const auto kept = [&](std::uint32_t k) {
    std::vector<token_id> ids;
    for (const auto& [id, times] : drawn(logits, {.temperature = 1.0F, .seed = 5, .rules = {.top_k = k}}, 400))
      ids.push_back(id);
    return ids;
  };
  CHECK(kept(1) == std::vector<token_id>{1});
  CHECK(kept(2) == std::vector<token_id>{0, 1});
  CHECK(kept(4) == std::vector<token_id>{0, 1, 2, 4});
  CHECK(kept(0).size() == 5);
  CHECK(kept(50).size() == 5);
}

TEST_CASE("top_p counts of what top_k has left, and min_p of the likeliest's share") {
  // 0.4, 0.3, 0.2 and 0.1 of the whole.
  const std::vector<float> logits{std::log(0.4F), std::log(0.3F), std::log(0.2F), std::log(0.1F)};
  const auto count = [&](sampling_options how) { return drawn(logits, std::move(how), 600).size(); };
  CHECK(count({.temperature = 1.0F, .top_p = 0.5F}) == 2);
  CHECK(count({.temperature = 1.0F, .top_p = 0.5F, .rules = {.top_k = 2}}) == 1); // 4/7 alone is enough
  CHECK(count({.temperature = 1.0F, .rules = {.min_p = 0.6F}}) == 2);             // 0.3 / 0.4
  CHECK(count({.temperature = 1.0F, .rules = {.min_p = 0.4F}}) == 3);
  CHECK(count({.temperature = 1.0F, .rules = {.min_p = 1.0F}}) == 1);
  CHECK(count({.temperature = 0.5F, .rules = {.min_p = 0.4F}}) == 2); // of the weights at the temperature: 9/16, 4/16
  CHECK(count({.temperature = 1.0F, .top_p = 0.95F, .rules = {.top_k = 3, .min_p = 0.7F}}) == 2);
}

TEST_CASE("G10: rules change no draw: what they leave is drawn in its shares") {
  const std::vector<float> logits{std::log(0.4F), std::log(0.3F), std::log(0.2F), std::log(0.1F)};
  const auto seen = drawn(logits, {.temperature = 1.0F, .seed = 8, .rules = {.top_k = 2}}, 20000);
  CHECK(seen.at(0) / 20000.0 == doctest::Approx(4.0 / 7.0).epsilon(0.03));
  sampling_options plain{.temperature = 0.8F, .top_p = 0.9F, .seed = 8};
  auto tells = plain;
  tells.rules.logprobs = true;
  for (std::uint64_t at = 0; at < 200; ++at)
    CHECK(choose_by(logits, tells, at) == choose(logits, plain, at));
}

TEST_CASE("log-probabilities are those of the model's own logits, whatever the rules and the temperature are") {
  const std::vector<float> logits{std::log(0.4F) + 3, std::log(0.3F) + 3, std::log(0.2F) + 3, std::log(0.1F) + 3};
  std::vector<token_logprob> told{{5, 0.0F}}; // what was told before stays
  const auto id = gpu::models::choose(
      logits, {.temperature = 0.1F, .seed = 3, .rules = {.bias = {{3, 100.0F}}, .logprobs = true, .top_logprobs = 2}},
      {}, told);
  CHECK(id == 3);
  REQUIRE(told.size() == 4);
  CHECK(told[1].id == 3);
  CHECK(told[1].value == doctest::Approx(std::log(0.1)));
  CHECK(told[2].id == 0);
  CHECK(told[2].value == doctest::Approx(std::log(0.4)));
  CHECK(told[3].id == 1);
  CHECK(told[3].value == doctest::Approx(std::log(0.3)));
}

TEST_CASE("K8: rules hide no logit that is not finite") {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()})
    for (const auto& rules :
         {sampling_rules{.bias = {{1, -100.0F}}}, sampling_rules{.min_tokens = 1, .stop_ids = {1}},
          sampling_rules{.repetition_penalty = 100.0F, .prompt_ids = {1}}, sampling_rules{.top_k = 1}})
      CHECK(choose_by({1.0F, bad, 2.0F}, {.rules = rules}) == gpu::not_finite);
  // One that the penalty makes endless is the largest there is.
  CHECK(choose_by({1.0F, -3e38F, 2.0F}, {.rules = {.repetition_penalty = 100.0F, .prompt_ids = {1}}}) == 2);
}
