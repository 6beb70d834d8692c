#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "actors/serve/door/base64.hpp"
#include "actors/serve/door/chat_body.hpp"

using namespace troupe::actors;
using namespace troupe::protocols;

namespace {

constexpr body_bounds bounds{.picture_bytes_max = 100, .vocabulary = 1000};
constexpr std::string_view hello = R"("messages":[{"role":"user","content":"hi"}])";

tl::expected<chat_request, body_problem> read_chat(const std::string& members) {
  return read_body(body_form::chat, "{" + members + "}", bounds);
}

std::string with_hello(const std::string& more) {
  return std::string{hello} + "," + more;
}

std::string user(const std::string& content) {
  return R"("messages":[{"role":"system","content":"s"},{"role":"user","content":)" + content + "}]";
}

std::string image(const std::string& url) {
  return user(R"([{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":")" + url + R"("}}])");
}

} // namespace

TEST_CASE("K10: every setting of a body is honoured") {
  const std::string every =
      R"("model":"m","stream":true,"stream_options":{"include_usage":true},"n":3,"max_tokens":7,"temperature":0.5,
         "top_p":0.25,"top_k":5,"min_p":0.125,"presence_penalty":1,"frequency_penalty":-1,"repetition_penalty":1.5,
         "logit_bias":{"9":1,"3":-100},"min_tokens":2,"stop":["a","b"],"stop_token_ids":[4],"ignore_eos":true,
         "logprobs":true,"top_logprobs":4,"seed":-1,"timeout_ms":500,"priority":-3,"user":"u","metadata":{},
         "store":true,"service_tier":"auto","chat_template_kwargs":{"enable_thinking":false},
         "response_format":{"type":"text"},"tools":[])";
  CHECK_FALSE(read_chat(with_hello(every + R"(,"top_k":null)"))); // it stands twice
  const auto fine = read_chat(with_hello(every));
  REQUIRE(fine);
  CHECK(fine->model == "m");
  CHECK(fine->stream);
  CHECK(fine->includes_usage);
  CHECK(fine->n == 3);
  CHECK(fine->stops == std::vector<std::string>{"a", "b"});
  const auto& asked = fine->asked;
  CHECK(asked.max_tokens == 7);
  CHECK(asked.timeout_ms == 500);
  CHECK(asked.priority == -3);
  CHECK_FALSE(asked.draws_seed);
  CHECK(asked.said.template_arguments == R"({"enable_thinking":false})");
  sampling_options wanted{.temperature = 0.5F, .top_p = 0.25F, .seed = ~std::uint64_t{0}};
  wanted.rules = {.top_k = 5,
                  .min_p = 0.125F,
                  .presence_penalty = 1,
                  .frequency_penalty = -1,
                  .repetition_penalty = 1.5F,
                  .bias = {{.id = 3, .value = -100}, {.id = 9, .value = 1}},
                  .min_tokens = 2,
                  .stop_ids = {4},
                  .ignore_eos = true,
                  .logprobs = true,
                  .top_logprobs = 4,
                  .prompt_ids = {}};
  CHECK(asked.sampling == wanted);
}

TEST_CASE("K10: turns and pictures keep their order, and pictures their place in the body") {
  const auto read = read_chat(
      R"("messages":[{"role":"developer","content":"s"},
          {"role":"user","content":[{"type":"image_url","image_url":"data:image/png;base64,AAEC"},
                                    {"type":"text","text":"a"},
                                    {"type":"image_url","image_url":{"url":"data:image/jpeg;base64,Aw==","detail":"low"}}]},
          {"role":"assistant","content":null,"reasoning_content":"r"},{"role":"user","name":"n","content":"b"}])");
  REQUIRE_MESSAGE(read, (read ? "" : read.error().message));
  const auto& said = read->asked.said.messages;
  REQUIRE(said.size() == 4);
  CHECK(said[0].role == "system");
  CHECK(said[1].in_parts);
  CHECK(said[1].content.size() == 3);
  CHECK(said[2].content.empty());
  CHECK(said[2].reasoning_content == "r");
  CHECK(said[3].name == "n");
  CHECK(pictures_in(read->asked.said) == 2);
  CHECK(read->asked.picture_names == std::vector<std::string>{"messages[1].content[0]", "messages[1].content[2]"});
  CHECK(read->asked.picture_bytes == std::vector<std::uint64_t>{3, 1});
  CHECK(read->files[0] == std::vector{std::byte{0}, std::byte{1}, std::byte{2}});
  CHECK(read->asked.sampling.temperature == 1.0F);
  CHECK(read->asked.draws_seed);
  CHECK(read->asked.max_tokens == 0);
}

