#pragma once

#include <map>
#include <memory>

#include "actors/rank_program.hpp"
#include "actors/serve/admission_table.hpp"
#include "actors/serve/cell_steps.hpp"
#include "actors/serve/door/chat_door.hpp"
#include "actors/serve/executor_actor.hpp"
#include "actors/serve/serve_routing.hpp"
#include "gpu/models/model.hpp"

namespace troupe::actors {

/// One rank of `serve`: its shards of the model, an executor for each cell, the actors of its roles.
/// Contract: B26, G1, G2, G4, G13, I23, K11.
class serve_rank final : public rank_program {
public:
  serve_rank(rank_context& rank, rank_services& services);

  std::vector<wanted_region> regions() const override;
  protocols::result<std::vector<std::pair<std::string, std::uint64_t>>> weights() const override;
  fabric::transfer_events transfer_events() override { return transfer_events_of(rank_); }
  protocols::result<void> accept_frame(const protocols::frame_view& frame) override {
    return actors::accept_frame(rank_, frame);
  }
  protocols::result<std::vector<protocols::parity_fact>> facts() override;
  protocols::result<void> load(protocols::time_point deadline) override;
  protocols::result<void> warm() override;
  void serve() override;
  void drain() override;
  void lose(const protocols::lost& news) override;
  void writers_gone(const std::set<protocols::rank_id>& ranks, bool bytes_may_arrive) override;
  void recover(const protocols::recovered& news) override;
  protocols::result<void> accept_client_frame(fabric::link_queues::key client,
                                              const protocols::frame_view& frame) override;
  void client_gone(fabric::link_queues::key client) override;
  std::pair<protocols::message_type, std::vector<std::byte>> refusal(const protocols::failure& why) const override;
  std::vector<door::route> routes(door::door& at) override;
  bool has_routes() const override { return true; }
  void stop() override;

private:
  struct cell_parts {
    protocols::cell_id cell;
    admission_table board;
    std::shared_ptr<cell_steps> steps; ///< the main thread's until the executor runs
    caf::actor executor;
  };

  const protocols::cell_plan* cell_here(protocols::role_kind role) const;
  std::optional<protocols::parity_fact> capture_fact() const;
  std::optional<protocols::parity_fact> numerics_fact() const;
  protocols::result<std::shared_ptr<cell_steps>>
  make_steps(const protocols::cell_plan& cell, const admission_table& board, protocols::time_point deadline);
  protocols::result<void> give_model(const protocols::cell_plan& cell, gpu::step_runner::parts& runs);
  protocols::result<void> start_front();
  void start_cells();
  executor_actor::token_sink token_sink();

  rank_context& rank_;
  rank_services& services_;
  service_state service_;
  std::unique_ptr<chat_door> chat_; ///< null: no door; outlives the front's actor
  std::unique_ptr<gpu::models::model_folder> folder_;
  std::map<protocols::role_kind, std::unique_ptr<cell_parts>> cells_;
  std::vector<std::byte> token_bytes_; ///< the executor's
};

std::unique_ptr<rank_program> make_serve_rank(rank_context& rank, rank_services& services);

} // namespace troupe::actors
