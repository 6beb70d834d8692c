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

/// The values of a chat template's expressions.
namespace troupe::gpu::models {

/// A text that marks each byte as the template's or as a user's. The tokenizer may read a special token in the
/// template's bytes, and never in a user's, so no user can forge the end of a turn.
class marked_text {
public:
  marked_text() = default;
  static marked_text of_template(std::string_view text) { return {text, false}; }
  static marked_text of_user(std::string_view text) { return {text, true}; }
  /// `text`, with the mark of byte `at` of `like` on every byte.
  static marked_text marked_as(std::string_view text, const marked_text& like, std::size_t at) {
    return {text, like.of_user(at)};
  }

  const std::string& bytes() const noexcept { return bytes_; }
  bool of_user(std::size_t at) const noexcept { return users_[at] != 0; }
  bool empty() const noexcept { return bytes_.empty(); }

  marked_text& operator+=(const marked_text& other);
  marked_text part(std::size_t from, std::size_t length = std::string::npos) const;
  friend marked_text operator+(marked_text left, const marked_text& right) { return left += right; }
  /// Compares bytes, not marks.
  bool operator==(const marked_text& other) const noexcept { return bytes_ == other.bytes_; }

private:
  marked_text(std::string_view text, bool users) : bytes_(text), users_(text.size(), users ? 1 : 0) {}
  std::string bytes_;
  std::string users_; ///< a mark for each byte; 1: a user's
};

/// The text without Python's white space at the front, at the back, or both.
std::string_view without_blanks(std::string_view text, bool front, bool back);

struct template_value;
using value_list = std::vector<template_value>;
using value_map = std::vector<std::pair<std::string, template_value>>; ///< in the order in which keys were written

/// Deeper than any message needs. A deeper value could use up the stack when it is written or freed.
inline constexpr unsigned value_depth_max = 64;

/// The values in a list or map, and what is known of all of them.
template <class Values>
struct value_box {
  Values all;
  unsigned depth = 1;     ///< levels, this one included
  bool has_space = false; ///< one of them is a namespace, or has one in it
};

/// A value of Jinja. Cheap to copy: what it holds is shared and does not change, except a series and a namespace.
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
  struct series { ///< what Python yields one by one: a generator, a view of a dict, a range
    struct state {
      value_box<value_list> box;
      std::size_t next = 0;
    };
    std::shared_ptr<state> from;
    bool once = false; ///< a generator: each element is read once; it has no length and is always true
  };
  struct markup { ///< text that is escaped or marked safe; it can only be written
    text_box text;
  };
  struct space { ///< namespace(): its names can be set from inside a loop and keep their values after it
    std::shared_ptr<std::map<std::string, template_value>> names;
  };
  struct round { ///< `loop`
    list_box all;
    std::size_t at = 0;
  };
  struct method { ///< the method `name` of `of`, before its call
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
  /// The number, if it is whole; true is 1, false is 0; otherwise none.
  std::optional<std::int64_t> whole() const noexcept;
  /// The number, whole or not; true is 1, false is 0; otherwise none.
  std::optional<double> number() const noexcept;

  bool holds() const; ///< whether Python counts it as true
  unsigned depth() const noexcept;
  bool has_space() const noexcept; ///< it is a namespace, or has one in it

  static template_value of(marked_text text) { return {std::make_shared<const marked_text>(std::move(text))}; }
  static template_value of(std::string_view template_text) { return of(marked_text::of_template(template_text)); }
  static template_value of(const char* template_text) { return of(std::string_view{template_text}); }
  static template_value of(value_list values);
  static template_value of(value_map values, bool of_user = false);
  static template_value tuple_of(value_list values);
  static template_value series_of(value_list values, bool once);
  static template_value key_of(const map_box& map, const std::string& key); ///< a key as a text with the map's mark
};

/// Python's ==.
bool equal(const template_value& a, const template_value& b);

/// The value of a key, or null.
const template_value* find(const value_map& values, std::string_view key);

/// What a loop over the value yields; reads a series that can be read once. None: it cannot be looped over.
std::optional<value_list> elements_of(const template_value& value, template_place at);

/// Python's `one in all`. Throws template_problem where Python refuses.
bool contains(const template_value& all, const template_value& one, template_place at);
/// Negative, 0 or positive, by Python's <. Throws template_problem where Python has no order.
int order_of(const template_value& left, const template_value& right, template_place at);
/// Python's str(). Throws template_problem for a value whose text differs from run to run, such as a function.
marked_text written(const template_value& value, template_place at);
/// Python's repr().
marked_text spelled(const template_value& value, template_place at);
/// The kind in words, for messages: "a text", "a list".
std::string_view kind_of(const template_value& value);

/// The arguments of Python's json.dumps.
struct json_style {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent; ///< the text of one level
  std::string between = ", ", behind_key = ": ";
};
marked_text json_of(const template_value& value, const json_style& how, template_place at);

/// The byte offsets at which characters begin, and the one at which the last ends.
std::vector<std::size_t> character_bounds(std::string_view text);
/// The characters of a text, each with its marks. Throws template_problem if there are more than a prompt may have.
value_list characters(const marked_text& text, template_place at);

} // namespace troupe::gpu::models
