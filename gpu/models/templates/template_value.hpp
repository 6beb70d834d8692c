#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "gpu/models/templates/template_syntax.hpp"

/// What the expressions of a chat template come to.
namespace troupe::gpu::models {

/// Text that knows which of its bytes a user wrote: what the template writes may be a special token, what a user writes
/// never is.
class marked_text {
public:
  marked_text() = default;
  static marked_text of_template(std::string_view text) { return {text, false}; }
  static marked_text of_user(std::string_view text) { return {text, true}; }

  const std::string& bytes() const noexcept { return bytes_; }
  bool of_user(std::size_t at) const noexcept { return users_[at] != 0; }
  bool empty() const noexcept { return bytes_.empty(); }

  marked_text& operator+=(const marked_text& other);
  marked_text part(std::size_t from, std::size_t length = std::string::npos) const;
  friend marked_text operator+(marked_text left, const marked_text& right) { return left += right; }
  /// By bytes alone.
  bool operator==(const marked_text& other) const noexcept { return bytes_ == other.bytes_; }

private:
  marked_text(std::string_view text, bool users) : bytes_(text), users_(text.size(), users ? 1 : 0) {}
  std::string bytes_;
  std::string users_; ///< one for each byte; 1: a user's
};

/// Without white space (as Python has it) at the front, at the back.
std::string_view without_blanks(std::string_view text, bool front, bool back);

struct template_value;
using value_list = std::vector<template_value>;
using value_map = std::vector<std::pair<std::string, template_value>>; ///< in the order of writing

struct template_value {
  struct undefined {
    std::string name; ///< for messages
  };
  struct none {};
  struct space { ///< namespace(): what a loop may set beyond its own names
    std::shared_ptr<std::map<std::string, template_value>> names;
  };
  struct method { ///< `name` of `of`, to be called
    std::shared_ptr<const template_value> of;
    std::string name;
  };
  struct function {
    std::string name;
  };
  std::variant<undefined, none, bool, std::int64_t, marked_text, std::shared_ptr<const value_list>,
               std::shared_ptr<const value_map>, space, method, function>
      is;

  template <class T>
  const T* as() const noexcept {
    return std::get_if<T>(&is);
  }
  const marked_text* text() const noexcept { return as<marked_text>(); }
  const value_list* list() const noexcept {
    const auto* at = as<std::shared_ptr<const value_list>>();
    return at ? at->get() : nullptr;
  }
  const value_map* map() const noexcept {
    const auto* at = as<std::shared_ptr<const value_map>>();
    return at ? at->get() : nullptr;
  }
  bool defined() const noexcept { return !as<undefined>(); }

  bool holds() const; ///< as a condition

  static template_value of(std::string_view template_text) { return {marked_text::of_template(template_text)}; }
  static template_value of(value_list values) { return {std::make_shared<const value_list>(std::move(values))}; }
  static template_value of(value_map values) { return {std::make_shared<const value_map>(std::move(values))}; }
};

/// As Python's ==.
bool equal(const template_value& a, const template_value& b);

/// The value of a key, or null.
const template_value* find(const value_map& values, std::string_view key);

/// Python's `one in all`.
bool contains(const template_value& all, const template_value& one, template_place at);
/// As Python's str(); lists and maps are refused.
marked_text written(const template_value& value, template_place at);
/// "a text", "a list": for messages.
std::string_view kind_of(const template_value& value);

/// Where each character of a text begins, and where the last one ends.
std::vector<std::size_t> character_bounds(std::string_view text);
/// The characters of a text, each with its marks. Throws template_problem for more than a prompt has.
value_list characters(const marked_text& text, template_place at);

} // namespace troupe::gpu::models
