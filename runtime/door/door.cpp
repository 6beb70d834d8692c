#include "runtime/door/door.hpp"

#include "runtime/base/plugin.hpp"
#include "runtime/base/utf8.hpp"
#include "runtime/door/plugin.hpp"

namespace troupe::door {

using namespace protocols;

result<std::unique_ptr<door>> open_door(options wanted) {
  const auto found = base::plugin_symbol("door", make_door_symbol);
  if (!found)
    return tl::unexpected<failure>{found.error()};
  result<std::unique_ptr<door>> made;
  reinterpret_cast<make_door_function*> (*found)(std::move(wanted), made);
  return made;
}

void append_json_text(std::string& out, std::string_view text) {
  constexpr std::string_view digits = "0123456789abcdef";
  out += '"';
  while (!text.empty()) {
    std::size_t plain = 0; // most bytes need no escape
    while (plain < text.size() && static_cast<unsigned char>(text[plain]) >= 0x20 && text[plain] != '"' &&
           text[plain] != '\\' && static_cast<unsigned char>(text[plain]) < 0x80)
      ++plain;
    out.append(text.substr(0, plain));
    text.remove_prefix(plain);
    if (text.empty())
      break;
    const auto letter = static_cast<unsigned char>(text.front());
    std::size_t taken = 1;
    if (letter == '"' || letter == '\\') {
      out += '\\';
      out += text.front();
    } else if (letter == '\n') {
      out += "\\n";
    } else if (letter < 0x20) {
      out += "\\u00";
      out += digits[letter / 16];
      out += digits[letter % 16];
    } else if (const auto front = base::front_of(text); front.is == base::utf8_front::kind::whole) {
      out.append(text.substr(0, front.length));
      taken = front.length;
    } else {
      out += "\xEF\xBF\xBD";
    }
    text.remove_prefix(taken);
  }
  out += '"';
}

std::string_view error_type(unsigned status) noexcept {
  if (status == 401 || status == 403)
    return "authentication_error";
  if (status == 429)
    return "rate_limit_error";
  return status >= 500 ? "server_error" : "invalid_request_error";
}

std::string error_body(std::string_view message, std::string_view type, std::string_view code, std::string_view param) {
  std::string out = R"({"error":{"message":)";
  append_json_text(out, message);
  out += R"(,"type":)";
  append_json_text(out, type);
  out += R"(,"param":)";
  if (param.empty())
    out += "null";
  else
    append_json_text(out, param);
  out += R"(,"code":)";
  append_json_text(out, code);
  out += "}}";
  return out;
}

response error_response(unsigned status, std::string_view message, std::string_view code, std::string_view param) {
  return {.status = status,
          .content_type = "application/json",
          .body = error_body(message, error_type(status), code, param),
          .headers = {}};
}

} // namespace troupe::door
