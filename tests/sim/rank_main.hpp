#pragma once

#include "process.hpp"

namespace troupe::sim {

/// The main thread of a rank.
class rank_main {
public:
  explicit rank_main(process& rank) : rank_(rank) {}
  void on_peer_gone(protocols::rank_id, protocols::generation, protocols::failure) {}

private:
  process& rank_;
};

} // namespace troupe::sim
