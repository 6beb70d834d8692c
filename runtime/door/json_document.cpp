#include "runtime/door/json_document.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include <fmt/format.h>

#include "runtime/base/utf8.hpp"

namespace troupe::door {

namespace {

bool is_digit(char letter) noexcept {
  return letter >= '0' && letter <= '9';
}

} // namespace

/// Parses one document. Stops at the first problem and keeps its place.
class json_reader {
public:
  explicit json_reader(std::string_view body) : body_(body) {}

  tl::expected<json_document, json_problem> read() {
    json_document document;
    into_ = &document;
    skip_space();
    if (!value(document.root_, 1))
      return problem();
    skip_space();
    if (at_ != body_.size()) {
      wrong("nothing may follow the body's value");
      return problem();
    }
    return document;
  }

private:
  tl::unexpected<json_problem> problem() const {
    return tl::unexpected<json_problem>{json_problem{place_of(body_, wrong_at_), wrong_}};
  }
  bool wrong(std::string what) { return wrong(std::move(what), at_); }
  bool wrong(std::string what, std::size_t offset) {
    wrong_ = std::move(what);
    wrong_at_ = offset;
    return false;
  }
  bool ended() const noexcept { return at_ == body_.size(); }
  char here() const noexcept { return ended() ? '\0' : body_[at_]; }
  void skip_space() noexcept {
    while (!ended() && (body_[at_] == ' ' || body_[at_] == '\n' || body_[at_] == '\r' || body_[at_] == '\t'))
      ++at_;
  }

  bool value(json_value& out, std::size_t depth) {
    if (depth > json_document::depth_max)
      return wrong(fmt::format("more than {} values stand inside each other", json_document::depth_max));
    if (++values_ > json_document::values_max)
      return wrong(fmt::format("the body has more than {} values", json_document::values_max));
    const auto begin = at_;
    const bool fine = value_of_kind(out, depth);
    out.source = body_.substr(begin, at_ - begin);
    return fine;
  }

  bool value_of_kind(json_value& out, std::size_t depth) {
    switch (here()) {
    case '{':
      return object(out, depth);
    case '[':
      return list(out, depth);
    case '"':
      out.kind = json_kind::text;
      return text(out.text);
    case 't':
      out.kind = json_kind::truth;
      out.truth = true;
      return word("true");
    case 'f':
      out.kind = json_kind::truth;
      return word("false");
    case 'n':
      return word("null");
    default:
      return number(out);
    }
  }

  bool word(std::string_view wanted) {
    if (!body_.substr(at_).starts_with(wanted))
      return wrong("this is no value; a value is a text, a number, a list, an object, true, false or null");
    at_ += wanted.size();
    return true;
  }

  bool number(json_value& out) {
    const auto begin = at_;
    const auto digits = [&] {
      const auto first = at_;
      while (is_digit(here()))
        ++at_;
      return at_ > first;
    };
    const auto no_value = [&] {
      return wrong(ended() ? "the body ends here, where a value is due"
                           : "this is no value; a value is a text, a number, a list, an object, true, false or null",
                   begin);
    };
    if (here() == '-')
      ++at_;
    if (here() == '0')
      ++at_;
    else if (!digits())
      return no_value();
    if (is_digit(here()))
      return wrong("a number does not begin with 0", begin);
    if (here() == '.') {
      ++at_;
      if (!digits())
        return wrong("digits are due behind the point of a number");
    }
    if (here() == 'e' || here() == 'E') {
      ++at_;
      if (here() == '+' || here() == '-')
        ++at_;
      if (!digits())
        return wrong("digits are due in the exponent of a number");
    }
    out.kind = json_kind::number;
    out.text = body_.substr(begin, at_ - begin);
    return true;
  }

  bool list(json_value& out, std::size_t depth) {
    out.kind = json_kind::list;
    ++at_;
    skip_space();
    if (here() == ']') {
      ++at_;
      return true;
    }
    while (true) {
      skip_space();
      if (!value(out.elements.emplace_back(), depth + 1))
        return false;
      skip_space();
      if (here() == ']') {
        ++at_;
        return true;
      }
      if (here() != ',')
        return wrong(ended() ? "the body ends inside a list" : "a comma or ']' is due here");
      ++at_;
    }
  }

  bool object(json_value& out, std::size_t depth) {
    out.kind = json_kind::object;
    std::set<std::string_view> known;
    ++at_;
    skip_space();
    if (here() == '}') {
      ++at_;
      return true;
    }
    while (true) {
      skip_space();
      const auto begin = at_;
      if (here() != '"')
        return wrong(ended() ? "the body ends inside an object" : "a key in quotes is due here");
      std::string_view key;
      if (!text(key))
        return false;
      if (!known.insert(key).second)
        return wrong(fmt::format("the key '{}' stands twice in this object", key), begin);
      skip_space();
      if (here() != ':')
        return wrong("a colon is due behind a key");
      ++at_;
      skip_space();
      if (!value(out.members.emplace_back(key, json_value{}).second, depth + 1))
        return false;
      skip_space();
      if (here() == '}') {
        ++at_;
        return true;
      }
      if (here() != ',')
        return wrong(ended() ? "the body ends inside an object" : "a comma or '}' is due here");
      ++at_;
    }
  }

