#include "actors/serve/door/chat_messages.hpp"

#include <algorithm>
#include <array>

#include "actors/serve/door/base64.hpp"
#include "actors/serve/door/body_keys.hpp"
#include "protocols/limits.hpp"

namespace troupe::actors {

using namespace protocols;
using door::describe;
using door::json_kind;
using door::json_value;

namespace {

class message_reader {
public:
  message_reader(const body_bounds& bounds, chat_request& out) : bounds_(bounds), out_(out) {}

  problem read_messages(const std::string& param, const json_value& value) {
    if (value.kind != json_kind::list)
      return wrong_type(param, "a list of messages", value);
    if (value.elements.empty())
      return invalid_value(param, "is empty; at least one message is due here");
    for (std::size_t i = 0; i < value.elements.size(); ++i)
      if (auto bad = read_message(fmt::format("{}[{}]", param, i), value.elements[i]))
        return bad;
    return std::nullopt;
  }

private:
  problem read_message(const std::string& path, const json_value& value) {
    if (value.kind != json_kind::object)
      return wrong_type(path, "an object", value);
    auto& message = out_.asked.said.messages.emplace_back();
    const auto text = [](std::string& to) {
      return [&to](const std::string& param, const json_value& one) { return read_text(param, one, to); };
    };
    const auto no_calls = [](const std::string& param, const json_value& one) -> problem {
      if (one.kind == json_kind::list && one.elements.empty())
        return std::nullopt;
      return body_problem{"unsupported_parameter", fmt::format("{}: tools are not offered", param), param};
    };
    if (auto bad = read_members(value, path,
                                {{"role", text(message.role)},
                                 {"content", [&](const std::string& param,
                                                 const json_value& one) { return read_content(param, one, message); }},
                                 {"name", text(message.name)},
                                 {"reasoning_content", text(message.reasoning_content)},
                                 {"refusal", [](const std::string&, const json_value&) { return problem{}; }},
                                 {"annotations", no_calls},
                                 {"tool_calls", no_calls},
                                 {"tool_call_id", no_calls},
                                 {"function_call", no_calls},
                                 {"audio", no_calls}}))
      return bad;
    constexpr std::array<std::string_view, 4> roles{"system", "developer", "user", "assistant"};
    if (std::ranges::find(roles, message.role) == roles.end())
      return invalid_value(
          path + ".role",
          message.role.empty()
              ? "is missing; system, developer, user or assistant is due here"
              : fmt::format("'{}' is no role; valid: system, developer, user, assistant", message.role));
    if (message.role == "developer") // the newer name for the same role in OpenAI's API
      message.role = "system";
    if (find_set(value, "content") == nullptr && message.role != "assistant")
      return invalid_value(path + ".content", "is missing; a text or a list of parts is due here");
    return std::nullopt;
  }

  problem read_content(const std::string& param, const json_value& value, chat_message& message) {
    if (value.kind == json_kind::text) {
      message.content.push_back({.is = chat_part_kind::text, .text = std::string{value.text}});
      return std::nullopt;
    }
    if (value.kind != json_kind::list)
      return wrong_type(param, "a text or a list of parts", value);
    if (value.elements.empty())
      return invalid_value(param, "has no part; a text or a list of parts is due here");
    message.in_parts = true;
    for (std::size_t i = 0; i < value.elements.size(); ++i)
      if (auto bad = read_part(fmt::format("{}[{}]", param, i), value.elements[i], message))
        return bad;
    return std::nullopt;
  }

