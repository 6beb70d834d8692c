#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "gpu/models/templates/template_value.hpp"

/// What Python's operators do with values. All throw template_problem at `at` for what they do not, or not here.
namespace troupe::gpu::models {

inline constexpr std::size_t template_text_bytes_max = std::size_t{16} << 20;

/// `sign`: one of + - * / // % **.
template_value computed(const template_value& left, const std::string& sign, const template_value& right,
                        template_place at);
/// `by`: one of == != < <= > >= in, not in.
bool compare(const template_value& left, const std::string& by, const template_value& right, template_place at);
/// Of a list, a tuple or a text; undefined where there is none.
template_value element_of(const template_value& of, std::int64_t index);
/// Of a list, a tuple or a text, as Python counts them; `step` is not 0.
template_value slice_of(const template_value& of, std::optional<std::int64_t> from, std::optional<std::int64_t> to,
                        std::int64_t step);
/// `loop.name`.
template_value loop_attribute(const template_value::round& loop, const std::string& name);

} // namespace troupe::gpu::models
