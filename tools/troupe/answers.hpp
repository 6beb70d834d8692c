#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/base/exit_code.hpp"
#include "runtime/embed/event.hpp"
#include "tools/troupe/pages.hpp"
#include "tools/troupe/text.hpp"

namespace troupe::tools {

/// How one page's question stands, or ended.
struct page_outcome {
  enum class state {
    open,     ///< not ended yet
    answered, ///< to an end token or to --max-tokens
    failed,   ///< by a fault after it had been taken
    refused   ///< never taken
  };
  state is = state::open;
  std::string text;
  std::vector<std::int32_t> token_ids;       ///< with the end token, where one ended it
  embed::ending how = embed::ending::failed; ///< once it is not open
  std::string error;
  std::chrono::nanoseconds to_first_token{}; ///< from accepted
  std::chrono::nanoseconds total{};
  std::vector<embed::timing> timings;
  std::uint64_t seed = 0; ///< of its choices
  std::uint32_t prompt_tokens = 0;
  std::vector<std::vector<embed::logprob>> logprobs = {}; ///< of each token, where they were asked for
};

/// Shows answers on stdout as they come. One page: its text and nothing else. Several: a header and the text of each,
/// in the order asked, the first one that is open while it grows. With --json: an object a line, as each ends, with the
/// place of its question among those asked. Threads: one at a time.
class answer_printer {
public:
  answer_printer(const std::vector<page>& pages, bool json);

  const std::vector<page_outcome>& outcomes() const noexcept { return outcomes_; }

  /// The cluster has taken the page's question.
  void begin(std::size_t place, const embed::accepted& said);
  /// The token's text is added to the page's answer.
  void add(std::size_t place, const embed::token& said);
  /// The page's question has ended; `how` lacks what `add` has collected, and its text comes after that.
  void end(std::size_t place, page_outcome how);
  /// Ends what is still open: as failed, or as refused where the cluster took none of it.
  void end_rest(page_outcome::state how, const std::string& error);

  /// An answer could not be written: nobody gets what is still to come.
  static bool lost() noexcept { return base::standard_output().problem() != 0; }

  /// On stderr: a table of what took how long, then a line for each cause that failed pages.
  void print_summary() const;
  /// done when every page was answered; refused when some were refused and none failed; failed otherwise.
  base::exit_code verdict() const;

private:
  void print_json(std::size_t place) const;
  /// Prints what is now printable in order: the rest of ended pages and what has come of the first open one.
  void advance();

  const std::vector<page>& pages_;
  bool json_;
  palette colours_;
  std::vector<page_outcome> outcomes_;
  std::size_t current_ = 0; ///< first page that is not printed to its end
  std::size_t printed_ = 0; ///< bytes of its text
  bool headed_ = false;     ///< its header is printed
};

} // namespace troupe::tools
