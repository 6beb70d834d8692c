#pragma once

#include <ctime>
#include <filesystem>
#include <string>
#include <string_view>

#include "gpu/models/templates/conversation_values.hpp"
#include "gpu/models/templates/template_syntax.hpp"
#include "gpu/models/templates/template_value.hpp"

namespace troupe::gpu::models {

/// A model's chat template, which makes the prompt of a conversation: run as transformers runs it, or refused.
/// Recognising published templates by a few of their literals would be shorter; it dropped what else stood in them.
/// It has no clock of its own: who asks says what day it is.
/// Contract: K10.
class chat_template {
public:
  /// The folder's, from the file that transformers would take: chat_template.jinja first; of a model with pictures then
  /// chat_template.json and processor_config.json, and tokenizer_config.json last. It is tried with
  /// conversations of one turn and of three. Throws bad_file with file, line, column and what would be understood.
  static chat_template read(const std::filesystem::path& folder, bool has_vision);

  /// The prompt of a conversation. Throws template_problem, bad_conversation.
  marked_text render(const protocols::conversation& what, const std::tm& now) const;

  /// The first day of a year: what is tried must not depend on the day.
  static std::tm trial_day();

  /// "reader/chat_template.jinja, line 3, column 7: the filter x; understood are trim, ...".
  std::string place_of(const template_problem& problem) const;

private:
  chat_template(std::string where, std::string_view text, value_map names);
  void try_out();
  marked_text run(const protocols::conversation& what, content_forms forms, const std::tm& now) const;

  std::string where_; ///< file and, where it holds more than the template, key
  statements program_;
  value_map names_;
  content_forms forms_; ///< that it takes
};

} // namespace troupe::gpu::models
