#include "actors/serve/door/fault_answer.hpp"

#include <algorithm>
#include <array>

namespace troupe::actors {

using namespace protocols;

namespace {

/// The path in the body that the words name, such as "messages[2].content[1]"; empty: none.
std::string place_in(std::string_view words) {
  constexpr std::string_view begin = "messages[";
  const auto at = words.find(begin);
  if (at == std::string_view::npos)
    return {};
  const auto end = words.find_first_of(": ", at);
  return std::string{words.substr(at, end == std::string_view::npos ? end : end - at)};
}

std::optional<fault> fault_named(std::string_view words) {
  const auto wanted = words.substr(0, words.find(':'));
  for (std::uint16_t code = 1; const auto known = fault_from(code); ++code)
    if (name(*known) == wanted)
      return known;
  return std::nullopt;
}

std::string in_words(fault code, std::string_view what) {
  return what.empty() ? std::string{sentence(code)} : std::string{sentence(code)} + ": " + std::string{what};
}

struct told_fault {
  fault code;
  unsigned status;
  std::string_view as;
  bool may_come_again;
};
/// The faults that have a code of the API; any other fault is answered with 500 and its own name.
constexpr std::array<told_fault, 8> told{{{fault::invalid_request, 400, "invalid_value", false},
                                          {fault::context_exceeded, 400, "context_length_exceeded", false},
                                          {fault::bad_picture, 400, "bad_picture", false},
                                          {fault::queue_full, 429, "queue_full", true},
                                          {fault::no_memory, 503, "no_memory", true},
                                          {fault::shutting_down, 503, "draining", true},
                                          {fault::cell_gone, 503, "cell_gone", true},
                                          {fault::timeout, 504, "deadline_exceeded", false}}};

} // namespace

fault_answer answer_to_refusal(fault code, std::string_view what) {
  const auto row = std::ranges::find(told, code, &told_fault::code);
  auto message = in_words(code, what);
  if (row == told.end())
    return {500, std::string{name(code)}, {}, std::move(message), false};
  auto place = row->status == 400 ? place_in(what) : std::string{};
  if (code == fault::context_exceeded)
    place = "messages";
  return {row->status, std::string{row->as}, std::move(place), std::move(message), row->may_come_again};
}

fault_answer answer_to_failure(std::string_view cause) {
  const auto code = fault_named(cause);
  if (code == fault::timeout)
    return {504, "deadline_exceeded", {}, std::string{cause}, false};
  if (code == fault::shutting_down)
    return {503, "draining", {}, std::string{cause}, true};
  return {500, code ? std::string{name(*code)} : "failed", {}, std::string{cause}, false};
}

} // namespace troupe::actors
