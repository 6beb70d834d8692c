#include "runtime/cluster/json_text.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <system_error>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "runtime/base/one_line.hpp"

namespace troupe::cluster {
namespace {

constexpr std::size_t shown_bytes_max = 80;    ///< of a word of the document
constexpr std::size_t problem_bytes_max = 300; ///< of what the library says, which quotes the document

/// Counts what the library's lexer has taken, which is how the events below know where they are.
class counting_iterator {
public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  counting_iterator(const char* at, std::size_t* taken) : at_(at), taken_(taken) {}
  reference operator*() const { return *at_; }
  counting_iterator& operator++() {
    ++at_;
    ++*taken_;
    return *this;
  }
  counting_iterator operator++(int) {
    auto before = *this;
    ++*this;
    return before;
  }
  bool operator==(const counting_iterator& other) const { return at_ == other.at_; }
  bool operator!=(const counting_iterator& other) const { return at_ != other.at_; }

private:
  const char* at_;
  std::size_t* taken_;
};

text_place place_of(std::string_view text, std::size_t offset) {
  const auto before = text.substr(0, std::min(offset, text.size()));
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const auto begin = before.rfind('\n'); // npos + 1 is 0: the first line
  return {static_cast<std::uint32_t>(line), static_cast<std::uint32_t>(before.size() - (begin + 1) + 1)};
}

/// Builds the tree from the library's events; an event comes when its token has just been taken.
class tree_builder {
public:
  tree_builder(std::string_view text, const std::size_t& taken, json_node& root) : text_(text), taken_(taken) {
    open_.push_back(&root);
  }
  const std::string& problem() const { return problem_; }

  bool null() { return put(json_kind::null, token_begin("null"), {}); }
  bool boolean(bool value) {
    if (!put(json_kind::truth, token_begin(value ? "true" : "false"), {}))
      return false;
    last_->truth = value;
    return true;
  }
  bool number_integer(std::int64_t value) { // only what does not fit an unsigned comes here
    return put(json_kind::real, number_begin(), std::to_string(value));
  }
  bool number_unsigned(std::uint64_t value) {
    if (!put(json_kind::whole, number_begin(), std::to_string(value)))
      return false;
    last_->whole = value;
    return true;
  }
  bool number_float(double, const std::string& written) { return put(json_kind::real, number_begin(), written); }
  bool string(std::string& value) { return put(json_kind::text, string_begin(), value); }
  bool binary(nlohmann::json::binary_t&) { return false; } // not in text

