#include "actors/serve/door/chat_answer.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace troupe::actors {

using namespace protocols;
using door::append_json_text;

namespace {

constexpr std::string_view done = "data: [DONE]\n\n";

std::string_view object_of(body_form form, bool stream) noexcept {
  if (form == body_form::completion)
    return "text_completion";
  return stream ? "chat.completion.chunk" : "chat.completion";
}

} // namespace

chat_answer::chat_answer(parts made_of) : parts_(std::move(made_of)) {
  for (std::uint32_t i = 0; i < parts_.n; ++i)
    choices_.push_back(
        {.stops = stop_text{parts_.stops}, .text = {}, .logprobs = {}, .begun = false, .ended = false, .finish = {}});
  head_ = R"({"id":)";
  append_json_text(head_, (parts_.form == body_form::chat ? "chatcmpl-" : "cmpl-") + parts_.id);
  head_ +=
      fmt::format(R"(,"object":"{}","created":{},"model":)", object_of(parts_.form, parts_.stream), parts_.created);
  append_json_text(head_, parts_.model);
}

bool chat_answer::is_open(std::uint64_t tag) const noexcept {
  return !ended_ && tag >= 1 && tag <= choices_.size() && !choices_[tag - 1].ended;
}

void chat_answer::on(const accepted& said) {
  usage_.on_prompt(said.prompt_tokens);
}

bool chat_answer::on(const answer& said) {
  if (!is_open(said.tag))
    return false;
  const auto which = static_cast<std::size_t>(said.tag - 1);
  auto& one = choices_[which];
  usage_.on_token();
  if (parts_.logprobs)
    add_logprobs(one, said);
  begin();
  const auto text = one.stops.push(said.text);
  if (one.stops.has_stopped()) {
    end_choice(which, text, "stop");
    return true;
  }
  give(which, text);
  return false;
}

void chat_answer::on(const finished& said) {
  if (!is_open(said.tag))
    return;
  const auto which = static_cast<std::size_t>(said.tag - 1);
  if (said.reason == finish_reason::failed || said.reason == finish_reason::cancelled)
    return fail(answer_to_failure(said.message), 1);
  auto& stops = choices_[which].stops;
  auto text = stops.push(said.text);
  const bool stopped = stops.has_stopped();
  text += stops.finish();
  begin();
  end_choice(which, text, stopped || said.reason == finish_reason::stop ? "stop" : "length");
}

void chat_answer::begin() {
  if (std::exchange(begun_, true) || !parts_.stream)
    return;
  parts_.to->begin_stream("text/event-stream");
}

void chat_answer::give(std::size_t which, std::string_view text) {
  auto& one = choices_[which];
  if (!parts_.stream) {
    one.text += text;
    return;
  }
  if (text.empty() && one.logprobs.empty() && one.begun)
    return;
  write_event(which, text, std::exchange(one.logprobs, {}), {});
}

void chat_answer::end_choice(std::size_t which, std::string_view text, std::string_view finish) {
  auto& one = choices_[which];
  one.ended = true;
  one.finish = finish;
  if (parts_.stream) {
    if (!text.empty() || !one.logprobs.empty() || !one.begun)
      give(which, text);
    write_event(which, {}, {}, finish);
  } else {
    one.text += text;
  }
  if (std::ranges::all_of(choices_, &choice::ended))
    end();
}

