#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "gpu/models/templates/template_value.hpp"

/// Python's operators on template values. All throw template_problem at `at` for operands that Python or this library
/// does not take.
namespace troupe::gpu::models {

inline constexpr std::size_t template_text_bytes_max = std::size_t{16} << 20;

/// The result of an arithmetic operator. `sign`: one of + - * / // % **.
template_value computed(const template_value& left, const std::string& sign, const template_value& right,
                        template_place at);
/// The result of a comparison. `by`: one of == != < <= > >= in, not in.
bool compare(const template_value& left, const std::string& by, const template_value& right, template_place at);
/// The element at an index of a list, a tuple or a text; undefined: there is none.
template_value element_of(const template_value& of, std::int64_t index);
/// A slice of a list, a tuple or a text, with Python's indices; `step` is not 0.
template_value slice_of(const template_value& of, std::optional<std::int64_t> from, std::optional<std::int64_t> to,
                        std::int64_t step);
/// The attribute `name` of `loop`.
template_value loop_attribute(const template_value::round& loop, const std::string& name);

} // namespace troupe::gpu::models
