#pragma once

#include <stdexcept>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "gpu/models/templates/template_value.hpp"
#include "protocols/serve/conversation.hpp"

/// A client's conversation as the values that a chat template gets.
namespace troupe::gpu::models {

/// What is wrong with a conversation, by the key of it. Thrown within gpu/models alone.
struct bad_conversation : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// How a template takes content.
struct content_forms {
  bool texts = true; ///< otherwise a text becomes a list of one part
  bool parts = true; ///< otherwise parts of text alone become one text, a line for each
};

/// The names that a template is run with: `messages`, `tools`, `documents`, `add_generation_prompt` and the template
/// arguments, which come before `of_model` where both state one. A role that templates know counts as theirs, since
/// some make a special token of it; all other texts and keys are a client's. Throws bad_conversation.
value_map template_names(const protocols::conversation& what, content_forms forms, const value_map& of_model);

/// The values of JSON, in its order, all texts and keys a client's. Throws bad_conversation for what is deeper or has
/// more values than a conversation needs, or a whole number of more than 63 bits.
template_value value_of(const nlohmann::ordered_json& from);

} // namespace troupe::gpu::models