  problem read_part(const std::string& path, const json_value& value, chat_message& message) {
    if (value.kind != json_kind::object)
      return wrong_type(path, "a part with a type", value);
    const auto* const type = value.find("type");
    if (type == nullptr || type->kind != json_kind::text)
      return invalid_value(path + ".type", "is missing; text or image_url is due here");
    if (type->text == "text") {
      std::string text;
      if (find_set(value, "text") == nullptr)
        return invalid_value(path + ".text", "is missing");
      auto bad = read_members(value, path, {{"type", ignore}, {"text", [&](const auto& param, const auto& one) {
                                                                 return read_text(param, one, text);
                                                               }}});
      message.content.push_back({.is = chat_part_kind::text, .text = std::move(text)});
      return bad;
    }
    if (type->text == "image_url") {
      if (find_set(value, "image_url") == nullptr)
        return invalid_value(path + ".image_url", "is missing");
      message.content.push_back({.is = chat_part_kind::picture, .text = {}});
      return read_members(value, path, {{"type", ignore}, {"image_url", [&](const auto& param, const auto& one) {
                                                             return read_image(param, path, one);
                                                           }}});
    }
    constexpr std::array<std::string_view, 5> later{"input_audio", "audio_url", "video_url", "video", "file"};
    if (std::ranges::find(later, type->text) != later.end() || type->text == "refusal")
      return body_problem{"unsupported_parameter",
                          fmt::format("{}: parts of type {} are not offered; text and image_url are", path, type->text),
                          path};
    return invalid_value(path + ".type", fmt::format("'{}' is no type of a part; valid: text, image_url", type->text));
  }

  static problem ignore(const std::string&, const json_value&) { return std::nullopt; }

  problem read_image(const std::string& param, const std::string& part, const json_value& value) {
    const json_value* url = &value;
    if (value.kind == json_kind::object) {
      url = value.find("url");
      if (url == nullptr)
        return invalid_value(param + ".url", "is missing");
      if (auto bad = read_members(value, param, {{"url", ignore}, {"detail", [](const auto& path, const auto& one) {
                                                                     return read_detail(path, one);
                                                                   }}}))
        return bad;
    }
    if (url->kind != json_kind::text)
      return wrong_type(param, "a data: URL", *url);
    return read_data_url(part, url->text);
  }

  static problem read_detail(const std::string& param, const json_value& value) {
    if (value.kind == json_kind::text && (value.text == "auto" || value.text == "low" || value.text == "high"))
      return std::nullopt;
    return invalid_value(param, fmt::format("auto, low or high is due here, not {}", describe(value)));
  }

  problem read_data_url(const std::string& part, std::string_view url) {
    constexpr std::string_view scheme = "data:";
    constexpr std::string_view coding = ";base64";
    const auto bad_picture = [&](std::string text) {
      return body_problem{"bad_picture", fmt::format("{}: {}", part, text), part};
    };
    if (!url.starts_with(scheme))
      return body_problem{"image_url_not_allowed",
                          fmt::format("{}: pictures are not fetched from elsewhere; send the file itself, as "
                                      "data:image/png;base64,...",
                                      part),
                          part};
    const auto comma = url.find(',');
    if (comma == std::string_view::npos)
      return bad_picture("the data: URL has no comma; valid: data:image/png;base64,...");
    const auto media = url.substr(scheme.size(), comma - scheme.size());
    if (!media.starts_with("image/") || !media.ends_with(coding))
      return bad_picture(
          fmt::format("the data: URL is of '{}'; valid: data:image/png;base64,...", media.substr(0, 60)));
    const auto text = url.substr(comma + 1);
    if (out_.files.size() == limits::pictures_per_request_max)
      return bad_picture(fmt::format("a request may have at most {} pictures", limits::pictures_per_request_max));
    if (text.size() / 4 * 3 > bounds_.picture_bytes_max + 2)
      return bad_picture(fmt::format("a picture of {} bytes; at most {} (limits.picture_bytes_max)",
                                     text.size() / 4 * 3, bounds_.picture_bytes_max));
    auto bytes = decode_base64(text);
    if (!bytes || bytes->empty())
      return bad_picture("what follows the comma is no base64 of a picture");
    out_.asked.picture_names.push_back(part);
    out_.asked.picture_bytes.push_back(bytes->size());
    out_.files.push_back(*std::move(bytes));
    return std::nullopt;
  }

  const body_bounds& bounds_;
  chat_request& out_;
};

} // namespace

problem read_messages(const std::string& param, const json_value& value, const body_bounds& bounds, chat_request& out) {
  return message_reader{bounds, out}.read_messages(param, value);
}

} // namespace troupe::actors
