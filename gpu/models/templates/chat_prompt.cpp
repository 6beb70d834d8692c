#include <fmt/format.h>

#include <algorithm>

#include "gpu/models/model.hpp"
#include "gpu/models/templates/chat_template.hpp"
#include "gpu/models/text_io.hpp"
#include "gpu/models/tokenizers/tokenizer_json.hpp"

namespace troupe::gpu::models {
namespace {

using protocols::conversation;
using protocols::fail;
using protocols::fault;
using protocols::result;

/// The texts of the form <|name|> that a template writes: they are meant as tokens.
std::vector<std::string> meant_tokens(const marked_text& prompt) {
  std::vector<std::string> out;
  const std::string& text = prompt.bytes();
  for (std::size_t at = text.find("<|"); at != std::string::npos; at = text.find("<|", at + 1)) {
    const std::size_t end = text.find("|>", at + 2);
    const std::size_t broken = text.find_first_of("<> \n", at + 2);
    if (end != std::string::npos && end + 1 == broken && !prompt.of_user(at) && !prompt.of_user(end + 1))
      out.push_back(text.substr(at, end + 2 - at));
  }
  return out;
}

bool has_words(const marked_text& prompt) {
  for (std::size_t i = 0; i < prompt.bytes().size(); ++i)
    if (prompt.of_user(i))
      return true;
  return false;
}

bool says_something(const conversation& what) {
  return std::ranges::any_of(what.messages, [](const protocols::chat_message& message) {
    return std::ranges::any_of(message.content, [](const protocols::chat_part& part) {
      return !without_blanks(part.text, true, true).empty();
    });
  });
}

class template_builder final : public prompt_builder {
public:
  template_builder(std::shared_ptr<const tokenizer> words, chat_template how, std::string folder,
                   const model_facts& facts)
      : words_(std::move(words)), how_(std::move(how)), folder_(std::move(folder)), vocabulary_(facts.vocabulary),
        image_token_(facts.has_vision ? facts.image_token : -1) {}

  /// Whether prompts can be made at all. Throws bad_file.
  void try_out() const {
    const marked_text prompt = how_.render(protocols::one_turn("Hello", 0), chat_template::trial_day());
    for (const std::string& token : meant_tokens(prompt))
      if (words_->encode(token, true).size() != 1)
        throw bad_file(fmt::format("{}/tokenizer.json: added_tokens has no \"{}\", which the chat template writes",
                                   folder_, token));
    if (const auto made = checked(words_->encode(prompt)); !made)
      throw bad_file(fmt::format("{}/tokenizer.json: {}, and the chat template writes it", folder_, made.error().what));
  }

  result<chat_prompt> build(const conversation& what, std::span<const std::uint32_t> image_tokens,
                            const std::tm& now) const override try {
    if (pictures_in(what) != image_tokens.size())
      return fail(fault::invalid_request, fmt::format("{} pictures, and the conversation has places for {}",
                                                      image_tokens.size(), pictures_in(what)));
    if (!image_tokens.empty() && image_token_ < 0)
      return takes_none(image_tokens.size(), "the model takes none");
    const marked_text prompt = how_.render(what, now);
    if (!has_words(prompt) && says_something(what))
      return fail(fault::invalid_request, fmt::format("the prompt that the chat template of {} makes with {} pictures "
                                                      "has none of the words",
                                                      folder_, image_tokens.size()));
    auto ids = checked(words_->encode(prompt));
    if (!ids)
      return tl::unexpected(ids.error());
    return with_pictures(*std::move(ids), image_tokens);
  } catch (const template_problem& problem) {
    if (!image_tokens.empty() && !problem.by_template)
      return takes_none(image_tokens.size(), how_.place_of(problem));
    return fail(fault::invalid_request, how_.place_of(problem));
  } catch (const bad_conversation& problem) {
    return fail(fault::invalid_request, problem.what());
  }

private:
  tl::unexpected<protocols::failure> takes_none(std::size_t pictures, const std::string& why) const {
    return fail(fault::invalid_request,
                fmt::format("{} pictures, and the chat template of {} takes none: {}", pictures, folder_, why));
  }

  /// The ids, each of which the model has a row for.
  result<std::vector<protocols::token_id>> checked(std::vector<protocols::token_id> ids) const {
    const auto beyond = std::ranges::find_if(
        ids, [&](protocols::token_id id) { return static_cast<std::uint32_t>(id) >= vocabulary_; });
    if (beyond == ids.end())
      return ids;
    return fail(fault::invalid_request, fmt::format("token {} (\"{}\") is beyond the model's vocabulary of {}", *beyond,
                                                    words_->bytes_of(*beyond), vocabulary_));
  }

  /// Each placeholder of a picture as often as the picture has tokens.
  result<chat_prompt> with_pictures(std::vector<protocols::token_id> ids,
                                    std::span<const std::uint32_t> image_tokens) const {
    const auto places = image_token_ < 0 ? 0 : std::ranges::count(ids, image_token_);
    if (static_cast<std::size_t>(places) != image_tokens.size())
      return fail(fault::invalid_request,
                  fmt::format("{} pictures, and the prompt that the chat template of {} makes has "
                              "places for {}",
                              image_tokens.size(), folder_, places));
    chat_prompt out;
    for (const protocols::token_id id : ids) {
      const bool picture = id == image_token_;
      const std::uint32_t times = picture ? image_tokens[out.first_token.size()] : 1;
      if (picture)
        out.first_token.push_back(static_cast<std::uint32_t>(out.ids.size()));
      out.ids.insert(out.ids.end(), times, id);
    }
    return out;
  }

  std::shared_ptr<const tokenizer> words_;
  chat_template how_;
  std::string folder_; ///< for messages
  std::uint32_t vocabulary_;
  protocols::token_id image_token_; ///< below 0: the model takes no pictures
};

} // namespace

result<std::shared_ptr<const prompt_builder>> prompt_builder::open(std::shared_ptr<const tokenizer> words,
                                                                   const std::filesystem::path& folder,
                                                                   const model_facts& facts) try {
  auto made = std::make_shared<template_builder>(std::move(words), chat_template::read(folder, facts.has_vision),
                                                 folder.string(), facts);
  made->try_out();
  return made;
} catch (const bad_file& problem) {
  return fail(fault::config_invalid, problem.what());
}

} // namespace troupe::gpu::models
