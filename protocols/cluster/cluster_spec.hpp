#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "protocols/cluster/role.hpp"
#include "protocols/element_type.hpp"
#include "protocols/limits.hpp"

/// What a user may set, as values. `runtime/cluster/spec_keys.cpp` reads each key and checks its range;
/// `spec_rules.cpp` checks the rules between keys.
namespace troupe::protocols {

enum class control_lane : std::uint8_t { automatic, shared_memory, tcp };
enum class bulk_lane : std::uint8_t { automatic, shared_memory, fabric };

enum class restart_policy : std::uint8_t {
  cell, ///< it is started again, with every cell that shares a rank with it
  none, ///< its loss ends the cluster
};

struct pool_spec {
  std::string name;
  role_kind role = role_kind::stub;
  std::uint32_t cells = 1;
  std::uint32_t tensor_parallel = 1;
  std::uint32_t pipeline_parallel = 1;
  std::string device = "cluster"; ///< the cluster's, or one of its forms, counted on from for this pool alone

  std::uint32_t ranks_per_cell() const noexcept { return tensor_parallel * pipeline_parallel; }
};

struct cluster_spec {
  std::string name; ///< of the job, unless the command line gives another
  std::string program = "serve";
  std::string model_path; ///< absolute after reading; empty when only stubs run
  element_type model_dtype = element_type::f32;
  std::vector<pool_spec> pools; ///< in the order written
  std::string device = "cpu";   ///< "cuda": ranks take the GPUs in turn; "cuda:2": from that number on

  struct limits_section {
    std::uint32_t in_flight_max = 64; ///< requests accepted and not yet ended
    std::uint32_t frame_bytes_max = limits::frame_bytes_max_default;
    std::uint32_t kv_tokens_max = 8192;            ///< a rank's KV pool, in tokens
    std::uint32_t batch_max = 32;                  ///< sequences of one decode step
    std::uint32_t row_slots = 8;                   ///< embedding slots of a prefill rank
    std::uint32_t pixel_slots = 4;                 ///< picture slots of an encode rank
    std::uint64_t picture_bytes_max = 32ull << 20; ///< of a picture file
    std::uint32_t picture_side_max = 8192;         ///< pixels of its longer side
    std::uint32_t threads = 1;                     ///< of the matrix library, a rank

    /// What a role may hold at once: of each started request all its attempts, of which all but one are ending; and the
    /// front starts the next request when it has the last token of one, which the role lets go a step later.
    std::uint32_t role_requests_max() const noexcept { return (limits::request_attempts_max + 1) * in_flight_max; }
    /// Questions of one client at a time, below what the front holds of all: started, and as many waiting.
    std::uint32_t client_questions_max() const noexcept { return in_flight_max + in_flight_max / 2; }
    std::uint64_t client_bytes_max() const noexcept {
      return std::max(limits::client_picture_bytes_max, picture_bytes_max);
    }
  } limits;

  struct timeouts_section { ///< milliseconds; what must hold between them: runtime/cluster/spec_rules.cpp
    std::uint32_t heartbeat_ms = 200;
    std::uint32_t suspect_ms = 1000;
    std::uint32_t kill_ms = 2000;
    std::uint32_t drain_ms = 5000;
    std::uint32_t progress_ms = 4000;   ///< a thread that computes and completes nothing for so long is wedged
    std::uint32_t supervisor_ms = 8000; ///< a silent supervisor is given up
    std::uint32_t start_ms = 60'000;    ///< from launch to ready
    std::uint32_t room_ms = 30'000;     ///< from reserve to arrived (C25)
    std::uint32_t transfer_ms = 10'000;
    std::uint32_t collective_ms = 4000; ///< the longest that a member may let the others wait
    std::uint32_t request_ms = 120'000; ///< from the first frame of a question to its end
  } timeouts;

  struct lanes_section {
    control_lane control = control_lane::automatic;
    bulk_lane bulk = bulk_lane::automatic;
    std::string fabric_provider = "tcp";
    std::string interface = "lo";
    std::uint16_t tcp_port = 0; ///< first port; rank r listens on tcp_port + r; 0: any free port
  } lanes;

  struct restart_section {                      ///< what becomes of a cell that failed
    std::array<restart_policy, roles_max> of{}; ///< by number of the role; only for roles that may be restarted
    std::uint32_t intensity = 3;
    std::uint32_t window_s = 60;
  } restart;

  struct http_section {                    ///< the front's door; only `troupe up` opens it
    std::string listen = "127.0.0.1:8000"; ///< a numeric address and a port, 0 for any; empty: no door
    std::string models;                    ///< further names of the model, divided by commas
    std::string key_file;                  ///< one key a line; needed beyond loopback
    std::string certificate_file;          ///< PEM, with `private_key_file`
    std::string private_key_file;
    std::string origins; ///< of pages in browsers that may ask, divided by commas; "*": any
    std::uint32_t connections_max = 1024;
    std::uint64_t body_bytes_max = 64ull << 20;
  } http;

  /// Of programs (`program::settings`), as they were written: "stream.frames_max". `program::setting` reads them.
  std::map<std::string, std::uint64_t> settings;

  bool drills = false;
};

} // namespace troupe::protocols
