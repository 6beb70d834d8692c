#include "actors/serve/door/chat_body.hpp"

#include <algorithm>
#include <charconv>
#include <limits>

#include <fmt/format.h>

#include "actors/serve/door/body_keys.hpp"
#include "actors/serve/door/chat_messages.hpp"
#include "protocols/limits.hpp"
#include "runtime/door/json_document.hpp"

namespace troupe::actors {

using namespace protocols;
using door::describe;
using door::json_kind;
using door::json_value;

namespace {

/// Reads one body into one request.
class body_reader {
public:
  body_reader(body_form form, const body_bounds& bounds) : form_(form), bounds_(bounds) {}

  problem read(const json_value& root) {
    if (root.kind != json_kind::object)
      return body_problem{"invalid_value", fmt::format("a body is an object, not {}", describe(root)), {}};
    if (auto bad = read_members(root, "", rows()))
      return bad;
    if (form_ == body_form::chat && find_set(root, "messages") == nullptr)
      return invalid_value("messages", "is missing: the turns of the conversation");
    if (form_ == body_form::completion && find_set(root, "prompt") == nullptr)
      return invalid_value("prompt", "is missing: the text to go on with");
    if (out.includes_usage && !out.stream)
      return invalid_value("stream_options", "is valid only with stream: true");
    auto& rules = out.asked.sampling.rules;
    if (rules.top_logprobs > 0 && !rules.logprobs)
      return invalid_value("top_logprobs", "is valid only with logprobs: true");
    if (rules.min_tokens > out.asked.max_tokens && out.asked.max_tokens > 0)
      return invalid_value("min_tokens",
                           fmt::format("is {}, more than max_tokens, {}", rules.min_tokens, out.asked.max_tokens));
    out.asked.draws_seed = !seeded_;
    return std::nullopt;
  }

  chat_request out;

private:
  // ---- rows -------------------------------------------------------------------------------------------------------

  std::vector<body_row> rows() {
    auto& asked = out.asked;
    auto& sampling = asked.sampling;
    auto& rules = sampling.rules;
    sampling.temperature = 1.0F; // the default of OpenAI's API; the command's own questions are greedy
    constexpr std::int64_t tokens_most = 1 << 24;
    std::vector<body_row> known{
        {"model",
         [this](const std::string& param, const json_value& value) { return read_text(param, value, out.model); }},
        truth_row("stream", out.stream),
        {"stream_options",
         [this](const std::string& param, const json_value& value) { return read_stream_options(param, value); }},
        whole_row("n", 1, answers_max, out.n),
        {"max_tokens", [this](const std::string& param, const json_value& value) { return read_length(param, value); }},
        real_row("temperature", {0, 2}, sampling.temperature),
        real_row("top_p", {0, 1}, sampling.top_p, false),
        {"top_k",
         [&rules](const std::string& param, const json_value& value) -> problem {
           if (as_whole(value) == -1) { // vLLM's value for all tokens
             rules.top_k = 0;
             return std::nullopt;
           }
           return read_whole(param, value, 0, std::numeric_limits<std::int32_t>::max(), rules.top_k);
         }},
        real_row("min_p", {0, 1}, rules.min_p),
        real_row("presence_penalty", {-2, 2}, rules.presence_penalty),
        real_row("frequency_penalty", {-2, 2}, rules.frequency_penalty),
        real_row("repetition_penalty", {0.01, 100}, rules.repetition_penalty),
        {"logit_bias", [this](const std::string& param, const json_value& value) { return read_bias(param, value); }},
        whole_row("min_tokens", 0, tokens_most, rules.min_tokens),
        {"stop", [this](const std::string& param, const json_value& value) { return read_stops(param, value); }},
        {"stop_token_ids",
         [this](const std::string& param, const json_value& value) { return read_stop_ids(param, value); }},
        truth_row("ignore_eos", rules.ignore_eos),
        {"seed",
         [this](const std::string& param, const json_value& value) {
           seeded_ = true;
           std::int64_t seed = 0;
           auto bad = read_whole(param, value, std::numeric_limits<std::int64_t>::min(),
                                 std::numeric_limits<std::int64_t>::max(), seed);
           out.asked.sampling.seed = static_cast<std::uint64_t>(seed);
           return bad;
         }},
        whole_row("timeout_ms", 1, 86'400'000, asked.timeout_ms),
        whole_row("priority", std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max(),
                  asked.priority),
        {"response_format",
         [](const std::string& param, const json_value& value) -> problem {
           const auto* const type = value.find("type");
           if (type != nullptr && type->kind == json_kind::text && type->text == "text")
             return std::nullopt;
           return body_problem{"unsupported_parameter",
                               fmt::format("{}: only {{\"type\": \"text\"}} is offered", param), param};
         }},
    };
    if (form_ == body_form::completion) {
      known.push_back(
          {"prompt", [this](const std::string& param, const json_value& value) { return read_prompt(param, value); }});
      known.push_back({"logprobs", [&rules](const std::string& param, const json_value& value) {
                         rules.logprobs = true;
                         return read_whole(param, value, 0, limits::top_logprobs_max, rules.top_logprobs);
                       }});
      return known;
    }
    known.push_back({"messages", [this](const std::string& param, const json_value& value) {
                       return read_messages(param, value, bounds_, out);
                     }});
    known.push_back({"max_completion_tokens",
                     [this](const std::string& param, const json_value& value) { return read_length(param, value); }});
    known.push_back(truth_row("logprobs", rules.logprobs));
    known.push_back(whole_row("top_logprobs", 0, limits::top_logprobs_max, rules.top_logprobs));
    known.push_back({"add_generation_prompt", [this](const std::string& param, const json_value& value) {
                       bool wanted = true;
                       auto bad = read_truth(param, value, wanted);
                       out.asked.said.no_generation_prompt = !wanted;
                       return bad;
                     }});
    known.push_back({"chat_template_kwargs", [this](const std::string& param, const json_value& value) -> problem {
                       if (value.kind != json_kind::object)
                         return wrong_type(param, "an object", value);
                       out.asked.said.template_arguments = value.source;
                       return std::nullopt;
                     }});
    return known;
  }

