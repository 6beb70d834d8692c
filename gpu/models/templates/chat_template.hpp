#pragma once

#include <ctime>
#include <filesystem>
#include <string>
#include <string_view>

#include "gpu/models/templates/conversation_values.hpp"
#include "gpu/models/templates/template_syntax.hpp"
#include "gpu/models/templates/template_value.hpp"

namespace troupe::gpu::models {

/// A model's chat template, which makes a prompt of a conversation. It gives the text that transformers gives, or it is
/// refused when the model is loaded. Rejected: to recognise published templates by some of their literals, which is
/// shorter but ignores the rest of the template. The caller states the date, since some templates print it.
/// Contract: K10. Threads: `render` any.
class chat_template {
public:
  /// Reads the template of a model's folder from the file that transformers would take: chat_template.jinja; then, for
  /// a model with pictures, chat_template.json and processor_config.json; then tokenizer_config.json. Renders trial
  /// conversations of one turn and of three. Throws bad_file with file, line, column and what would be understood.
  static chat_template read(const std::filesystem::path& folder, bool has_vision);

  /// The prompt of a conversation. Throws template_problem, bad_conversation.
  marked_text render(const protocols::conversation& what, const std::tm& now) const;

  /// A fixed day for the trial conversations, so that loading a model does not depend on the date.
  static std::tm trial_day();

  /// "reader/chat_template.jinja, line 3, column 7: the filter x; understood are trim, ...".
  std::string place_of(const template_problem& problem) const;

private:
  chat_template(std::string where, std::string_view text, value_map names);
  void try_out();
  marked_text run(const protocols::conversation& what, content_forms forms, const std::tm& now) const;

  std::string where_; ///< the file, and the key in it if the file has more than the template
  statements program_;
  value_map names_;
  content_forms forms_; ///< the forms of content that it renders
};

} // namespace troupe::gpu::models
