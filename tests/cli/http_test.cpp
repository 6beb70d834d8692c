#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "tests/cli/command.hpp"
#include "tests/cli/golden_pages.hpp"
#include "tests/door/http_client.hpp"

using namespace troupe;
using namespace troupe::tests;

namespace {

constexpr std::string_view four_ranks = R"({"front": {"role": "front"}, "encode": {"role": "encode"},
                                            "prefill": {"role": "prefill"}, "decode": {"role": "decode"}})";

std::string base64_of(const std::string& bytes) {
  constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t three = 0;
    for (std::size_t j = 0; j < 3; ++j)
      three = three << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0U);
    for (std::size_t j = 0; j < 4; ++j)
      out += i + j > bytes.size() ? '=' : alphabet[three >> (18 - 6 * j) & 63];
  }
  return out;
}

/// A job of the reader model with a door at a free port.
class open_job {
public:
  explicit open_job(std::string_view pools = one_rank(), std::string_view more = "") {
    const auto spec = here_.write("spec.json", reader_spec(pools, more));
    job_.emplace(std::vector<std::string>{"up", spec, "--job", here_.job(), "--run-dir", here_ / "jobs", "--json",
                                          "--http", "127.0.0.1:0"});
    REQUIRE(job_->prints("}\n"));
    ready_ = nlohmann::json::parse(job_->out());
    const auto at = ready_["http"].get<std::string>();
    port_ = static_cast<std::uint16_t>(std::stoul(at.substr(at.rfind(':') + 1)));
  }

  http_client client() const { return http_client{port_}; }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/v1"; }
  http_answer asks(const nlohmann::json& body, std::string_view more = "") const {
    auto one = client();
    one.post("/v1/chat/completions", body.dump(), more);
    return one.answer();
  }
  pid_t pid_of(std::string_view label) const {
    for (const auto& rank : ready_["ranks"])
      if (rank["label"] == label)
        return rank["pid"];
    return -1;
  }
  command_end troupe(std::string verb) const {
    return run_troupe({std::move(verb), "--job", here_.job(), "--run-dir", here_ / "jobs"}, 120s);
  }
  void end() {
    CHECK(troupe("down").exit_code == 0);
    CHECK(job_->finish(30s).exit_code == 0);
  }
  const scratch_folder& folder() const { return here_; }

private:
  scratch_folder here_;
  std::optional<command> job_;
  nlohmann::json ready_;
  std::uint16_t port_ = 0;
};

nlohmann::json question_of(const golden_page& page) {
  return {{"model", "reader"},
          {"temperature", 0},
          {"max_tokens", 64},
          {"messages",
           {{{"role", "user"},
             {"content",
              {{{"type", "image_url"},
                {"image_url", {{"url", "data:image/png;base64," + base64_of(content_of(page.image))}}}},
               {{"type", "text"}, {"text", page.prompt}}}}}}}};
}

std::string text_of(const http_answer& whole) {
  const auto body = nlohmann::json::parse(whole.body, nullptr, false);
  return body.is_object() && body.contains("choices") ? body["choices"][0]["message"]["content"].get<std::string>()
                                                      : whole.body;
}

std::string streamed_text(const http_answer& stream) {
  std::string out;
  constexpr std::string_view begin = "data: {";
  for (auto at = stream.body.find(begin); at != std::string::npos; at = stream.body.find(begin, at + 1)) {
    const auto line = stream.body.substr(at + 6, stream.body.find("\n\n", at) - at - 6);
    const auto event = nlohmann::json::parse(line);
    if (!event["choices"].empty())
      out += event["choices"][0]["delta"].value("content", "");
  }
  return out;
}

nlohmann::json error_of(const http_answer& answer) {
  const auto body = nlohmann::json::parse(answer.body, nullptr, false);
  return body.is_object() && body.contains("error") ? body["error"] : nlohmann::json::object();
}

} // namespace

TEST_CASE("A12: over HTTP every page is read as by the command, whole and streamed") {
  open_job job{four_ranks};
  for (const auto& page : golden_pages()) {
    CAPTURE(page.image);
    auto question = question_of(page);
    const auto whole = job.asks(question);
    CHECK(whole.status == 200);
    CHECK(text_of(whole) == page.text);
    question["stream"] = true;
    const auto stream = job.asks(question);
    CHECK(streamed_text(stream) == page.text);
    CHECK(stream.body.ends_with("data: [DONE]\n\n"));
    CHECK_FALSE(stream.has("usage"));
  }
  job.end();
}

TEST_CASE("A17: the client that openai publishes asks, streams, leaves and is refused as its own service would") {
  const char* const cache = std::getenv("TROUPE_NODE_MODULES");
  const auto modules =
      std::filesystem::path{cache != nullptr ? cache
                                             : std::string{std::getenv("HOME") != nullptr ? std::getenv("HOME") : ""} +
                                                   "/.cache/troupe/npm/node_modules"};
  if (!std::filesystem::exists(modules / "openai")) {
    MESSAGE("not run: tools/setup has found no network to install the client openai from npm into ", modules.string());
    return;
  }
  open_job job{four_ranks};
  const auto& page = golden_pages().front();
  command node{{"node", TROUPE_SOURCE_DIR "/tests/cli/openai_client.cjs", modules.string(), job.url(), page.image,
                page.prompt, page.text},
               {},
               RLIM_INFINITY,
               "/usr/bin/env"};
  const auto end = node.finish(60s);
  CAPTURE(end.err);
  CHECK(end.exit_code == 0);
  CHECK(end.out == "fine\n");
  job.end();
}