  /// A text without escapes stays in the body and is not copied; most texts have none.
  bool text(std::string_view& out) {
    const auto begin = ++at_;
    std::string* own = nullptr;
    auto copied = begin;
    while (true) {
      while (!ended() && body_[at_] != '"' && body_[at_] != '\\' && static_cast<unsigned char>(body_[at_]) >= 0x20 &&
             static_cast<unsigned char>(body_[at_]) < 0x80)
        ++at_;
      if (ended())
        return wrong("the body ends inside a text");
      const auto letter = static_cast<unsigned char>(body_[at_]);
      if (letter == '"')
        break;
      if (letter < 0x20)
        return wrong("a control character stands in a text; write it as \\u and four hex digits");
      if (letter >= 0x80) {
        const auto front = base::front_of(body_.substr(at_));
        if (front.is != base::utf8_front::kind::whole)
          return wrong("this is not UTF-8");
        at_ += front.length;
        continue;
      }
      if (own == nullptr)
        own = &into_->decoded_.emplace_back();
      own->append(body_.substr(copied, at_ - copied));
      if (!escape(*own))
        return false;
      copied = at_;
    }
    if (own == nullptr)
      out = body_.substr(begin, at_ - begin);
    else {
      own->append(body_.substr(copied, at_ - copied));
      out = *own;
    }
    ++at_;
    return true;
  }

  bool escape(std::string& own) {
    constexpr std::string_view letters = "\"\\/bfnrt";
    constexpr std::string_view meant = "\"\\/\b\f\n\r\t";
    const auto begin = at_++;
    if (const auto which = ended() ? std::string_view::npos : letters.find(here()); which != std::string_view::npos) {
      own += meant[which];
      ++at_;
      return true;
    }
    std::uint32_t point = 0;
    if (here() != 'u' || !hex(point))
      return wrong("no escape of JSON; valid: \\\" \\\\ \\/ \\b \\f \\n \\r \\t and \\u with four hex digits", begin);
    if (point >= 0xD800 && point < 0xDC00) {
      std::uint32_t low = 0;
      if (!body_.substr(at_).starts_with("\\u") || (++at_, !hex(low)) || low < 0xDC00 || low > 0xDFFF)
        return wrong("half a surrogate pair; its other half is due behind it", begin);
      point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
    } else if (point >= 0xDC00 && point < 0xE000) {
      return wrong("half a surrogate pair; its other half is due before it", begin);
    }
    base::append_utf8(own, point);
    return true;
  }

  /// Reads the 'u' and its four hex digits.
  bool hex(std::uint32_t& out) {
    const auto digits = body_.substr(std::min(at_ + 1, body_.size()), 4);
    const auto end = digits.data() + digits.size();
    if (digits.size() < 4 || std::from_chars(digits.data(), end, out, 16).ptr != end)
      return false;
    at_ += 5;
    return true;
  }

  std::string_view body_;
  std::size_t at_ = 0;
  std::size_t values_ = 0;
  json_document* into_ = nullptr;
  std::string wrong_;
  std::size_t wrong_at_ = 0;
};

tl::expected<json_document, json_problem> json_document::read(std::string_view body) {
  return json_reader{body}.read();
}

const json_value* json_value::find(std::string_view key) const noexcept {
  const auto found = std::ranges::find(members, key, [](const auto& each) { return each.first; });
  return found == members.end() ? nullptr : &found->second;
}

json_place place_of(std::string_view body, std::size_t offset) noexcept {
  const auto before = body.substr(0, offset);
  const auto line = std::ranges::count(before, '\n');
  const auto begin = before.rfind('\n');
  return {static_cast<std::uint32_t>(line + 1),
          static_cast<std::uint32_t>(begin == std::string_view::npos ? offset + 1 : offset - begin)};
}

std::string describe(const json_value& value) {
  switch (value.kind) {
  case json_kind::null:
    return "null";
  case json_kind::truth:
    return value.truth ? "true" : "false";
  case json_kind::number:
    return fmt::format("the number {}", value.text.substr(0, 40));
  case json_kind::text:
    return value.text.size() <= 40 ? fmt::format("the text '{}'", value.text) : "a text";
  case json_kind::list:
    return "a list";
  case json_kind::object:
    return "an object";
  }
  return {};
}

std::optional<std::int64_t> as_whole(const json_value& value) {
  if (value.kind != json_kind::number)
    return std::nullopt;
  std::int64_t number = 0;
  const auto* const end = value.text.data() + value.text.size();
  const auto [stop, problem] = std::from_chars(value.text.data(), end, number);
  if (problem == std::errc{} && stop == end)
    return number;
  // "5.0" and "1e2" are whole numbers too
  const auto real = as_real(value);
  if (real && std::abs(*real) < 9e15 && std::trunc(*real) == *real)
    return static_cast<std::int64_t>(*real);
  return std::nullopt;
}

std::optional<double> as_real(const json_value& value) {
  if (value.kind != json_kind::number)
    return std::nullopt;
  double number = 0;
  const auto* const end = value.text.data() + value.text.size();
  const auto [stop, problem] = std::from_chars(value.text.data(), end, number);
  if (problem != std::errc{} || stop != end || !std::isfinite(number))
    return std::nullopt;
  return number;
}

} // namespace troupe::door
