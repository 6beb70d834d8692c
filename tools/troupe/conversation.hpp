#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <vector>

#include "protocols/time.hpp"
#include "runtime/embed/client.hpp"
#include "tools/troupe/answers.hpp"
#include "tools/troupe/pages.hpp"

namespace troupe::tools {

/// Asks every page over one connection, several at a time, and hands what comes back to the printer.
/// A cluster that is full refuses a question; it is asked again once one of ours has ended, each time with one fewer in
/// flight, so that asking again comes to an end.
/// Threads: one at a time.
class conversation {
public:
  conversation(const std::vector<page>& pages, const ask_options& options, std::size_t in_flight_max,
               answer_printer& out);

  /// Reads files until the bound: what can be done before there is anybody to ask.
  void read_ahead();

  /// Until every page has ended, or those in flight when the cluster shuts down: what was not asked stays open.
  /// Errors: those of the connection; cancelled, when an answer could not be written: nobody gets the others either.
  /// `silence_max`: how long the front may say nothing; above the deadline that it has for a request.
  embed::result<void> hold(embed::client& front, protocols::duration silence_max);

private:
  static constexpr std::size_t read_ahead_bytes_max = 256u << 20;

  struct loaded_page {
    std::size_t place = 0;
    embed::question what;
  };

  embed::result<void> ask_more(embed::client& front);
  void take(const embed::accepted& said);
  void take(const embed::token& said);
  void take(const embed::finished& said);
  void take(const embed::refused& said);

  const std::vector<page>& pages_;
  const ask_options& options_;
  answer_printer& out_;
  std::size_t in_flight_max_;
  std::deque<std::size_t> unread_; ///< places whose files are still to be read
  std::deque<loaded_page> loaded_;
  std::size_t loaded_bytes_ = 0;
  std::map<std::uint64_t, std::size_t> in_flight_; ///< tag to place
};

} // namespace troupe::tools