TEST_CASE("K9: each kind of bad input gets its status, its code and its place, and good input is answered after it") {
  open_job job;
  const auto& page = golden_pages().front();
  const auto good = question_of(page);
  struct row {
    std::string change; ///< a JSON merge patch
    int status;
    std::string code;
  };
  const std::vector<row> rows{
      {R"({"model": "other"})", 404, "model_not_found"},
      {R"({"temperature": 9})", 400, "invalid_value"},
      {R"({"temprature": 1})", 400, "unknown_parameter"},
      {R"({"tools": [{}]})", 400, "unsupported_parameter"},
      {R"({"messages": []})", 400, "invalid_value"},
      {R"({"max_tokens": 1000000})", 400, "context_length_exceeded"},
      {R"({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a/b"}}]}]})",
       400, "image_url_not_allowed"},
      {R"({"messages": [{"role": "user",
                         "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}]})",
       400, "bad_picture"},
  };
  for (const auto& each : rows) {
    CAPTURE(each.change);
    auto question = good;
    question.merge_patch(nlohmann::json::parse(each.change));
    const auto answer = job.asks(question);
    CAPTURE(answer.body);
    CHECK(answer.status == each.status);
    CHECK(error_of(answer).value("code", "") == each.code);
    CHECK(error_of(answer).value("type", "") == "invalid_request_error");
  }
  auto client = job.client();
  client.post("/v1/chat/completions", "{\n\"model\": nul}");
  const auto no_json = client.answer();
  CHECK(no_json.status == 400);
  CHECK(no_json.has("line 2 column 10"));
  client.get("/v1/nothing");
  CHECK(client.answer().status == 404);
  client.get("/v1/chat/completions");
  CHECK(client.answer().has("Allow: POST"));
  const auto traced = job.asks(good, "X-Request-Id: abc-1\r\n"
                                     "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n");
  CHECK(text_of(traced) == page.text);
  CHECK(traced.has("X-Request-Id: abc-1"));
  job.end();
}

TEST_CASE("K9: a door with keys answers whoever shows one, and whether it lives to everybody") {
  const scratch_folder keys;
  const auto file = keys.write("keys", "# of the tests\nfirst\nsecond\n");
  open_job job{one_rank(), R"(, "http": {"key_file": ")" + file + R"(", "models": "gpt-4o, other"})"};
  auto client = job.client();
  client.get("/live");
  CHECK(client.answer().status == 200);
  CHECK(holds_within(10s, [&] { // once the front has heard of its ranks
    client.get("/ready");
    return client.answer().status == 200;
  }));
  for (const std::string wrong : {"", "Authorization: Bearer thir\r\n", "Authorization: Basic first\r\n"}) {
    client.get("/v1/models", wrong);
    const auto answer = client.answer();
    CHECK(answer.status == 401);
    CHECK(answer.has("WWW-Authenticate: Bearer"));
    CHECK(error_of(answer).value("code", "") == "invalid_api_key");
    CHECK(error_of(answer).value("type", "") == "authentication_error");
  }
  client.get("/v1/models/gpt-4o", "Authorization: Bearer second\r\n");
  const auto model = client.answer();
  CHECK(model.status == 200);
  CHECK(model.has("gpt-4o"));
  job.end();
}

TEST_CASE("K9: clients that leave in the middle of their answers take their questions along") {
  open_job job{four_ranks, R"(, "limits": {"in_flight_max": 4})"};
  const auto& page = golden_pages().front();
  auto question = question_of(page);
  question["stream"] = true;
  question["ignore_eos"] = true;
  question["max_tokens"] = 2000;
  for (int round = 0; round < 24; ++round) { // six times as many as the front takes at once
    auto client = job.client();
    client.post("/v1/chat/completions", question.dump());
    CHECK(client.reads("data: {"));
  }
  CHECK(text_of(job.asks(question_of(page))) == page.text);
  job.end();
}

TEST_CASE("D7: a rank that dies under an answer is named in the stream, and the door says when it serves again") {
  open_job job{four_ranks};
  auto question = question_of(golden_pages().front());
  question["stream"] = true;
  question["ignore_eos"] = true;
  question["max_tokens"] = 2000;
  auto client = job.client();
  client.post("/v1/chat/completions", question.dump());
  REQUIRE(client.reads("data: {"));
  ::kill(job.pid_of("decode.0"), SIGKILL);
  const auto cut = client.answer();
  CHECK(cut.status == 200);
  CHECK(cut.has("decode.0"));
  CHECK(cut.has("server_error"));
  CHECK_FALSE(cut.has("[DONE]"));
  CHECK(client.is_closed());
  CHECK(holds_within(30s, [&] {
    auto asking = job.client();
    asking.get("/ready");
    return asking.answer().status == 200;
  }));
  CHECK(text_of(job.asks(question_of(golden_pages().front()))) == golden_pages().front().text);

  const auto page_of = [&](const char* path) {
    auto asking = job.client();
    asking.get(path);
    return asking.answer();
  };
  CHECK(holds_within(10s, [&] {
    const auto health = nlohmann::json::parse(page_of("/health").body);
    const auto& rank = *std::ranges::find(health["ranks"], "decode.0", [](const auto& each) { return each["label"]; });
    return health["ready"] == true && rank["restarts"] == 1 && rank["generation"] == 2 && rank["state"] == "ready" &&
           has(rank["cause"].dump(), "signal 9");
  }));
  const auto metrics = page_of("/metrics");
  CHECK(metrics.status == 200);
  CHECK(metrics.has("text/plain; version=0.0.4"));
  CHECK(metrics.has("# TYPE troupe_time_to_first_token_seconds histogram"));
  CHECK_FALSE(metrics.has("vllm:"));
  CHECK(page_of("/metrics?names=vllm").has("# TYPE vllm:time_to_first_token_seconds histogram"));
  CHECK(page_of("/metrics?names=other").status == 400);
  job.end();
}
