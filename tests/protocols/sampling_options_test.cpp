#include "protocols/serve/sampling_options.hpp"

#include <doctest/doctest.h>

#include <functional>
#include <limits>

#include "protocols/limits.hpp"
#include "protocols/serve/request_messages.hpp"

using namespace troupe::protocols;

namespace {

constexpr sampling_bounds of_client{.vocabulary = 100, .stop_ids_max = limits::stop_ids_max};

std::string problem_of(const std::function<void(sampling_options&)>& change) {
  sampling_options options;
  change(options);
  return find_invalid(options, of_client).value_or("");
}

} // namespace

TEST_CASE("K9: what a request says of sampling is refused where it is out of bounds, by its name") {
  constexpr float no_number = std::numeric_limits<float>::quiet_NaN();
  constexpr float endless = std::numeric_limits<float>::infinity();
  CHECK(problem_of([](auto&) {}).empty());
  for (const float bad : {no_number, endless, -1.0F})
    CHECK(problem_of([&](auto& of) { of.temperature = bad; }).starts_with("temperature is "));
  for (const float bad : {no_number, 0.0F, 1.5F})
    CHECK(problem_of([&](auto& of) { of.top_p = bad; }).starts_with("top_p is "));
  for (const float bad : {no_number, -0.5F, 1.5F})
    CHECK(problem_of([&](auto& of) { of.rules.min_p = bad; }).starts_with("min_p is "));
  for (const float bad : {no_number, -2.5F, 2.5F}) {
    CHECK(problem_of([&](auto& of) { of.rules.presence_penalty = bad; }).starts_with("presence_penalty is "));
    CHECK(problem_of([&](auto& of) { of.rules.frequency_penalty = bad; }).starts_with("frequency_penalty is "));
  }
  for (const float bad : {no_number, -1.0F, 101.0F})
    CHECK(problem_of([&](auto& of) { of.rules.repetition_penalty = bad; }).starts_with("repetition_penalty is "));
  CHECK(problem_of([](auto& of) { of.rules.repetition_penalty = 0.5F; }).empty());
  CHECK(problem_of([](auto& of) { of.rules.presence_penalty = 2.5F; }) == "presence_penalty is 2.5; -2 to 2");
}

TEST_CASE("K9: lists of a request's sampling are bounded, and name tokens that the model has") {
  const auto with_bias = [](std::vector<token_bias> bias) {
    return problem_of([&](auto& of) { of.rules.bias = std::move(bias); });
  };
  CHECK(with_bias({{0, -100.0F}, {99, 100.0F}}).empty());
  CHECK(with_bias({{100, 1.0F}}) == "logit_bias names token 100; the model has 0 to 99");
  CHECK(with_bias({{-1, 1.0F}}).starts_with("logit_bias names token -1"));
  CHECK(with_bias({{7, 100.5F}}) == "logit_bias of token 7 is 100.5; -100 to 100");
  CHECK(with_bias({{7, std::numeric_limits<float>::quiet_NaN()}}).starts_with("logit_bias of token 7"));
  CHECK(with_bias({{7, 1.0F}, {7, 2.0F}}).find("each once") != std::string::npos);
  CHECK(with_bias({{8, 1.0F}, {7, 2.0F}}).find("ascending") != std::string::npos);
  CHECK(with_bias(std::vector<token_bias>(limits::logit_bias_max + 1)).starts_with("logit_bias has 301 tokens"));

  const auto with_stops = [](std::vector<token_id> ids) {
    return problem_of([&](auto& of) { of.rules.stop_ids = std::move(ids); });
  };
  CHECK(with_stops(std::vector<token_id>(limits::stop_ids_max, 5)).empty());
  CHECK(with_stops(std::vector<token_id>(limits::stop_ids_max + 1, 5)).starts_with("stop_token_ids has 65 tokens"));
  CHECK(with_stops({100}).starts_with("stop_token_ids names token 100"));

  CHECK(problem_of([](auto& of) { of.rules.top_logprobs = 1; }) == "top_logprobs is 1 without logprobs");
  CHECK(problem_of([](auto& of) {
          of.rules.logprobs = true;
          of.rules.top_logprobs = 21;
        }) == "top_logprobs is 21; at most 20");
}

TEST_CASE("a request's name is short and printable") {
  request_trace trace{.name = std::string(limits::request_name_bytes_max, 'a')};
  CHECK_FALSE(find_invalid(trace));
  trace.name += 'a';
  CHECK(find_invalid(trace)->find("129 bytes; at most 128") != std::string::npos);
  trace.name = "a\nb";
  CHECK(find_invalid(trace)->find("printable") != std::string::npos);
}