/// `data: {..., "choices": [{"index": 0, "delta": {"content": "..."}, "logprobs": null, "finish_reason": null}]}`
void chat_answer::write_event(std::size_t which, std::string_view delta, std::string_view logprobs,
                              std::string_view finish) {
  auto& one = choices_[which];
  std::string out;
  out.reserve(head_.size() + delta.size() + logprobs.size() + 160);
  out += "data: ";
  out += head_;
  fmt::format_to(std::back_inserter(out), R"(,"choices":[{{"index":{},)", which);
  if (parts_.form == body_form::completion) {
    out += R"("text":)";
    append_json_text(out, delta);
  } else {
    out += R"("delta":{)";
    if (!one.begun)
      out += R"("role":"assistant",)";
    if (finish.empty()) {
      out += R"("content":)";
      append_json_text(out, delta);
    }
    if (out.back() == ',')
      out.pop_back();
    out += '}';
  }
  one.begun = true;
  out += R"(,"logprobs":)";
  if (logprobs.empty())
    out += "null";
  else
    fmt::format_to(std::back_inserter(out), R"({{"content":[{}]}})", logprobs);
  if (finish.empty())
    out += R"(,"finish_reason":null}])";
  else
    fmt::format_to(std::back_inserter(out), R"(,"finish_reason":"{}"}}])", finish);
  if (parts_.includes_usage)
    out += R"(,"usage":null)";
  out += "}\n\n";
  parts_.to->write(out);
}

void chat_answer::append_usage(std::string& out) const {
  fmt::format_to(std::back_inserter(out), R"("usage":{{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{}}})",
                 usage_.prompt_tokens(), usage_.answer_tokens(), usage_.all_tokens());
}

void chat_answer::end() {
  ended_ = true;
  if (!parts_.stream)
    return answer_whole();
  if (parts_.includes_usage) {
    std::string out = "data: " + head_ + R"(,"choices":[],)";
    append_usage(out);
    out += "}\n\n";
    parts_.to->write(out);
  }
  parts_.to->write(done);
  parts_.to->end_stream(true);
}

void chat_answer::answer_whole() {
  std::string out = head_ + R"(,"choices":[)";
  for (std::size_t i = 0; i < choices_.size(); ++i) {
    const auto& one = choices_[i];
    fmt::format_to(std::back_inserter(out), R"({}{{"index":{},)", i == 0 ? "" : ",", i);
    out += parts_.form == body_form::chat ? R"("message":{"role":"assistant","content":)" : R"("text":)";
    append_json_text(out, one.text);
    if (parts_.form == body_form::chat)
      out += R"(,"refusal":null})";
    out += R"(,"logprobs":)";
    if (parts_.logprobs)
      fmt::format_to(std::back_inserter(out), R"({{"content":[{}]}})", one.logprobs);
    else
      out += "null";
    fmt::format_to(std::back_inserter(out), R"(,"finish_reason":"{}"}})", one.finish);
  }
  out += "],";
  append_usage(out);
  out += '}';
  parts_.to->answer({.status = 200, .content_type = "application/json", .body = std::move(out), .headers = {}});
}

void chat_answer::fail(const fault_answer& why, std::int64_t retry_after) {
  if (std::exchange(ended_, true))
    return;
  if (parts_.stream && begun_) {
    parts_.to->write("data: " + door::error_body(why.message, door::error_type(why.status), why.code, why.param) +
                     "\n\n");
    return parts_.to->end_stream(false);
  }
  auto no = door::error_response(why.status, why.message, why.code, why.param);
  if (why.may_come_again)
    no.headers.push_back({"Retry-After", std::to_string(retry_after)});
  parts_.to->answer(std::move(no));
}

void chat_answer::add_logprobs(choice& one, const answer& said) const {
  const auto entry = [&](const shown_logprob& each, bool open) {
    std::string out = R"({"token":)";
    append_json_text(out, each.bytes);
    fmt::format_to(std::back_inserter(out), R"(,"logprob":{},"bytes":[)", each.value);
    for (std::size_t i = 0; i < each.bytes.size(); ++i)
      fmt::format_to(std::back_inserter(out), "{}{}", i == 0 ? "" : ",", static_cast<unsigned char>(each.bytes[i]));
    return out + (open ? R"(],"top_logprobs":[)" : "]}");
  };
  if (said.logprobs.empty())
    return;
  if (!one.logprobs.empty())
    one.logprobs += ',';
  one.logprobs += entry(said.logprobs.front(), true);
  for (std::size_t i = 1; i < said.logprobs.size(); ++i)
    one.logprobs += (i == 1 ? "" : ",") + entry(said.logprobs[i], false);
  one.logprobs += "]}";
}

} // namespace troupe::actors
