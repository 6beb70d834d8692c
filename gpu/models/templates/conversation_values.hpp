#pragma once

#include <stdexcept>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "gpu/models/templates/template_value.hpp"
#include "protocols/serve/conversation.hpp"

/// Turns a client's conversation into the values that a chat template is run with.
namespace troupe::gpu::models {

/// Why a conversation is refused, with the key at fault. It does not leave gpu/models.
struct bad_conversation : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Which forms of a message's `content` a template renders.
struct content_forms {
  bool texts = true; ///< a text; if not, a text is given as a list of one part
  bool parts = true; ///< a list; if not, a list of texts is given as one text, one part a line
};

/// The names that a template is run with: `messages`, `tools`, `documents`, `add_generation_prompt`, the template
/// arguments, and `of_model`; a template argument takes precedence over `of_model`. All texts and keys are marked as a
/// client's, except roles that templates know: some templates make a special token of a role. Throws bad_conversation.
value_map template_names(const protocols::conversation& what, content_forms forms, const value_map& of_model);

/// JSON as template values, in the order of the JSON; all texts and keys are marked as a client's. Throws
/// bad_conversation if it is nested too deep, has too many values, or has a whole number of more than 63 bits.
template_value value_of(const nlohmann::ordered_json& from);

} // namespace troupe::gpu::models
