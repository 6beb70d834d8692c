#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

#include "gpu/models/templates/template_syntax.hpp"
#include "gpu/models/templates/template_value.hpp"

namespace troupe::gpu::models {

/// A model's chat template, which makes the prompt of one user turn: run as transformers runs it, or refused.
/// Recognising published templates by a few of their literals would be shorter; it dropped what else stood in them.
/// There is no clock in it (`strftime_now` is undefined): a prompt must not depend on the day that it is sent.
/// Contract: K10.
class chat_template {
public:
  /// The folder's, from the file that transformers would take: chat_template.jinja first; of a model with pictures then
  /// chat_template.json and processor_config.json, and tokenizer_config.json last. It is tried with a question.
  /// Throws bad_file with file, line, column and what would be understood.
  static chat_template read(const std::filesystem::path& folder, bool has_vision);

  /// The prompt of a user's words behind `pictures` pictures, ready for an answer. Throws template_problem.
  marked_text render(std::string_view words, std::size_t pictures) const;

  /// "reader/chat_template.jinja, line 3, column 7: the filter x; understood are trim, ...".
  std::string place_of(const template_problem& problem) const;

private:
  chat_template(std::string where, std::string_view text, value_map names);
  void try_out();
  marked_text run(std::string_view words, std::size_t pictures, bool in_parts) const;

  std::string where_; ///< file and, where it holds more than the template, key
  statements program_;
  value_map names_;
  bool parts_only_ = false; ///< it takes a user's words as a list of parts and not as a text
};

} // namespace troupe::gpu::models