  bool start_object(std::size_t) { return open(json_kind::object); }
  bool start_array(std::size_t) { return open(json_kind::list); }
  bool key(std::string& name) {
    open_.back()->members.push_back({name, place_of(text_, string_begin()), {}});
    return true;
  }
  bool end_object() { return close(); }
  bool end_array() { return close(); }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& problem) {
    const std::string_view what = problem.what(); // "[json...] parse error at line 1, column 2: syntax error ..."
    const auto text = what.find(": ");
    const auto at = place_of(text_, position > 0 ? position - 1 : 0);
    problem_ = fmt::format("{}:{}: {}", at.line, at.column,
                           base::one_line(text == what.npos ? what : what.substr(text + 2), problem_bytes_max));
    return false;
  }

private:
  bool put(json_kind kind, std::size_t begin, std::string text) {
    json_node* node = open_.back();
    if (node->kind == json_kind::object)
      node = &node->members.back().value;
    else if (node->kind == json_kind::list)
      node = &node->elements.emplace_back();
    node->kind = kind;
    node->at = place_of(text_, begin);
    node->text = std::move(text);
    last_ = node;
    return true;
  }
  bool open(json_kind kind) {
    put(kind, taken_ - 1, {});
    if (open_.size() > json_depth_max) {
      problem_ = fmt::format("{}:{}: nested deeper than {} levels", last_->at.line, last_->at.column, json_depth_max);
      return false;
    }
    open_.push_back(last_);
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  std::size_t token_begin(std::string_view token) const { return taken_ - token.size(); }
  std::size_t number_begin() const { // the lexer has looked one character ahead, unless the text ended
    constexpr std::string_view of_a_number = "+-.0123456789eE";
    auto begin = taken_;
    if (of_a_number.find(text_[begin - 1]) == of_a_number.npos)
      --begin;
    while (begin > 0 && of_a_number.find(text_[begin - 1]) != of_a_number.npos)
      --begin;
    return begin;
  }
  std::size_t string_begin() const {
    auto quote = taken_ - 1;
    const auto escaped = [this](std::size_t at) {
      std::size_t slashes = 0;
      while (at > slashes && text_[at - slashes - 1] == '\\')
        ++slashes;
      return slashes % 2 == 1;
    };
    do
      quote = text_.rfind('"', quote - 1);
    while (escaped(quote));
    return quote;
  }

  std::string_view text_;
  const std::size_t& taken_;
  std::vector<json_node*> open_; ///< the innermost last; a parent's vectors do not grow while a child is open
  json_node* last_ = nullptr;
  std::string problem_;
};

} // namespace

std::string shown(std::string_view words) {
  return base::one_line(words, shown_bytes_max);
}

std::string describe(const json_node& node) {
  switch (node.kind) {
  case json_kind::null:
    return "null";
  case json_kind::truth:
    return node.truth ? "true" : "false";
  case json_kind::whole:
  case json_kind::real:
    return node.text;
  case json_kind::text:
    return fmt::format("\"{}\"", shown(node.text));
  case json_kind::list:
    return "a list";
  case json_kind::object:
    return "an object";
  }
  return {};
}

std::string text_of(const json_node& node) {
  const auto quoted = [](const std::string& words) { return text_of(nlohmann::ordered_json(words)); };
  std::string text;
  switch (node.kind) {
  case json_kind::null:
  case json_kind::truth:
  case json_kind::whole:
  case json_kind::real:
    return describe(node);
  case json_kind::text:
    return quoted(node.text);
  case json_kind::list:
    for (const auto& element : node.elements)
      text += (text.empty() ? "" : ", ") + text_of(element);
    return '[' + text + ']';
  case json_kind::object:
    for (const auto& member : node.members)
      text += (text.empty() ? "" : ", ") + quoted(member.key) + ": " + text_of(member.value);
    return '{' + text + '}';
  }
  return text;
}

std::string text_of(const nlohmann::ordered_json& document, int indent) {
  return document.dump(indent, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

bool is_utf8(const std::string& bytes) {
  return nlohmann::ordered_json::parse(text_of(nlohmann::ordered_json(bytes))) == bytes;
}

protocols::result<std::string> read_document(const std::filesystem::path& file, std::size_t bytes_max) {
  std::ifstream in{file, std::ios::binary};
  if (!in)
    return protocols::fail(protocols::fault::config_invalid, std::strerror(errno));
  std::error_code unknown;
  if (std::filesystem::is_directory(file, unknown)) // opening one succeeds
    return protocols::fail(protocols::fault::config_invalid, "it is a directory");
  std::string text;
  for (std::array<char, json_bytes_max> part; in && text.size() <= bytes_max;) {
    in.read(part.data(), part.size());
    text.append(part.data(), static_cast<std::size_t>(in.gcount()));
  }
  return text;
}

protocols::result<json_node> read_json(std::string_view text, std::size_t bytes_max) {
  if (text.size() > bytes_max)
    return protocols::fail(protocols::fault::config_invalid, fmt::format("1:1: longer than {} KiB", bytes_max / 1024));
  json_node root;
  std::size_t taken = 0;
  tree_builder builder{text, taken, root};
  const bool ignore_comments = true;
  const bool whole_text = true;
  const bool good = nlohmann::json::sax_parse(counting_iterator{text.data(), &taken},
                                              counting_iterator{text.data() + text.size(), &taken}, &builder,
                                              nlohmann::json::input_format_t::json, whole_text, ignore_comments);
  if (!good)
    return protocols::fail(protocols::fault::config_invalid, builder.problem());
  return root;
}

} // namespace troupe::cluster