  problem read_stream_options(const std::string& param, const json_value& value) {
    if (value.kind != json_kind::object)
      return wrong_type(param, "an object", value);
    bool ignored = false;
    return read_members(value, param,
                        {truth_row("include_usage", out.includes_usage), truth_row("include_obfuscation", ignored)});
  }

  problem read_length(const std::string& param, const json_value& value) {
    std::uint32_t wanted = 0;
    if (auto bad = read_whole(param, value, 1, 1 << 24, wanted))
      return bad;
    if (out.asked.max_tokens != 0 && out.asked.max_tokens != wanted)
      return invalid_value(param, "max_tokens and max_completion_tokens say different numbers; state one of them");
    out.asked.max_tokens = wanted;
    return std::nullopt;
  }

  problem read_bias(const std::string& param, const json_value& value) {
    if (value.kind != json_kind::object)
      return wrong_type(param, "an object of token ids and numbers", value);
    auto& bias = out.asked.sampling.rules.bias;
    if (value.members.size() > limits::logit_bias_max)
      return invalid_value(param,
                           fmt::format("has {} tokens; at most {}", value.members.size(), limits::logit_bias_max));
    for (const auto& [key, number] : value.members) {
      const auto place = fmt::format("{}.{}", param, key);
      token_id id = -1;
      const auto* const end = key.data() + key.size();
      if (std::from_chars(key.data(), end, id).ptr != end || !is_token(id))
        return invalid_value(place, fmt::format("a key must be a token id from 0 to {}", bounds_.vocabulary - 1));
      auto& one = bias.emplace_back();
      one.id = id;
      if (auto bad = read_real(place, number, {-100, 100}, true, one.value))
        return bad;
    }
    std::ranges::sort(bias, {}, &token_bias::id);
    if (const auto twice = std::ranges::adjacent_find(bias, {}, &token_bias::id); twice != bias.end())
      return invalid_value(param, fmt::format("names token {} twice", twice->id));
    return std::nullopt;
  }

  bool is_token(std::int64_t id) const noexcept { return id >= 0 && id < std::int64_t{bounds_.vocabulary}; }

  problem read_stops(const std::string& param, const json_value& value) {
    const auto take = [this](const std::string& place, const json_value& one) -> problem {
      if (one.kind != json_kind::text)
        return wrong_type(place, "a text", one);
      if (one.text.empty() || one.text.size() > stop_bytes_max)
        return invalid_value(place,
                             fmt::format("a stop text has 1 to {} bytes, not {}", stop_bytes_max, one.text.size()));
      out.stops.emplace_back(one.text);
      return std::nullopt;
    };
    if (value.kind != json_kind::list)
      return take(param, value);
    if (value.elements.size() > stops_max)
      return invalid_value(param, fmt::format("has {} texts; at most {}", value.elements.size(), stops_max));
    for (std::size_t i = 0; i < value.elements.size(); ++i)
      if (auto bad = take(fmt::format("{}[{}]", param, i), value.elements[i]))
        return bad;
    return std::nullopt;
  }

  problem read_stop_ids(const std::string& param, const json_value& value) {
    if (value.kind != json_kind::list)
      return wrong_type(param, "a list of token ids", value);
    if (value.elements.size() > limits::stop_ids_max)
      return invalid_value(param,
                           fmt::format("has {} tokens; at most {}", value.elements.size(), limits::stop_ids_max));
    for (std::size_t i = 0; i < value.elements.size(); ++i)
      if (auto bad = read_whole(fmt::format("{}[{}]", param, i), value.elements[i], 0,
                                std::int64_t{bounds_.vocabulary} - 1, out.asked.sampling.rules.stop_ids.emplace_back()))
        return bad;
    return std::nullopt;
  }

  problem read_prompt(const std::string& param, const json_value& value) {
    if (value.kind != json_kind::text)
      return invalid_value(param,
                           fmt::format("one text is due here, not {}; send a request for each text", describe(value)));
    if (value.text.empty())
      return invalid_value(param, "is empty; a text is due here");
    out.asked.prompt = value.text;
    return std::nullopt;
  }

  body_form form_;
  const body_bounds& bounds_;
  bool seeded_ = false;
};

} // namespace

tl::expected<chat_request, body_problem> read_body(body_form form, std::string_view body, const body_bounds& bounds) {
  const auto document = door::json_document::read(body);
  if (!document) {
    const auto& at = document.error().at;
    return tl::unexpected<body_problem>{
        {"invalid_json",
         fmt::format("the body is no JSON, line {} column {}: {}", at.line, at.column, document.error().what),
         {}}};
  }
  body_reader reader{form, bounds};
  if (auto bad = reader.read(document->root()))
    return tl::unexpected<body_problem>{*std::move(bad)};
  return std::move(reader.out);
}

} // namespace troupe::actors
