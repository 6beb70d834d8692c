#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/ids.hpp"
#include "runtime/cluster/injection_text.hpp"

/// A drill: what is launched, what it is asked, what strikes, and what must be seen. JSON with comments, read like a
/// spec: everything that is wrong is told at once, with line and column.
namespace troupe::cluster {

/// One question whose answer is known.
struct drill_page {
  std::filesystem::path image; ///< empty: text only
  std::string prompt;
  std::vector<protocols::token_id> answer; ///< token ids; empty: not judged
  std::uint32_t max_tokens = 128;          ///< that are asked for
};

enum class drill_moment {
  launch, ///< handed down with the launch, so that a start can be drilled
  ready,  ///< every rank is ready, nothing was asked yet
  load,   ///< the first token has come
};

/// How the runner ends a cluster that has not ended by itself.
enum class drill_end {
  drain,       ///< SIGTERM when everything that was asked has ended
  drain_early, ///< SIGTERM once the first token has come
  kill,        ///< SIGKILL of the supervisor when everything has ended
};

struct drill_event {
  drill_moment when = drill_moment::launch;
  std::uint32_t after_ms = 0; ///< later than `when`; not of launch
  written_rule rule;
};

/// What happens next in a scene.
enum class scene_act {
  ask,             ///< a client asks a page; one that is not there yet comes first
  leave,           ///< it closes its connection, whatever is open
  cancel,          ///< it takes back what it asked last
  inject,          ///< the rule is handed in
  until_token,     ///< waits until the first token of all has come
  until_struck,    ///< waits until the rank of what was handed in last is struck again
  until_recovered, ///< waits until a cell has come back, and all serve
  until_answered,  ///< waits until nothing is open
};

/// One line of a scene: clients that come and go in an order that matters.
struct drill_act {
  scene_act act = scene_act::ask;
  std::uint32_t after_ms = 0; ///< after the act before it
  std::uint32_t client = 1;
  std::uint32_t page = 0; ///< place in the file of pages
  written_rule rule;      ///< of `inject`
};

enum class drill_outcome {
  served,    ///< every request but `failed_max` is answered rightly, and the cluster drains
  recovered, ///< the struck cell came back: what was asked afterwards is answered rightly, and the cluster drains
  ended,     ///< the cluster ended by itself, with `exit_code`
  killed,    ///< the supervisor was struck: nothing is left
  settled,   ///< ended or recovered or served on: whom a cut link takes down is the judgement of two ends
};
std::string_view name(drill_outcome outcome) noexcept;

struct drill {
  std::string name;
  std::string sentence; ///< what it shows
  std::filesystem::path spec;

  struct load_section {
    std::string pages; ///< a file: [{"image", "prompt", "answer": [ids]}]; relative to the drill
    std::uint32_t repeat = 1;
    std::uint32_t concurrency = 4;
    std::uint32_t after_ms = 0; ///< from ready; a fault of an idle cluster falls before
    drill_end end = drill_end::drain;
  } load;
  std::vector<drill_page> pages;
  std::vector<drill_event> events;
  std::vector<drill_act> scene; ///< what is asked, one act after the other; empty: each page, as `load` says

  struct expect_section {
    drill_outcome outcome = drill_outcome::ended;
    std::uint32_t exit_code = 6;
    std::string cause; ///< what the last line of an ended cluster names: "prefill.0/t1", "front or decode.0"
    std::uint32_t failed_max = 0;
    std::uint32_t detect_ms = 0; ///< from the strike until the supervisor knows; 0: not judged
    std::uint32_t over_ms = 0;   ///< from the strike until all have left, or serve again; 0: not judged
  } expect;
  std::uint32_t deadline_ms = 60'000; ///< of the whole drill
};

/// Errors: config_invalid, one line a problem.
protocols::result<drill> read_drill(const std::filesystem::path& file);
/// The same for text in memory; relative paths begin at the folder of `file`.
protocols::result<drill> read_drill_text(std::string_view text, const std::filesystem::path& file);

/// Errors: config_invalid.
protocols::result<std::vector<drill_page>> read_drill_pages(const std::filesystem::path& file);

} // namespace troupe::cluster
