#pragma once

#include <vector>

#include "fabric/transfers/transfer.hpp"
#include "protocols/serve/serve_program.hpp"
#include "protocols/transfers/lease.hpp"
#include "tests/sim/process.hpp"

/// One-sided writes. Whether a write begins, goes on and how it ends is judged by the product's own functions
/// (`check_write`, `write_course`); when its bytes land is drawn.
namespace troupe::sim {

struct sim_write {
  protocols::transfer_kind kind{};
  protocols::room_id room;
  std::uint32_t part = 0;
  protocols::rank_id to;
  area source{};
  area target{};
  std::vector<fabric::write_piece> pieces;
  protocols::lease lease;
  protocols::time_point deadline; ///< on the writer's clock
};

/// Takes the write or refuses it at once, as `transfer_engine::post`; once taken, `serve_node::written` follows.
protocols::result<void> post(process& from, sim_write what);
/// `from` may write the peer's memory from now on.
void attach(process& from, process& peer);
/// The peer has ended: what is on its way fails.
void let_go(process& from, protocols::rank_id peer, const protocols::failure& cause);

} // namespace troupe::sim