TEST_CASE("K10: what is wrong with a body is named with its place and what would be valid") {
  struct row {
    std::string members;
    std::string code;
    std::string param;
    std::string words;
  };
  const std::vector<row> rows{
      {"x", "invalid_json", "", "line 1 column 2"},
      {with_hello(R"("temprature":1)"), "unknown_parameter", "temprature", "did you mean temperature?"},
      {with_hello(R"("zzzzzzzzz":1)"), "unknown_parameter", "zzzzzzzzz", "valid here: model"},
      {with_hello(R"("stream":true,"stream_options":{"usage":true})"), "unknown_parameter", "stream_options.usage", ""},
      {with_hello(R"("tools":[{}])"), "unsupported_parameter", "tools", "tools are not offered"},
      {with_hello(R"("audio":{"voice":"a"})"), "unsupported_parameter", "audio", "sound"},
      {with_hello(R"("use_beam_search":true)"), "unsupported_parameter", "use_beam_search", "beams"},
      {with_hello(R"("response_format":{"type":"json_object"})"), "unsupported_parameter", "response_format", "text"},
      {with_hello(R"("temperature":3)"), "invalid_value", "temperature", "from 0 to 2"},
      {with_hello(R"("temperature":"1")"), "invalid_value", "temperature", "the text '1'"},
      {with_hello(R"("top_p":0)"), "invalid_value", "top_p", "above 0"},
      {with_hello(R"("n":17)"), "invalid_value", "n", "from 1 to 16"},
      {with_hello(R"("max_tokens":0)"), "invalid_value", "max_tokens", "from 1"},
      {with_hello(R"("max_tokens":1,"max_completion_tokens":2)"), "invalid_value", "max_completion_tokens",
       "different"},
      {with_hello(R"("min_tokens":3,"max_tokens":2)"), "invalid_value", "min_tokens", "more than max_tokens"},
      {with_hello(R"("logit_bias":{"1000":1})"), "invalid_value", "logit_bias.1000", "0 to 999"},
      {with_hello(R"("logit_bias":{"1":101})"), "invalid_value", "logit_bias.1", "-100 to 100"},
      {with_hello(R"("stop":["a",1])"), "invalid_value", "stop[1]", "a text is due"},
      {with_hello(R"("stop":"")"), "invalid_value", "stop", "1 to 256 bytes"},
      {with_hello(R"("stop_token_ids":[1000])"), "invalid_value", "stop_token_ids[0]", "0 to 999"},
      {with_hello(R"("top_logprobs":2)"), "invalid_value", "top_logprobs", "logprobs: true"},
      {with_hello(R"("stream_options":{"include_usage":true})"), "invalid_value", "stream_options", "stream: true"},
      {R"("model":"m")", "invalid_value", "messages", "is missing"},
      {R"("messages":null)", "invalid_value", "messages", "is missing"},
      {R"("messages":[{"role":"user","content":[{"type":"text","text":null}]}])", "invalid_value",
       "messages[0].content[0].text", "is missing"},
      {R"("messages":[])", "invalid_value", "messages", "is empty"},
      {R"("messages":[{"role":"robot","content":"a"}])", "invalid_value", "messages[0].role", "valid: system"},
      {R"("messages":[{"content":"a"}])", "invalid_value", "messages[0].role", "is missing"},
      {R"("messages":[{"role":"user"}])", "invalid_value", "messages[0].content", "is missing"},
      {user("5"), "invalid_value", "messages[1].content", "the number 5"},
      {user("[]"), "invalid_value", "messages[1].content", "no part"},
      {user(R"([{"type":"text","text":"a"},{"text":"b"}])"), "invalid_value", "messages[1].content[1].type", ""},
      {user(R"([{"type":"picture"}])"), "invalid_value", "messages[1].content[0].type", "valid: text, image_url"},
      {user(R"([{"type":"video_url","video_url":{"url":"x"}}])"), "unsupported_parameter", "messages[1].content[0]",
       ""},
      {image("https://example.org/a.png"), "image_url_not_allowed", "messages[1].content[1]", "data:"},
      {image("file:///etc/passwd"), "image_url_not_allowed", "messages[1].content[1]", "data:"},
      {image("data:image/png;base64,A"), "bad_picture", "messages[1].content[1]", "no base64"},
      {image("data:image/png;base64,"), "bad_picture", "messages[1].content[1]", "no base64"},
      {image("data:text/plain,abc"), "bad_picture", "messages[1].content[1]", "text/plain"},
      {image("data:image/png;base64," + std::string(400, 'A')), "bad_picture", "messages[1].content[1]",
       "picture_bytes_max"},
  };
  for (const auto& each : rows) {
    CAPTURE(each.members);
    const auto read = read_chat(each.members);
    REQUIRE_FALSE(read);
    CHECK(read.error().code == each.code);
    CHECK(read.error().param == each.param);
    CAPTURE(read.error().message);
    CHECK(read.error().message.find(each.words) != std::string::npos);
  }
}

TEST_CASE("K10: base64 is taken as RFC 4648 has it and in no other form") {
  CHECK(decode_base64("")->empty());
  CHECK(decode_base64("TWFu")->size() == 3);
  CHECK(decode_base64("TWE=")->size() == 2);
  CHECK(decode_base64("TQ==")->size() == 1);
  for (const auto* bad : {"T", "TQ", "TQ=", "T===", "TQ==TQ==", "TWF\n", "TW-_", "TR==", "TWF="})
    CHECK_MESSAGE(!decode_base64(bad), bad);
}
