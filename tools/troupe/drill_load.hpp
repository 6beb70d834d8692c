#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "protocols/time.hpp"
#include "runtime/cluster/drill_file.hpp"
#include "runtime/embed/client.hpp"

namespace troupe::tools {

/// Errors: config_invalid: it cannot be read, or is empty.
protocols::result<embed::picture_file> read_picture(const std::filesystem::path& file);

/// As it is asked, with its picture. Errors: config_invalid.
protocols::result<embed::question> question_of(const cluster::drill_page& page);

/// How the questions of a drill have fared.
struct load_counts {
  std::size_t asked = 0;
  std::size_t done = 0;       ///< answered, every token as it should be
  std::size_t failed = 0;     ///< ended with a cause, or by the end of the connection that they came on
  std::size_t refused = 0;    ///< never taken
  std::size_t lost = 0;       ///< taken and never ended
  std::size_t wrong = 0;      ///< a token that the answer does not have there: stale, or another's
  std::size_t duplicates = 0; ///< a token or an end that came twice, or after the end

  bool operator==(const load_counts&) const = default;
};

/// Asks the pages of a drill, several at a time, and judges every token and every end that comes back.
/// Threads: one. Never blocks.
class drill_load {
public:
  /// `what` must outlive this.
  explicit drill_load(const cluster::drill& what);

  /// Errors: peer_gone, timeout. Pictures are read here: config_invalid.
  protocols::result<void> connect(const std::string& socket, protocols::rank_id front);
  bool is_connected() const noexcept { return front_.has_value(); }

  /// Asks and hears what there is. The end of the connection ends what is in flight, as failed.
  void step(protocols::time_point now);
  /// No more is asked.
  void stop_asking() noexcept { left_ = 0; }
  /// So many at a time from now on, until the front refuses one because it holds enough.
  void ask_at_once(std::size_t most) noexcept { in_flight_max_ = most; }
  /// One more question, past those of the drill: answered rightly, and the cluster serves.
  void ask_probe() noexcept { ++left_; }

  bool has_token() const noexcept { return has_token_; }
  bool is_over() const noexcept { return left_ == 0 && in_flight_.empty(); }
  std::size_t in_flight() const noexcept { return in_flight_.size(); }
  /// With what is in flight counted as lost.
  load_counts conclude() const;
  const load_counts& counts() const noexcept { return counts_; }
  const std::vector<std::string>& complaints() const noexcept { return complaints_; } ///< of what is wrong or doubled

private:
  struct open_question {
    const cluster::drill_page* page = nullptr;
    bool accepted = false;
    std::size_t tokens = 0;
  };
  void ask_more();
  void take(const embed::accepted& said);
  void take(const embed::token& said);
  void take(const embed::finished& said);
  void take(const embed::refused& said);
  void complain(std::uint64_t tag, const std::string& what);
  void lose_connection();

  const cluster::drill& what_;
  std::vector<embed::question> questions_; ///< of each page
  std::optional<embed::client> front_;
  std::size_t left_;
  std::size_t next_page_ = 0;
  std::size_t in_flight_max_;
  std::map<std::uint64_t, open_question> in_flight_;
  load_counts counts_;
  bool has_token_ = false;
  std::vector<std::string> complaints_;
};

} // namespace troupe::tools
