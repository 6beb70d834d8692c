#pragma once

#include <cstdint>
#include <string>
#include <vector>

/// What a chat template is asked to render, as a client states it. Whatever has no fixed form (arguments of a template,
/// calls of tools) stands as the text of JSON: it goes through processes that have no use for its values.
/// Contract: K10.
namespace troupe::protocols {

enum class chat_part_kind : std::uint8_t {
  text,   ///< `text`
  picture ///< the conversation's next picture file
};
constexpr bool is_valid(chat_part_kind kind) noexcept {
  return kind <= chat_part_kind::picture;
}

/// A piece of what somebody said.
struct chat_part {
  chat_part_kind is = chat_part_kind::text;
  std::string text;

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.is, self.text);
  }
  bool operator==(const chat_part&) const = default;
};

/// One turn of a conversation.
struct chat_message {
  std::string role; ///< "system", "user", "assistant", "tool"; a template may refuse others
  std::vector<chat_part> content;
  /// Whether the client wrote its content as a list: a template sees the difference. Otherwise it is one text, or none
  /// at all (`null`).
  bool in_parts = false;
  std::string name;              ///< empty: not stated
  std::string reasoning_content; ///< empty: not stated
  std::string more;              ///< the text of a JSON object: `tool_calls`, `tool_call_id`; empty: nothing more

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.role, self.content, self.in_parts, self.name, self.reasoning_content, self.more);
  }
  bool operator==(const chat_message&) const = default;
};

/// Everything said so far, and how the template is to render it.
struct conversation {
  std::vector<chat_message> messages; ///< empty: there is no conversation
  bool no_generation_prompt = false;  ///< the template gets `add_generation_prompt` as false
  std::string template_arguments;     ///< the text of a JSON object, `chat_template_kwargs`; empty: none
  std::string tools;                  ///< the text of a JSON array; empty: none

  bool empty() const noexcept { return messages.empty(); }

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.messages, self.no_generation_prompt, self.template_arguments, self.tools);
  }
  bool operator==(const conversation&) const = default;
};

/// A user's words behind `pictures` pictures: what the command and its prompts files ask.
conversation one_turn(std::string words, std::size_t pictures);

/// Picture parts of all messages.
std::size_t pictures_in(const conversation& what) noexcept;

} // namespace troupe::protocols
