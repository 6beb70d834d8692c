#pragma once

#include <cstdint>
#include <string>
#include <vector>

/// The conversation that a chat template renders, as a client states it. What has no fixed form (arguments of a
/// template, calls of tools) is kept as JSON text: the processes that pass it on do not read it. Contract: K10.
namespace troupe::protocols {

enum class chat_part_kind : std::uint8_t {
  text,   ///< `text`
  picture ///< stands for the conversation's next picture file
};
constexpr bool is_valid(chat_part_kind kind) noexcept {
  return kind <= chat_part_kind::picture;
}

/// A part of one message: a text, or the place of a picture.
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
  /// Whether the client wrote `content` as a list; a template may treat the two forms differently. Otherwise `content`
  /// is one text, or empty (`null`).
  bool in_parts = false;
  std::string name;              ///< empty: not stated
  std::string reasoning_content; ///< empty: not stated
  std::string more;              ///< further keys as the text of a JSON object: `tool_calls`, `tool_call_id`; or empty

  template <class Self, class Archive>
  static void fields(Self& self, Archive& archive) {
    archive.required(self.role, self.content, self.in_parts, self.name, self.reasoning_content, self.more);
  }
  bool operator==(const chat_message&) const = default;
};

/// All messages so far, and how the template is to render them.
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

/// One user message: `pictures` pictures and then `words`. The command and its prompts files ask in this form.
conversation one_turn(std::string words, std::size_t pictures);

/// How many picture parts all messages have.
std::size_t pictures_in(const conversation& what) noexcept;

} // namespace troupe::protocols
