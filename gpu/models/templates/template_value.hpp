#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
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
  /// `text`, marked as the byte of `like` at `at` is.
  static marked_text marked_as(std::string_view text, const marked_text& like, std::size_t at) {
    return {text, like.of_user(at)};
  }

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

/// Deeper than any message, and nothing that must use up the stack to be written or given back.
inline constexpr unsigned value_depth_max = 64;

/// Values in one, and what must be known of all of them.
template <class Values>
struct value_box {
  Values all;
  unsigned depth = 1;     ///< itself included
  bool has_space = false; ///< a namespace is among them
};

struct template_value {
  struct undefined {
    std::string name; ///< for messages
  };
  struct none {};
  using text_box = std::shared_ptr<const marked_text>;
  using list_box = std::shared_ptr<const value_box<value_list>>;
  struct map_box {
    std::shared_ptr<const value_box<value_map>> box;
    bool of_user = false; ///< a client wrote its keys
  };
  struct tuple {
    list_box box;
  };
  struct series { ///< what Python yields one by one: a generator, a view of a map, a range
    struct state {
      value_box<value_list> box;
      std::size_t next = 0;
    };
    std::shared_ptr<state> from;
    bool once = false; ///< what was read is gone; it has no length, and counts as true even with nothing left
  };
  struct markup { ///< escaped, or said to be safe: only to be written
    text_box text;
  };
  struct space { ///< namespace(): what a loop may set beyond its own names
    std::shared_ptr<std::map<std::string, template_value>> names;
  };
  struct round { ///< `loop`
    list_box all;
    std::size_t at = 0;
  };
  struct method { ///< `name` of `of`, to be called
    std::shared_ptr<const template_value> of;
    std::string name;
  };
  struct function {
    std::string name;
  };
  struct macro {
    const template_statement* of = nullptr; ///< of the program that runs
  };
  std::variant<undefined, none, bool, std::int64_t, double, text_box, list_box, map_box, tuple, series, markup, space,
               round, method, function, macro>
      is;

  template <class T>
  const T* as() const noexcept {
    return std::get_if<T>(&is);
  }
  const marked_text* text() const noexcept {
    const auto* at = as<text_box>();
    return at ? at->get() : nullptr;
  }
  const list_box* list_of() const noexcept { ///< of a list or a tuple
    const auto* at = as<tuple>();
    return at ? &at->box : as<list_box>();
  }
  const value_list* list() const noexcept { ///< of a list or a tuple
    const auto* at = list_of();
    return at ? &(*at)->all : nullptr;
  }
  const value_map* map() const noexcept {
    const auto* at = as<map_box>();
    return at ? &at->box->all : nullptr;
  }
  bool defined() const noexcept { return !as<undefined>(); }
  /// Of a whole number, true and false; otherwise nothing.
  std::optional<std::int64_t> whole() const noexcept;
  /// Those, and a fraction.
  std::optional<double> number() const noexcept;

  bool holds() const; ///< as a condition
  unsigned depth() const noexcept;
  bool has_space() const noexcept; ///< it is a namespace, or one can be reached through it

  static template_value of(marked_text text) { return {std::make_shared<const marked_text>(std::move(text))}; }
  static template_value of(std::string_view template_text) { return of(marked_text::of_template(template_text)); }
  static template_value of(const char* template_text) { return of(std::string_view{template_text}); }
  static template_value of(value_list values);
  static template_value of(value_map values, bool of_user = false);
  static template_value tuple_of(value_list values);
  static template_value series_of(value_list values, bool once);
  static template_value key_of(const map_box& map, const std::string& key); ///< a key as a text
};

/// As Python's ==.
bool equal(const template_value& a, const template_value& b);

/// The value of a key, or null.
const template_value* find(const value_map& values, std::string_view key);

/// What a loop over the value meets; what can be read once is read. Nothing for what cannot be looped over.
std::optional<value_list> elements_of(const template_value& value, template_place at);

/// Python's `one in all`.
bool contains(const template_value& all, const template_value& one, template_place at);
/// Below 0, 0, above: as Python's <. Refuses what it does not order.
int order_of(const template_value& left, const template_value& right, template_place at);
/// As Python's str(); refuses what has no text that is the same from run to run.
marked_text written(const template_value& value, template_place at);
/// As Python's repr().
marked_text spelled(const template_value& value, template_place at);
/// "a text", "a list": for messages.
std::string_view kind_of(const template_value& value);

/// How json.dumps is called.
struct json_style {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent; ///< one step
  std::string between = ", ", behind_key = ": ";
};
marked_text json_of(const template_value& value, const json_style& how, template_place at);

/// Where each character of a text begins, and where the last one ends.
std::vector<std::size_t> character_bounds(std::string_view text);
/// The characters of a text, each with its marks. Throws template_problem for more than a prompt has.
value_list characters(const marked_text& text, template_place at);

} // namespace troupe::gpu::models
