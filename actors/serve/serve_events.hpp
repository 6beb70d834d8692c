#pragma once

#include <memory>
#include <vector>

#include "actors/envelope.hpp"
#include "fabric/transfers/device_memory.hpp"
#include "protocols/serve/encode_machine.hpp"
#include "protocols/serve/serve_message.hpp"
#include "protocols/serve/step_machine.hpp"

/// What the actors of one rank of `serve` say to each other beside messages.
namespace troupe::actors {

// What a step of the cell tells the role's actor in its middle; what it brings, `step_machine` tells.
struct encoded {
  protocols::room_id room;
  std::shared_ptr<const fabric::device_event> ready; ///< of the rows; none: they are there
};
struct prefilled { ///< on every rank of the cell
  protocols::request_id request;
  protocols::room_id kv_room;
  protocols::cell_id decode_cell;
  std::vector<protocols::block_index> blocks;
  std::shared_ptr<const fabric::device_event> ready; ///< of keys and values; none: they are there
};

} // namespace troupe::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::encoded)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::prefilled)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::protocols::step_machine::voted)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::protocols::step_machine::tower_ended)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::protocols::step_machine::first_token)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::protocols::step_machine::left_batch)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::protocols::step_machine::given_up)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::protocols::room_vote)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::protocols::encode_machine::run_tower)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::protocols::prefill_leader_machine::run_prefill)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::protocols::prefill_leader_machine::stop_prefill)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::protocols::decode_leader_machine::join_batch)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::protocols::decode_leader_machine::leave_batch)
